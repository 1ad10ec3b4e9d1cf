"""Paths that cannot be written or followed, and files that are wrong: refused in one line, before work and network."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Outcome, TinySet
from r2gengpt.errors import InputError
from r2gengpt.files import check_model_directory, check_writable, check_writable_file, open_regular
from test_cli_bad_input import Training, refused, training

__all__ = ["training"]  # a fixture
Run = Callable[[list[str]], Outcome]
LONG = "a" * 250
"""A name that the system takes, but not with what is put before and behind it while a file is written."""


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file" / "out"


def behind_a_link(folder: Path) -> Path:
    (folder / "gone").symlink_to(folder / "nothing")
    return folder / "gone" / "out"


def behind_a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / "out"


UNWRITABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "below a file": (below_a_file, "is no directory"),
    "behind a link to nothing": (behind_a_link, "is a link that leads nowhere"),
    "behind a loop of links": (behind_a_loop, "is a link that leads nowhere"),
    "a name too long": (lambda folder: folder / LONG, "File name too long"),
    "a name too long after others": (lambda folder: folder / "new" / LONG, "File name too long"),
    "a path too long": (lambda folder: folder.joinpath(*["abcdefgh"] * 600), "File name too long"),
    "where nothing can be made": (lambda folder: Path("/proc/no/such/out"), "/proc/no/such/out: "),
}
WRITERS: dict[str, list[str]] = {
    "export": ["--model", "{checkpoint}"],
    "quantize": ["--lm_model", "no/model", "--quantization", "int8"],
    "convert": ["no.pth"],
    "prepare iu_xray": ["--reports", "no.tgz"],
    "prepare mimic_cxr": ["--release", "no"],
    "prepare films": ["no.csv", "--images", "no"],
    "prepare synthetic": [],
    "prepare verdicts": ["--verdicts", "no.db", "--films", "no", "--salt_file", "no"],
    "generate": ["{image}", "--model", "no-model"],
    "test": ["--model", "{checkpoint}", "--annotation", "no.json"],
    "review": ["--verdicts", "no.db"],
    "audit": ["--model", "no-model", "--annotation", "no.json", "--base_dir", "no"],
    "dicomweb": ["--url", "http://127.0.0.1:1/none", "--study", "1.2", "--no_push"],
    "batch": ["--input", "no", "--delta", "{checkpoint}"],
}
NEEDED = {"dicomweb": "dicomweb_client", "batch": "ray"}


@pytest.mark.parametrize("kind", UNWRITABLE)
@pytest.mark.parametrize("command", WRITERS)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    command: str, kind: str, run_cli: Run, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    """Whatever else the commands would have found wrong lies behind it: no model, no data."""
    if command in NEEDED:
        pytest.importorskip(NEEDED[command])
    make, reason = UNWRITABLE[kind]
    output = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    places = {"checkpoint": tiny_checkpoint, "image": tiny_set.base_dir / "test0_0.png"}
    words = [word.format_map(places) for word in WRITERS[command]]
    outcome = run_cli([*command.split(), *words, "--output", str(output)])
    refused(outcome, command.split()[0], f"--output {output}", reason)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_other_places_to_write_to_are_looked_at_first_too(
    kind: str, run_cli: Run, training: Training, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(UNWRITABLE[kind][0](tmp_path))
    image = str(tiny_set.base_dir / "test0_0.png")
    refused(run_cli(["generate", image, "--model", "no", "--evidence", place]), "generate", f"--evidence {place}")
    outcome = run_cli([*training.argv, "--savedmodel_path", place])
    refused(outcome, "train", f"--savedmodel_path {place}")
    monkeypatch.setenv("R2GENGPT_CACHE", f"{place}{'a' * 10}")
    refused(run_cli(["pull", "embedded"]), "pull", place, "R2GENGPT_CACHE")


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_name_is_not_the_directory_that_one_stands_in(
    given: str, run_cli: Run, training: Training, tiny_set: TinySet, tiny_checkpoint: Path
) -> None:
    image = str(tiny_set.base_dir / "test0_0.png")
    for argv in (
        ["generate", image, "--model", "no", "--evidence", given],
        ["test", "--model", str(tiny_checkpoint), "--output", given],
        [*training.argv, "--savedmodel_path", given],
    ):
        refused(run_cli(argv), argv[0], f"{argv[-2]} is empty")


@pytest.mark.parametrize(
    ("command", "name"),
    [("score", "predictions"), ("train", "savedmodel_path"), ("test", "ckpt_file"), ("batch", "input")],
)
def test_a_path_of_a_config_file_that_holds_a_zero_byte_is_refused(
    command: str, name: str, run_cli: Run, tmp_path: Path
) -> None:
    (tmp_path / "c.json").write_text(json.dumps({name: "a\0b"}))
    refused(run_cli([command, "--config", str(tmp_path / "c.json")]), command, "holds a zero byte")


def test_a_link_to_nothing_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(InputError, match="link is a link that leads nowhere"):
        check_writable(tmp_path / "link", "output")
    check_writable_file(tmp_path / "link", "output")  # a file is renamed over it


def test_a_file_is_not_written_over_a_directory_or_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "is a directory"),
        (tmp_path / "pipe", "no regular file"),
        (Path(os.devnull), "no "),
    ):
        with pytest.raises(InputError, match=words):
            check_writable_file(path, "output")
    check_writable_file(tmp_path / "new" / "file", "output")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_model_is_not_written_below_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"M\xfcller")
    check_writable(odd, "output")
    with pytest.raises(InputError, match="is not UTF-8"):
        check_model_directory(odd / "model", "output")


def test_training_reads_the_annotation_before_it_asks_for_a_model(
    run_cli: Run, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("r2gengpt.training.checked.settled", lambda name, where: asked.append(name))
    outcome = run_cli([*training.argv, "--lm_model", "some/model", "--annotation", str(tmp_path / "no.json")])
    refused(outcome, "train", f"--annotation {tmp_path / 'no.json'}: No such file")
    outcome = run_cli([*training.argv, "--lm_model", "some/model", "--base_dir", str(tmp_path)])
    refused(outcome, "train", "--base_dir: no image file")
    assert asked == []


def test_testing_reads_the_annotation_before_it_loads_a_model(
    run_cli: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("r2gengpt.reporter.loaded", lambda located: asked.append(located))
    argv = ["test", "--model", str(tiny_checkpoint), "--output", str(tmp_path / "out")]
    refused(run_cli([*argv, "--annotation", str(tmp_path / "no.json")]), "test", "No such file")
    assert asked == []


@pytest.mark.parametrize("name", ["a" * 300, "loop"])
def test_a_path_that_nobody_can_follow_is_refused_in_one_line(name: str, run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    path = str(tmp_path / name)
    for argv in (
        ["generate", path],
        ["score", "--predictions", path],
        ["compare", path, path],
        ["test", "--model", path],
        ["prepare", "mimic_cxr", "--release", path, "--output", str(tmp_path / "a.json")],
        ["quantize", "--lm_model", path, "--quantization", "int8", "--output", str(tmp_path / "q")],
    ):
        refused(run_cli(argv), argv[0], path)


def test_a_full_disk_ends_a_command_in_one_line(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr("r2gengpt.cli.commands.score.run", full)
    outcome = run_cli(["score"])
    assert (outcome.code, outcome.stderr) == (1, "r2gengpt score: /some/file: No space left on device\n")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"x"
    for path in (tmp_path / "pipe", tmp_path / "link", Path(os.devnull), tmp_path):
        with pytest.raises(OSError, match="is no regular file"):
            open_regular(path)
