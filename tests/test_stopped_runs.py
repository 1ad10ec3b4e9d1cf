"""A training run that is stopped, cut off or started twice: one line tells what is saved, and nothing is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import Outcome, TinySet
from r2gengpt.errors import InputError, Stopped
from r2gengpt.testing import noise_image
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.run import train
from r2gengpt.training.states import find_state, locked
from test_resume import Killed, assert_same_end, resumable, run_until

CHILD = """
import os, signal, sys
from r2gengpt.cli import main as cli
from r2gengpt.training.module import R2GenGPTModule
step, batches = R2GenGPTModule.training_step, 0
def signalled(self, batch, number):
    global batches
    batches += 1
    if batches == 3:
        os.kill(os.getpid(), int(sys.argv[1]))
    return step(self, batch, number)
R2GenGPTModule.training_step = signalled
cli.main(sys.argv[2:])
"""


def train_flags(parts: Path, data: TinySet, directory: Path) -> list[str]:
    flags = {
        "vision_model": parts / "vision-swin", "lm_model": parts / "lm-stablelm", "annotation": data.annotation,
        "base_dir": data.base_dir, "dataset": "plain", "batch_size": 2, "max_epochs": 2, "precision": "32-true",
        "scorer_types": "val_loss", "weights": 1, "num_sanity_val_steps": 0, "every_n_train_steps": 1,
        "beam_size": 1, "max_new_tokens": 8, "savedmodel_path": directory,
    }  # fmt: skip
    return ["train", *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_130_and_a_line_on_what_is_saved(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", CHILD, str(int(number)), *train_flags(tiny_parts, tiny_set, tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    ended = Outcome(done.returncode, done.stdout, done.stderr)
    assert ended.code == 130, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last == (
        f"r2gengpt train: stopped: {tmp_path / 'run'} holds the state after step 2; the same command goes on from there"
    )
    assert "Traceback" not in ended.stderr


def stop_at(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a signal end the next run before its batch of that number."""
    step, count = R2GenGPTModule.training_step, 0

    def signalled(self: R2GenGPTModule, found: object, batch_idx: int) -> torch.Tensor:
        nonlocal count
        if count == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        count += 1
        return step(self, found, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(R2GenGPTModule, "training_step", signalled)


def test_a_run_stopped_by_a_signal_goes_on_to_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", every_n_train_steps=2), None, monkeypatch)
    settings = resumable(tiny_parts, tiny_set, tmp_path / "run", every_n_train_steps=2)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        with pytest.raises(Stopped, match="the state after step 4; the same command goes on from there"):
            train(settings)
    with monkeypatch.context() as patch:
        stop_at(0, patch)
        with pytest.raises(Stopped, match="the state that this run went on from"):
            train(settings)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_until(settings, None, monkeypatch)
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_a_run_stopped_before_its_first_state_begins_anew(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(1, monkeypatch)
    with pytest.raises(Stopped, match=r"before a state was saved .*: the same command begins anew"):
        train(resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=0))


def test_a_state_that_is_cut_off_is_named_and_the_one_before_it_taken(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", every_n_train_steps=1), None, monkeypatch)
    settings = resumable(tiny_parts, tiny_set, tmp_path / "run", every_n_train_steps=1)
    run_until(settings, 3, monkeypatch)
    newest = tmp_path / "run" / "resume.ckpt"
    newest.write_bytes(newest.read_bytes()[:-2000])
    assert run_until(settings, None, monkeypatch) == 6  # from the state after step 2 of 8
    assert [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()] == [
        f"{newest}: is cut off, skipped"
    ]
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_bytes_that_changed_within_a_state_are_found_by_their_checksum(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1)
    run_until(settings, 1, monkeypatch)
    newest = tmp_path / "resume.ckpt"
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 256):  # more than lies between two entries, which no checksum covers
        content[place] ^= 0xFF
    newest.write_bytes(content)
    with pytest.raises(InputError, match="no state to resume from is whole; add overwrite True"):
        train(settings)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", "of something else")


def folder(path: Path) -> None:
    path.mkdir()


def folder_of_archives(path: Path) -> None:
    path.mkdir()
    archive(path / "a.pt")


def folder_of_a_state(path: Path) -> None:
    path.mkdir()
    shutil.copy(path.with_name("resume.before.ckpt"), path / "a.pt")


def other_tensors(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path)


@pytest.mark.parametrize("kind", [archive, folder, folder_of_archives, other_tensors, folder_of_a_state])
def test_what_is_no_state_of_a_run_is_skipped_or_refused_in_one_line(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], None]
) -> None:
    settings = resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1)
    run_until(settings, 3, monkeypatch)
    (tmp_path / "resume.ckpt").unlink()
    kind(tmp_path / "resume.ckpt")
    if kind is folder_of_a_state:
        with pytest.raises(InputError, match=r"^savedmodel_path .*: resume\.ckpt there is no state of strategy auto"):
            train(settings)
        return
    run_until(settings, 1, monkeypatch)
    assert find_state(tmp_path) == tmp_path / "resume.ckpt"
    (tmp_path / "resume.ckpt").unlink()
    assert run_until(settings, None, monkeypatch) == 6  # from the state after step 2 of 8, which is still there


