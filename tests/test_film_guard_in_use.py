"""A model with a film guard refuses what shows no chest and tells its doubts, by every way to a report."""

import contextlib
import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import r2gengpt
from conftest import Outcome
from edge_parts import checkpoint_with_head
from r2gengpt.cli.choice import choice_of
from r2gengpt.confidence.film_guard import GUARD, NO_CHEST, FilmGuard, read_guard, write_guard
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.locate import ModelChoice
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.testing import noise_image
from serving_parts import client_of, film, upload

Run = Callable[[list[str]], Outcome]
REPORTS = "/v1/reports"
REFUSAL = "looks like no whole chest film ("


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a finding head, and films for a guard beside it."""
    directory = tmp_path_factory.mktemp("guarded")
    made = checkpoint_with_head(directory, "Llama-2", "vit")
    splits = {}
    for split, count, first in (("train", 12, 100), ("val", 8, 200)):
        rows = []
        for number in range(first, first + count):
            noise_image(number, 64).save(directory / f"{number}.png")
            rows.append({"id": str(number), "image_path": [f"{number}.png"], "report": "Clear.", "split": split})
        splits[split] = rows
    (directory / "annotation.json").write_text(json.dumps({**splits, "test": []}))
    return made


def prepare(checkpoint: Path, run_cli: Run, *flags: str) -> Outcome:
    where = checkpoint.parent
    words = ["--model", str(checkpoint), "--annotation", str(where / "annotation.json"), "--base_dir", str(where)]
    return run_cli(["prepare", "guard", *words, *flags])


@pytest.fixture
def guarded(checkpoint: Path, run_cli: Run) -> Path:
    """The checkpoint with a guard of its own films."""
    if not (checkpoint / GUARD).exists():
        assert prepare(checkpoint, run_cli).code == 0
    return checkpoint


@pytest.fixture
def strict(guarded: Path, tmp_path: Path) -> Path:
    """A copy whose guard takes no film for a chest film."""
    shutil.copytree(guarded, made := tmp_path / "strict")
    guard = read_guard(guarded, "model")
    assert guard is not None
    write_guard(made / GUARD, FilmGuard(replace(guard.subspace, limit=1e-7), guard.kinds))
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise_image(7, 64).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_prepare_writes_the_guard_beside_the_weights_and_the_same_each_time(checkpoint: Path, run_cli: Run) -> None:
    done = prepare(checkpoint, run_cli)
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == f"12 train, 8 val films: {checkpoint / GUARD}"
    assert "Loading weights" not in done.stderr  # no bar of a library
    first = (checkpoint / GUARD).read_bytes()
    other = checkpoint.parent / "other.npz"
    assert prepare(checkpoint, run_cli, "--output", str(other)).code == 0
    assert other.read_bytes() == first


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--films", "0"], "--films 0: must be at least 1"), (["--changed", "-1"], "--changed -1: must be at least 1"),
     (["--seed", "-1"], "--seed -1: must be at least 0"), (["--model", "nowhere"], "nowhere"),
     (["--annotation", "nowhere.json"], "nowhere.json")],
)  # fmt: skip
def test_prepare_refuses_in_one_line(checkpoint: Path, run_cli: Run, flags: list[str], words: str) -> None:
    done = prepare(checkpoint, run_cli, *flags)
    assert done.code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_exported_model_keeps_its_guard(guarded: Path, tmp_path: Path, run_cli: Run) -> None:
    done = run_cli(["export", "--model", str(guarded), "--output", str(tmp_path / "plain")])
    assert done.code == 0, done.stderr
    assert (tmp_path / "plain" / GUARD).read_bytes() == (guarded / GUARD).read_bytes()


def test_a_model_without_a_head_has_no_guard(tiny_checkpoint: Path, checkpoint: Path, run_cli: Run) -> None:
    done = prepare(checkpoint, run_cli, "--model", str(tiny_checkpoint))
    assert "has no finding head" in done.stderr


def test_generate_warns_of_what_shows_no_chest_or_refuses_it_without_force(
    strict: Path, picture: Path, run_cli: Run
) -> None:
    words = ["generate", str(picture), "--model", str(strict), "--max_new_tokens", "8"]
    warned = run_cli(words)
    assert warned.code == 0
    assert f"Needs review: film 1 {REFUSAL}" in warned.stdout
    words += ["--film_guard", "refuse"]
    refused = run_cli(words)
    assert refused.code == 2
    assert f"image {picture}: {REFUSAL}" in refused.stderr
    assert "(--force reads it all the same)" in refused.stderr
    assert refused.stdout == ""
    forced = run_cli([*words, "--force", "--format", "json"])
    assert forced.code == 0, forced.stderr
    record = json.loads(forced.stdout)
    assert [(one["film"], one["kind"]) for one in record["doubts"]] == [(1, NO_CHEST)]
    assert record["review"][0].startswith(f"film 1 {REFUSAL}")


def test_a_stream_and_findings_alone_refuse_too(strict: Path, picture: Path) -> None:
    reporter = r2gengpt.load(strict, max_new_tokens=8, film_guard="refuse")
    told: list[str] = []
    for ask in (lambda: reporter.report([picture], on_text=told.append), lambda: reporter.findings([picture])):
        with pytest.raises(InputError, match="looks like no whole chest film"):
            ask()
    assert told == []


def test_a_damaged_guard_ends_the_command_in_one_line(strict: Path, picture: Path, run_cli: Run) -> None:
    (strict / GUARD).write_bytes(b"none")
    done = run_cli(["generate", str(picture), "--model", str(strict)])
    assert done.code == 2
    assert f"{GUARD} is damaged" in done.stderr


def test_many_studies_are_not_held_up_by_one_that_shows_no_chest(strict: Path, picture: Path) -> None:
    reporter = r2gengpt.load(strict, max_new_tokens=8, runtime="torch")
    assert not isinstance(reporter, str)
    batch = reporter.batch(reporter.built.processor.pixels([noise_image(3, 64)]))  # type: ignore[union-attr]
    (report,) = reporter.predict([batch])  # type: ignore[union-attr]
    assert isinstance(report, Report)
    assert [doubt.kind for doubt in report.doubts] == [NO_CHEST]
    assert report.review[0].startswith("film 1 ")


def test_the_server_warns_unless_it_is_told_to_refuse(strict: Path) -> None:
    reporter = r2gengpt.load(strict, max_new_tokens=8, runtime="torch")
    assert isinstance(reporter, Reporter)
    with client_of(reporter) as (client, _):
        written = client.post(REPORTS, files=upload(film(3)))
        assert written.status_code == 200, written.text
        assert [one["kind"] for one in written.json()["doubts"]] == [NO_CHEST]


@pytest.mark.parametrize(
    ("command", "words"),
    [("listen", ["--stow", "http://127.0.0.1:9"]), ("worklist", ["--worklist", "http://127.0.0.1:9"]),
     ("dicomweb", ["--url", "http://127.0.0.1:9", "--study", "1.2.3"])],
)  # fmt: skip
def test_commands_that_nobody_watches_refuse(
    command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, guarded: Path
) -> None:
    module, chosen = importlib.import_module(f"r2gengpt.cli.commands.{command}"), []

    def choice(*given: Any, **named: Any) -> ModelChoice:
        chosen.append(choice_of(*given, **named))
        raise InputError("seen")

    monkeypatch.setattr(module, "choice_of", choice)
    with pytest.raises(InputError, match="seen"):
        module.main([*words, "--model", str(guarded)])
    assert [one.film_guard for one in chosen] == ["refuse"]


def test_the_server_asks_for_force_before_it_writes(strict: Path) -> None:
    reporter = r2gengpt.load(strict, max_new_tokens=8, runtime="torch", film_guard="refuse")
    assert isinstance(reporter, Reporter)
    with client_of(reporter) as (client, _):
        refused = client.post(REPORTS, files=upload(film(3)))
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("force_needed", "force")
        assert f"image images[0]: {REFUSAL}" in error["message"]
        streamed = client.post(REPORTS, files=upload(film(3)), headers={"accept": "text/event-stream"})
        assert streamed.status_code == 400, "an error before the first word has a status"
        written = client.post(REPORTS, files=upload(film(3)), data={"force": "true"})
        assert written.status_code == 200, written.text
        assert [one["kind"] for one in written.json()["doubts"]] == [NO_CHEST]


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_graphs_doubt_the_same_films_as_pytorch(
    guarded: Path, strict: Path, tmp_path: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2gengpt.confidence.looking.fast_arithmetic", lambda device: contextlib.nullcontext())
    pictures = [noise_image(1, 64), noise_image(2, 64).rotate(90, expand=True)]
    for number, (checkpoint, refused) in enumerate(((guarded, False), (strict, True))):
        edge = tmp_path / f"edge{number}"
        words = ["--model", str(checkpoint), "--output", str(edge), "--target", "openvino", "--weights", "float32"]
        assert run_cli(["export", *words]).code == 0
        graphs = r2gengpt.load(edge, max_new_tokens=8, film_guard="refuse")
        torch = r2gengpt.load(checkpoint, max_new_tokens=8, runtime="torch", dtype="float32")
        choice = DicomChoice(force=True)
        for some in (pictures, pictures[:1], pictures[1:]):
            found, wanted = graphs.report(some, choice=choice), torch.report(some, choice=choice)
            assert [(one.film, one.kind) for one in found.doubts] == [(one.film, one.kind) for one in wanted.doubts]
            assert bool(found.doubts) or not refused
        if refused:
            with pytest.raises(InputError, match="looks like no whole chest film"):
                graphs.report(pictures)
            with pytest.raises(InputError, match="looks like no whole chest film"):
                graphs.report(pictures, on_text=print)
