"""What films show, and why a report needs review, in each form of a report but documents; nothing without findings."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from conftest import Outcome, TinySet
from film_parts import AS_JSON, BELOW, FINDINGS, LEFT_OUT, REASON, REPORT
from r2gengpt.batch.shards import BatchRow, decoded, encoded, json_lines
from r2gengpt.confidence.review import text_of
from r2gengpt.evaluation.predictions import read_predictions, write_predictions
from r2gengpt.report import Finding, Report, chance, film_lines
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import LIKELY, UNLIKELY
from r2gengpt.text.written import NOTICE
from serving_parts import client_of, film, message, upload

PLAIN = replace(
    REPORT,
    findings=(),
    review=(),
    sentences=tuple(replace(one, needs_review=False, reason="", source="") for one in REPORT.sentences),
)
"""The same report by a model without a head."""
MARKED = "The heart is normal. [needs review] No pleural effusion."
Run = Callable[[list[str]], Outcome]


@pytest.fixture
def with_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model writes REPORT."""
    monkeypatch.setattr(Reporter, "judged", lambda self, report, facts=(): replace(REPORT, id=report.id))


def test_the_text_has_marks_and_below_it_what_the_film_shows_and_what_needs_review() -> None:
    assert text_of(REPORT) == "\n".join([MARKED, "", *BELOW])
    assert text_of(PLAIN) == PLAIN.text


def test_where_nothing_is_likely_the_text_says_so() -> None:
    nothing = Report("1", "Clear.", findings=(Finding("Edema", 0.02, (0.0, 0.1), UNLIKELY),))
    assert film_lines(nothing) == ("Film shows: nothing that is likely or possible",)


def test_a_chance_is_never_shown_as_certain() -> None:
    assert [chance(p) for p in (0.0, 0.0049, 0.005001, 0.5, 0.99, 0.9951, 1.0)] == [
        "<.01", "<.01", ".01", ".50", ".99", ">.99", ">.99",
    ]  # fmt: skip


def test_a_normal_film_is_named_so_that_it_reads_one_way() -> None:
    normal = Report("1", "Clear.", findings=(Finding("No Finding", 0.97, (0.9, 0.99), LIKELY),))
    assert film_lines(normal) == ("Film shows: normal film likely (.97)",)


