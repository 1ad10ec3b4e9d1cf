"""Names of files that are not UTF-8, and streams that are not: every command goes on, and what it writes is read."""

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch_parts import ORIGIN, BytePixels, StandIn, archive, run_stand_in
from conftest import Outcome
from r2gengpt.batch import driver as driver_room
from r2gengpt.batch.listing import read_listing
from r2gengpt.batch.plan import settled_plan
from r2gengpt.batch.shards import decoded
from r2gengpt.batch.workers import decode_study
from r2gengpt.cli.commands.generate import deliver
from r2gengpt.cli.console import OneLine, take_any_text
from r2gengpt.cli.main import COMMANDS, run
from r2gengpt.confidence.maps import Evidence
from r2gengpt.config import ModelConfig
from r2gengpt.films.film import Film, FilmStudy
from r2gengpt.report import Report, written_json
from r2gengpt.testing import noise_image
from r2gengpt.text.html import escaped
from r2gengpt.text.written import (
    NOTICE,
    as_written,
    in_short,
    json_text,
    named,
    noted,
    noted_json,
    sign,
    utf8,
    with_note,
    with_notice,
)
from r2gengpt.training.callbacks import model_card
from test_batch_plan import without_ray

ODD = os.fsdecode(b"M\xfcller")
SHOWN = r"M\xfcller"
"""A name of a file system in Latin-1, and what stands for it in text."""
Run = Callable[..., Outcome]


def test_json_holds_no_lone_surrogate_and_reads_back_as_shown() -> None:
    value = {ODD: [ODD, {"a": f"≥ {ODD}\\ud800 \ud800 😀"}]}
    for ascii_only in (True, False):
        text = json_text(value, ascii_only=ascii_only)
        assert text.isascii() is ascii_only
        assert json.loads(text.encode()) == {SHOWN: [SHOWN, {"a": f"≥ {SHOWN}\\ud800 \\ud800 😀"}]}


def test_json_keeps_the_order_of_names_and_refuses_what_is_no_number() -> None:
    assert json_text({"b": 1, "a": 2}) == '{"b": 1, "a": 2}'
    with pytest.raises(ValueError, match="JSON"):
        json_text({"a": float("nan")})


@pytest.mark.parametrize(
    ("character", "shown"),
    [("\udcff", r"\xff"), ("\udc7f", r"\udc7f"), ("\uffff", r"\uffff"), ("\U00010000", r"\U00010000")],
)
def test_a_sign_that_is_not_written_is_shown_by_its_number(character: str, shown: str) -> None:
    assert sign(character) == shown


def test_bytes_of_a_name_are_shown_and_other_lone_surrogates_left() -> None:
    assert named(f"{ODD} \ud800") == f"{SHOWN} \ud800"


def test_a_note_stands_below_the_notice_where_there_is_one() -> None:
    assert with_notice("Clear.") == f"{NOTICE}\n\nClear.\n"
    assert with_notice("Clear.", "Upside down.") == f"{NOTICE}\nUpside down.\n\nClear.\n"
    assert (noted(""), noted("Dark.")) == (NOTICE, f"{NOTICE}. Dark.")
    assert (noted_json(""), noted_json("Dark.")) == ({"notice": NOTICE}, {"notice": NOTICE, "note": "Dark."})
    assert (with_note("Clear.", ""), with_note("Clear.", "Dark.")) == ("Clear.", "Dark.\n\nClear.")


def test_of_many_names_five_are_told_and_how_many_more_there_are() -> None:
    assert in_short("abcde") == "a, b, c, d, e"
    assert in_short("abcdef") == "a, b, c, d, e and 1 more"
    assert in_short("abcdef", most=2) == "a, b and 4 more"


class NamesFilms:
    """What wrote a report, as far as the report's JSON asks it."""

    def explain(self, report: Report) -> Evidence:
        raise NotImplementedError

    def record(self, report: Report) -> dict[str, Any]:
        return written_json(report)

    def document(self, report: Report, form: str) -> bytes:
        raise NotImplementedError


def test_the_json_of_a_report_holds_no_lone_surrogate() -> None:
    films = FilmStudy((Film(ODD, noise_image(0)),))
    text = Report("1", "Clear.", study=films, reporter=NamesFilms()).to_json()
    assert json.loads(text.encode())["images"] == [SHOWN]


def test_json_of_good_texts_is_what_the_library_writes() -> None:
    value = {"a": 'Größe ≥ 1\n\t"\\ 😀 \u2028', "b": [1, 2.5, None, True]}
    assert json_text(value) == json.dumps(value, ensure_ascii=False)
    assert json_text(value, indent=1, ascii_only=True, sort_keys=True) == json.dumps(value, indent=1, sort_keys=True)
    assert as_written({"a": (1, 2)}) == {"a": [1, 2]}


def test_only_one_place_writes_json_with_other_letters_than_ascii() -> None:
    """`json.dumps(…, ensure_ascii=False)` gives text that cannot be written where a name is not UTF-8."""
    source = Path(driver_room.__file__).parents[1]
    users = {path.name for path in source.rglob("*.py") if "ensure_ascii=False" in path.read_text(encoding="utf-8")}
    assert users == {
        "written.py",
        "annotation.py",  # what is read back by its names; it refuses what is not UTF-8
        "prompt.py",  # a part of a Jinja template
    }


