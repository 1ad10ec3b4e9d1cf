"""The card that `test` and `audit` write: what a reviewer signs, and what is not told."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import r2gengpt
from conftest import Outcome
from r2gengpt.confidence.maps import Evidence, SentenceEvidence
from r2gengpt.data.study import Study
from r2gengpt.evaluation.card import card_parts, gallery, licence_in
from r2gengpt.evaluation.evidence import write_evidence
from r2gengpt.evaluation.page.card import write_card
from r2gengpt.evaluation.page.sentences import read_evidence
from r2gengpt.evaluation.predictions import write_predictions
from r2gengpt.report import Report
from report_pages import HOSTILE, Page
from test_audit import Scripted, audited, drawn, reads

__all__ = ["drawn"]
Cli = Callable[[list[str]], Outcome]
TITLES = [
    "Intended use", "Model", "Data and licences", "Findings", "Subgroups", "Grounding", "Calibration",
    "Gallery of failures", "Hashes", "Signature",
]  # fmt: skip


def lines_of(directory: Path, title: str, **about: str) -> tuple[str, ...]:
    return next(part.lines for part in card_parts(directory, about) if part.title == title)


def test_a_card_of_nothing_says_of_everything_that_it_is_not_told(tmp_path: Path) -> None:
    parts = card_parts(tmp_path, {})
    assert [part.title for part in parts] == TITLES
    for title in ("Findings", "Subgroups", "Grounding", "Calibration", "Gallery of failures", "Hashes"):
        assert any("not told" in line for line in lines_of(tmp_path, title)), title
    assert lines_of(tmp_path, "Signature")[0] == "Not signed."


def test_test_writes_a_card_of_its_scores(run_cli: Cli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    outcome = run_cli(["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path), "--shuffle_images"])
    assert outcome.code == 0, outcome.stderr
    text = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == TITLES
    page = Page((tmp_path / "card" / "index.html").read_text(encoding="utf-8"))
    scores = (tmp_path / "scores.json").read_bytes()
    for told in (f"scores.json: {hashlib.sha256(scores).hexdigest()}", "audit: not told", "by device: not told"):
        assert told in page.texts
        assert told in text
    assert "licence: that of the two models" in text
    provenance = json.loads(scores)["provenance"]
    assert provenance["model_sha256"] == r2gengpt.load(str(tiny_checkpoint)).origin.model_sha256
    assert f"- model: {provenance['model_sha256']}" in text
    gap = json.loads(scores)["grounding_gap"]["cider"]["value"]
    assert f"CIDEr-D, true films less shuffled ones: {gap:.2f}" in text
    shown = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(shown) == len(gallery(tmp_path, None)) > 0
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in shown)


def test_an_audit_beside_a_test_stands_on_the_same_card(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    areas = {"positive": 20, "negative": 20, "auc": {"value": 0.75, "ci95": [0.6, 0.9]}}
    group = {"n": 40, "observations": {"Pleural Effusion": areas}}
    head: dict[str, Any] = {"all": group, "by_source": {"drawn": group}, "by_age": {}, "by_view": {"PA": group},
                            "calibration": {"n": 40, "ece": {"value": 0.05}, "brier": {"value": 0.1}}}  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps({"metrics": {}, "findings": {"head": head}}))
    audited(Scripted(reads), drawn, tmp_path)
    text = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert "| Pleural Effusion | not told | 0.75 [0.60, 0.90] (20 of 40) | reads the film |" in text
    assert "The text reads the film for 2 of 2 findings" in text
    assert "finding head: expected calibration error 0.05, Brier 0.10, 40 pairs" in text
    assert "- by age: not told" in text
    assert "**By view**" in text


def test_a_card_tells_nothing_that_was_measured_of_other_weights(tmp_path: Path) -> None:
    prediction = {"id": "1", "prediction": "Edema.", "reference": "Clear lungs."}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(prediction))
    ece = {"value": 0.05}
    scores = {"metrics": {}, "confidence": {"ece": ece}, "provenance": {"model_sha256": "aa"}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    told, left_out = "confidence of sentences: expected calibration error 0.05", "scores.json: left out, of other"
    for sha256, ours in (("aa", True), ("not told", True), ("bb", False)):
        assert (told in lines_of(tmp_path, "Calibration", model_sha256=sha256)) == ours
        assert any(line.startswith(left_out) for line in lines_of(tmp_path, "Model", model_sha256=sha256)) != ours
        hashed = [line for line in lines_of(tmp_path, "Hashes", model_sha256=sha256) if "not told" not in line]
        assert len(hashed) == (sha256 != "not told") + 2 * ours
        parts = card_parts(tmp_path, {"model_sha256": sha256})
        assert any(part.failures for part in parts) == ours


@pytest.mark.parametrize("damaged", [b'{"metrics": {', b"[1]", b"\xff", b"[" * 100_000])
def test_a_card_says_that_a_file_cannot_be_read(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_bytes(damaged)
    assert "audit.json: left out, cannot be read" in lines_of(tmp_path, "Model")


def test_the_gallery_has_the_texts_that_fail_most(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    audited(Scripted(lambda *_: "Edema. Pleural effusion."), drawn, tmp_path)
    found = gallery(tmp_path, json.loads((tmp_path / "audit.json").read_text()))
    assert len(found) == 6
    assert all(one.missed == ("No Finding",) and one.invented == ("Edema", "Pleural Effusion") for one in found)
    predictions = [
        {"id": "right", "prediction": "Edema.", "reference": "Edema."},
        {"id": "wrong", "prediction": "Clear lungs.", "reference": "Edema. Fracture."},
    ]
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, predictions)))
    (only,) = gallery(tmp_path, None)
    assert (only.study, only.missed, only.invented) == ("wrong", ("Edema", "Fracture"), ("No Finding",))


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029"])
def test_a_text_may_hold_any_sign_that_ends_a_line_elsewhere(sign: str, tmp_path: Path) -> None:
    text = f"Pulmonary{sign}edema."
    write_predictions(tmp_path / "predictions.jsonl", [Report("1", text, "Clear lungs.")])
    write_evidence(tmp_path / "evidence.jsonl", [Evidence("1", "gradient", (1, 1), (
        SentenceEvidence(text, (1.0,), 0.5, 0.1, "evidence"),))])  # fmt: skip
    assert [one.text for one in gallery(tmp_path, None)] == [text]
    assert read_evidence(tmp_path / "evidence.jsonl")["1"].sentences[0][0] == text


def test_words_of_a_model_are_no_markup_on_the_card(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    named = (replace(drawn[0], id=HOSTILE),)
    row = {"id": HOSTILE, "prediction": f"{HOSTILE} | x ![seen](http://host/film)", "reference": "Edema."}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(row))
    write_card(tmp_path, HOSTILE, {"model": HOSTILE}, named)
    assert "script" not in [tag for tag, _ in Page((tmp_path / "card" / "index.html").read_text()).tags]
    card = (tmp_path / "card" / "README.md").read_text()
    assert "<script" not in card
    assert "](" not in card, "an image would be fetched by whoever reads the card"


def test_a_licence_is_read_from_a_models_own_card() -> None:
    assert licence_in("---\nlicense: cc-by-nc-sa-4.0\n---\n# A") == "cc-by-nc-sa-4.0"
    assert licence_in("nothing") == "not told"