def test_a_prediction_holds_findings_and_reads_back_as_before(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.jsonl", [REPORT])
    record = json.loads((tmp_path / "p.jsonl").read_text(encoding="utf-8"))
    assert (record["findings"], record["review"]) == (AS_JSON, [LEFT_OUT])
    assert [(one.get("reason"), one.get("source")) for one in record["sentences"]] == [
        (None, None),
        (REASON, "train-17"),
    ]
    assert read_predictions(tmp_path / "p.jsonl") == {"study": REPORT.text}
    assert list(PLAIN.to_prediction()) == [
        "id", "prediction", "reference", "tokens", "logprob", "finish", "sentences",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_of_a_bulk_run_hold_findings_in_both_formats(form: str) -> None:
    rows = [BatchRow(name, made, (), {}) for name, made in (("a", REPORT), ("b", PLAIN), ("c", None))]
    first, second, third = decoded(encoded(json_lines(rows), form), form)
    assert (first["findings"], first["review"]) == (AS_JSON, [LEFT_OUT])
    assert (first["sentences"][1]["reason"], first["sentences"][1]["source"]) == (REASON, "train-17")
    for row in (second, third):
        assert (row.get("findings"), row.get("review")) == (None, None)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("made", [PLAIN, None])
def test_rows_of_a_bulk_run_without_findings_have_the_columns_that_they_had(form: str, made: Report | None) -> None:
    (row,) = decoded(encoded(json_lines([BatchRow("a", made, (), {})]), form), form)
    assert list(row) == [
        "id", "note", "report", "confidence", "tokens", "logprob", "finish", "sentences", "provenance", "error",
    ]  # fmt: skip
    assert all(len(sentence) == 6 for sentence in row["sentences"])


@pytest.mark.parametrize("made", [replace(PLAIN, review=(LEFT_OUT,)), replace(PLAIN, sentences=REPORT.sentences)])
def test_a_parquet_shard_keeps_reviews_and_sources_without_findings(made: Report) -> None:
    (row,) = decoded(encoded(json_lines([BatchRow("a", made, (), {})]), "parquet"), "parquet")
    assert (row["review"] or []) == list(made.review)
    assert [one["source"] or "" for one in row["sentences"]] == [one.source for one in made.sentences]


# ------------------------------------------------------------------ generate


@pytest.mark.usefixtures("with_head")
def test_generate_prints_findings_below_the_report_and_in_json(
    tiny_checkpoint: Path, tiny_set: TinySet, run_cli: Run, tmp_path: Path
) -> None:
    words = ["generate", str(tiny_set.base_dir / "train0_0.png"), "--model", str(tiny_checkpoint)]
    assert run_cli(words).stdout == "\n".join([MARKED, "", *BELOW, ""])
    record = json.loads(run_cli([*words, "--format", "json"]).stdout)
    assert (record["findings"], record["review"]) == (AS_JSON, [LEFT_OUT])
    assert list(record)[:6] == ["notice", "report", "tokens", "logprob", "finish", "sentences"]
    assert run_cli([*words, "--output", str(tmp_path / "t.txt")]).code == 0
    assert (tmp_path / "t.txt").read_text() == "\n".join([NOTICE, "", MARKED, "", *BELOW, ""])
    streamed = run_cli([*words, "--stream", "True"]).stdout
    assert streamed.endswith("\n".join(["", "", *BELOW, ""]))


def test_generate_without_a_head_prints_the_report_alone(
    tiny_checkpoint: Path, tiny_set: TinySet, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reporter, "judged", lambda self, report, facts=(): replace(PLAIN, id=report.id))
    words = ["generate", str(tiny_set.base_dir / "train0_0.png"), "--model", str(tiny_checkpoint)]
    assert run_cli(words).stdout == f"{PLAIN.text}\n"
    assert {"findings", "review"}.isdisjoint(json.loads(run_cli([*words, "--format", "json"]).stdout))


# ------------------------------------------------------------------ the server


@pytest.fixture
def client(served: Reporter, with_head: None) -> Iterator[TestClient]:
    with client_of(served) as (client, _):
        yield client


def events(text: str) -> list[Any]:
    blocks = [block.removeprefix("data: ") for block in text.strip().split("\n\n")]
    return [json.loads(block) for block in blocks if block != "[DONE]"]


def test_the_servers_json_has_findings_beside_the_text_which_keeps_its_name(client: TestClient) -> None:
    whole = client.post("/v1/reports", files=upload(film(1))).json()
    live = client.post("/v1/reports", files=upload(film(1)), headers={"Accept": "text/event-stream"}).text
    for record in (whole, events(live)[-1]):
        assert record["findings"] == REPORT.text
        assert (record["film_findings"], record["review"]) == (AS_JSON, [LEFT_OUT])
        assert (record["sentences"][1]["reason"], record["sentences"][1]["source"]) == (REASON, "train-17")


def test_the_servers_text_and_pdf_have_them_too(client: TestClient) -> None:
    text = client.post("/v1/reports", files=upload(film(1)), headers={"Accept": "text/plain"}).text
    assert text == "\n".join([NOTICE, "", MARKED, "", *BELOW, ""])
    pdf = client.post("/v1/reports", files=upload(film(1)), headers={"Accept": "application/pdf"}).content
    assert b"FINDINGS OF THE FILM \\(AI\\)" in pdf
    assert b"Pleural Effusion: likely \\(probability 0.91, 95 % interval 0.85 to 0.95\\)" in pdf
    assert b"Not assessed: Fracture" in pdf
    assert LEFT_OUT.replace("(", "\\(").replace(")", "\\)").encode() in pdf


def test_chats_have_findings_where_sentences_stand(client: TestClient) -> None:
    asked = {"model": "best", "messages": message(film(1))}
    whole = client.post("/v1/chat/completions", json=asked).json()
    last = events(client.post("/v1/chat/completions", json={**asked, "stream": True}).text)[-1]
    for answer in (whole, last):
        assert (answer["findings"], answer["review"]) == (AS_JSON, [LEFT_OUT])
        assert answer["sentences"][1]["reason"] == REASON


def test_without_a_head_the_server_has_no_such_key(served: Reporter) -> None:
    with client_of(served) as (client, _):
        record = client.post("/v1/reports", files=upload(film(1))).json()
        chat = client.post("/v1/chat/completions", json={"model": "best", "messages": message(film(1))}).json()
    assert {"film_findings", "review"}.isdisjoint(record)
    assert {"findings", "review"}.isdisjoint(chat)


def test_the_openapi_document_tells_of_findings(served: Reporter) -> None:
    with client_of(served) as (client, _):
        paths = client.get("/openapi.json").json()["paths"]
    told = paths["/v1/reports"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(AS_JSON[0]) == set(told["properties"]["film_findings"]["items"]["properties"])
    assert {"findings", "sentences", "review"} <= set(told["properties"])
    chat = paths["/v1/chat/completions"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert {"findings", "sentences", "review"} <= set(chat["properties"])


@pytest.mark.usefixtures("with_head")
def test_json_of_a_report_in_python_has_findings(tiny_checkpoint: Path, tiny_set: TinySet) -> None:
    import r2gengpt

    report = r2gengpt.load(str(tiny_checkpoint)).report([tiny_set.base_dir / "train0_0.png"])
    assert report.findings == FINDINGS
    assert json.loads(report.to_json())["findings"] == AS_JSON