def test_a_folder_of_odd_names_is_planned_and_its_films_are_opened_by_their_own(tmp_path: Path) -> None:
    source = archive(tmp_path / ODD, 2)
    (source / "study00001").rename(source / ODD)
    (source / f"{ODD}.txt").write_text("no image")
    for _ in range(2):  # begun, and gone on with
        listing = read_listing(source, None, "all")
        plan = settled_plan(_made(tmp_path / "out"), listing, {"shard_size": 4, "input": str(source)})
        studies = plan.shard(0).studies
        assert [study.id for study in studies] == [SHOWN, "study00000"]
        assert decode_study(listing.root, studies[0], BytePixels()).failure is None
    for name in ("plan.json", "listing.jsonl", "left_out.jsonl"):
        (tmp_path / "out" / name).read_bytes().decode()
    left_out = json.loads((tmp_path / "out" / "left_out.jsonl").read_text())
    assert left_out == {"path": f"{SHOWN}.txt", "why": "no image"}
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["settings"]["root"].endswith(SHOWN)


def _made(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_manifest_and_page_of_odd_names_are_readable(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 3, bad=(2,))
    for number in (1, 2):
        (source / f"study0000{number}").rename(source / f"{ODD}{number}")
    for _ in range(2):
        run_stand_in(source, tmp_path / ODD / "out", make=partial(OddOrigin), form=form)
    page = (tmp_path / ODD / "out" / "summary.html").read_bytes().decode()
    assert f"{SHOWN}2/0.png: is no film" in page
    manifest = json.loads((tmp_path / ODD / "out" / "manifest.json").read_bytes())
    assert manifest["origin"]["model"] == SHOWN
    (shard,) = (tmp_path / ODD / "out" / "shards").iterdir()
    rows = list(decoded(shard.read_bytes(), form))
    assert [row["id"] for row in rows] == [f"{SHOWN}1", f"{SHOWN}2", "study00000"]
    assert rows[0]["provenance"]["inputs"][0]["path"] == f"{SHOWN}1/0.png"
    assert rows[1]["error"]["message"] == f"image {SHOWN}2/0.png: is no film"


class OddOrigin(StandIn):
    """A writer whose model has an odd name."""

    def __post_init__(self) -> None:
        self.origin = {**ORIGIN, "model": ODD}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_can_be_printed_in_any_encoding(
    command: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding, write_through=True))
    with contextlib.suppress(SystemExit):  # as argparse ends
        run(command, ["--help"])
    assert b"usage: r2gengpt" in printed.getvalue()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_takes_signs_that_its_encoding_has_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    take_any_text()
    getattr(sys, name).write(f"Größe ≥ 1 😀 {ODD}")
    assert written.getvalue().decode("cp1252") == rf"Größe \u2265 1 \U0001f600 {SHOWN}"


def test_a_report_is_printed_whatever_the_encoding_and_a_document_in_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252"))
    take_any_text()
    deliver("Größe ≥ 1\n", None)
    deliver("Größe ≥ 1".encode(), None)
    assert printed.getvalue() == "Größe \\u2265 1\n".encode("cp1252") + "Größe ≥ 1".encode()


def test_a_log_line_shows_an_odd_name() -> None:
    record = logging.LogRecord("r2gengpt", logging.INFO, "", 0, "%s: left out", (ODD,), None)
    assert OneLine("%(message)s").format(record) == f"{SHOWN}: left out"


def test_an_odd_name_in_a_refusal_is_shown(run_cli: Run, tmp_path: Path) -> None:
    outcome = run_cli(["generate", str(tmp_path / ODD)])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == f"r2gengpt generate: image {tmp_path / SHOWN}: No such file or directory\n"


def test_a_library_that_cannot_take_an_odd_name_is_a_refusal_in_one_line(
    run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def library(*_: object, **__: object) -> None:
        str(tmp_path / ODD).encode()

    monkeypatch.setattr("r2gengpt.cli.commands.score.run", library)
    outcome = run_cli(["score"])
    assert outcome.code == 2
    (line,) = outcome.stderr.splitlines()
    assert f"{SHOWN}: is not UTF-8" in line


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_the_program_itself_ends_with_one_line_in_any_locale(
    environment: dict[str, str], run_cli_process: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / ODD).write_text("id,report\n1,a,b\n")
    outcome = run_cli_process(["score", "--predictions", str(tmp_path / ODD)], environment)
    assert (outcome.code, outcome.stdout) == (2, "")
    (line,) = outcome.stderr.splitlines()
    assert f"{SHOWN}: line 2: has more fields than the header" in line


def test_evidence_of_an_odd_name_is_written(run_cli: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    noise_image(1).save(tmp_path / f"{ODD}.png")
    argv = ["generate", str(tmp_path / f"{ODD}.png"), "--model", str(tiny_checkpoint), "--accelerator", "cpu"]
    outcome = run_cli([*argv, "--evidence", str(tmp_path / ODD), "--format", "json"])
    assert outcome.code == 0, outcome.stderr
    images = [str(tmp_path / f"{SHOWN}.png")]
    assert json.loads(outcome.stdout)["images"] == images
    assert json.loads((tmp_path / ODD / "evidence.json").read_bytes().decode())["images"] == images


def test_a_model_card_and_a_page_name_what_is_not_utf8(tmp_path: Path) -> None:
    assert escaped(f"<{ODD}>") == f"&lt;{SHOWN}&gt;"
    card = model_card(ModelConfig(lm_model=ODD, vision_model="v"), "plain", {}, annotation=ODD)
    assert f"language model: `{SHOWN}`" in utf8(card).decode()


class NoScores:
    """Scores of nothing, however their settings are spelt."""

    def spelt(self, spell: object) -> "NoScores":
        return self


def test_a_command_without_a_stdout_ends_as_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gengpt.cli.commands.score.run", lambda config: NoScores())
    monkeypatch.setattr("r2gengpt.metrics.summary.terminal_text", lambda scores, details: "")
    monkeypatch.setattr(sys, "stdout", None)
    assert run("score", []) == 0
