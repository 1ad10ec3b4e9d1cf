"""`generate --evidence` and `test --evidence`: which files they write, and what they refuse."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from conftest import Outcome, TinySet
from r2gengpt.errors import InputError
from r2gengpt.reporter import Reporter
from r2gengpt.settings import EvidenceConfig
from r2gengpt.testing import noise_image

Cli = Callable[[list[str]], Outcome]


@pytest.fixture
def views(tmp_path: Path) -> list[str]:
    for view in range(2):
        noise_image(view, 40 + 30 * view).save(tmp_path / f"view{view}.png")
    return [str(tmp_path / f"view{view}.png") for view in range(2)]


def test_generate_draws_each_sentence_over_each_view(
    run_cli: Cli, trained_squares: Path, views: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "maps"
    target.mkdir()
    noise_image(3).save(target / "sentence-9-view-1.png")  # of an earlier report
    command = ["generate", *views, "--model", str(trained_squares / "run" / "last"), "--evidence", str(target)]
    outcome = run_cli(command)
    assert outcome.code == 0, outcome.stderr
    record = json.loads((target / "evidence.json").read_text(encoding="utf-8"))
    assert record["report"] == outcome.stdout.strip()
    assert record["images"] == views
    assert (record["method"], record["grid"]) == ("occlusion", [4, 4])
    assert " ".join(sentence["text"] for sentence in record["sentences"]) == record["report"]
    names = {name for sentence in record["sentences"] for name in sentence["pictures"]}
    assert names == {f"sentence-{n + 1}-view-{v}.png" for n in range(len(record["sentences"])) for v in (1, 2)}
    assert {path.name for path in target.iterdir()} == {*names, "evidence.json"}
    for view, path in enumerate(views, start=1):
        with Image.open(target / f"sentence-1-view-{view}.png") as drawn, Image.open(path) as film:
            assert (drawn.format, drawn.size, drawn.mode) == ("PNG", film.size, "RGB")
    for sentence in record["sentences"]:
        assert len(sentence["map"]) == 16
        assert all(value == round(value, 4) for value in [*sentence["map"], sentence["drop_top"]])
        assert sentence["verdict"] in ("evidence", "no evidence")


def test_maps_that_cannot_be_made_lose_no_report(
    run_cli: Cli, trained_squares: Path, views: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise InputError("no map can be made")

    monkeypatch.setattr(Reporter, "explain", fails)
    command = ["generate", *views, "--model", str(trained_squares / "run" / "last")]
    outcome = run_cli([*command, "--evidence", str(tmp_path / "maps"), "--output", str(tmp_path / "report.txt")])
    assert (outcome.code, outcome.stderr.splitlines()[-1]) == (2, "r2gengpt generate: no map can be made")
    assert (tmp_path / "report.txt").read_text(encoding="utf-8").strip()


def test_the_evidence_of_a_report_is_the_same_each_time(
    run_cli: Cli, tiny_checkpoint: Path, views: list[str], tmp_path: Path
) -> None:
    texts = []
    for name in ("a", "b"):
        command = ["generate", *views, "--model", str(tiny_checkpoint), "--evidence", str(tmp_path / name)]
        assert run_cli([*command, "--evidence-method", "gradient"]).code == 0
        texts.append((tmp_path / name / "evidence.json").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["method"] == "gradient"


def test_a_test_writes_maps_of_the_chosen_studies_and_the_page_shows_them(
    run_cli: Cli, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    command = ["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / "out")]
    outcome = run_cli([*command, "--evidence", "True", "--evidence_studies", "2"])
    assert outcome.code == 0, outcome.stderr
    path = tmp_path / "out" / "evidence.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    written = {record["id"]: record for record in map(json.loads, lines)}
    assert len(records) == 2
    for record in records:
        assert record.keys() == {"id", "method", "grid", "sentences", "verdict"}
        texts = [sentence["text"] for sentence in record["sentences"]]
        assert texts == [sentence["text"] for sentence in written[record["id"]]["sentences"]]
        for sentence in record["sentences"]:
            assert sentence.keys() == {"text", "map", "drop_top", "drop_random", "verdict"}
            assert len(sentence["map"]) == record["grid"][0] * record["grid"][1]
    assert "data-grid=" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert run_cli(command).code == 0
    assert not path.exists()  # the maps of another run are not those of this one


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--evidence_method", "gradient"], "--evidence_method gradient: belongs to --evidence DIR"),
        (["--evidence", "{file}"], "is no directory"),
        (["--evidence", "{new}", "--evidence_method", "attention"], "attention"),
        (
            ["--evidence", "{new}", "--evidence_method", "gradient", "--quantization", "w8a8"],
            "--evidence_method gradient: w8a8 products have no gradient: use occlusion",
        ),
    ],
)
def test_generate_refuses_in_one_line(
    flags: list[str], words: str, run_cli: Cli, tiny_checkpoint: Path, views: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    flags = [flag.format(file=tmp_path / "file", new=tmp_path / "new") for flag in flags]
    outcome = run_cli(["generate", *views, "--model", str(tiny_checkpoint), *flags])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert words in outcome.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--evidence_studies", "3"], "--evidence_studies 3: belongs to --evidence True"),
        (["--evidence_method", "gradient"], "--evidence_method gradient: belongs to --evidence True"),
        (["--evidence", "True", "--evidence_studies", "0"], "--evidence_studies 0: must be at least 1"),
        (["--evidence", "True", "--evidence_method", "attention"], "choose from findings, occlusion, gradient"),
    ],
)
def test_test_refuses_in_one_line(flags: list[str], words: str, run_cli: Cli, tiny_checkpoint: Path) -> None:
    outcome = run_cli(["test", "--ckpt_file", str(tiny_checkpoint), *flags])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert words in outcome.stderr


def test_weights_in_bytes_can_be_occluded(
    run_cli: Cli, tiny_checkpoint: Path, views: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "maps"
    flags = ["--model", str(tiny_checkpoint), "--quantization", "w8a8", "--evidence", str(target)]
    outcome = run_cli(["generate", *views, *flags])
    assert outcome.code == 0, outcome.stderr
    assert json.loads((target / "evidence.json").read_text(encoding="utf-8"))["sentences"]


def test_each_setting_has_a_help_text() -> None:
    assert all(f.metadata["help"].strip() for f in fields(EvidenceConfig))


def test_a_whole_test_runs_on_stored_features_too(
    run_cli: Cli, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    found = []
    for name, cache in (("plain", []), ("cached", ["--feature_cache", str(tmp_path / "cache")])):
        command = ["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / name), "--evidence", "True"]
        assert run_cli([*command, *cache]).code == 0
        found.append((tmp_path / name / "evidence.jsonl").read_text(encoding="utf-8"))
    first, second = (json.loads(text.splitlines()[0]) for text in found)
    assert first["sentences"][0]["map"] == pytest.approx(second["sentences"][0]["map"], abs=2e-4)
    assert len(found[0].splitlines()) == 3