def test_two_runs_at_once_in_one_directory_are_refused(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    settings = resumable(tiny_parts, tiny_set, tmp_path / "run", overwrite=True)
    with locked(tmp_path / "run"), pytest.raises(InputError, match="another run is at work there"):
        train(settings)


def test_a_lock_goes_with_its_process_and_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()
        assert not (tmp_path / "run").exists()


def begun(parts: Path, data: TinySet, directory: Path, monkeypatch: pytest.MonkeyPatch) -> TinySet:
    """An unfinished run on a copy of the data, which the caller may change."""
    shutil.copytree(data.annotation.parent, directory / "set")
    copy = TinySet(directory / "set" / data.annotation.name, directory / "set" / data.base_dir.name)
    run_until(resumable(parts, copy, directory / "run", every_n_train_steps=1), 2, monkeypatch)
    return copy


def other_report(data: TinySet) -> None:
    content = json.loads(data.annotation.read_text())
    content["train"][1]["report"] += " No change."
    data.annotation.write_text(json.dumps(content))


def other_image(data: TinySet) -> None:
    path = data.base_dir / "train1_0.png"
    size = path.stat().st_size
    noise_image(999).save(path)
    assert abs(path.stat().st_size - size) < 200


def another_study(data: TinySet) -> None:
    content = json.loads(data.annotation.read_text())
    content["train"].append({**content["train"][0], "id": "more"})
    data.annotation.write_text(json.dumps(content))


def another_order(data: TinySet) -> None:
    content = json.loads(data.annotation.read_text())
    content["train"].reverse()
    data.annotation.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_report, "study train1 of split train has other texts"),
        (other_image, "study train1 of split train has other images"),
        (another_study, "study more of split train is new"),
        (another_order, "the studies of split train stand in another order"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unfinished_run_does_not_go_on_with_other_data(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object, words: str
) -> None:
    copy = begun(tiny_parts, tiny_set, tmp_path, monkeypatch)
    change(copy)  # type: ignore[operator]
    with pytest.raises(InputError, match=f"began with other data: {words}"):
        train(resumable(tiny_parts, copy, tmp_path / "run", every_n_train_steps=1))


def test_a_kill_between_two_states_leaves_one(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest has just become the one before it, and the next is not in its place yet."""
    run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", every_n_train_steps=1), None, monkeypatch)
    settings = resumable(tiny_parts, tiny_set, tmp_path / "run", every_n_train_steps=1)
    from r2gengpt.training import states

    place, calls = states.put_in_place, 0

    def killed_at_the_fifth(temporary: Path, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Killed
        place(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(states, "put_in_place", killed_at_the_fifth)
        with pytest.raises(Killed):
            train(settings)
    assert not (tmp_path / "run" / "resume.ckpt").exists()
    assert (tmp_path / "run" / "resume.before.ckpt").exists()
    run_until(settings, None, monkeypatch)
    assert_same_end(tmp_path / "run", tmp_path / "whole")
