"""ReXrank's output file: what its evaluation reads in it, and what `score` reads in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Outcome, TinySet
from r2gengpt.data.annotation import read_annotation
from r2gengpt.errors import InputError
from r2gengpt.evaluation.predictions import read_predictions, read_references
from r2gengpt.evaluation.rexrank import records_of, write_rexrank
from r2gengpt.report import Report

Run = Callable[[list[str]], Outcome]


def record(number: int, **changes: Any) -> dict[str, Any]:
    name = f"valid/patient{number}/study1/view1_frontal.png"
    return {
        "image_path": [name],
        "key_image_path": name,
        "report": f"Findings: Clear {number}. Impression: None",
        "section_findings": f"Clear {number}.",
        "section_impression": float("nan"),
        "ap_pa": [float("nan")],
        "context": "Age:77.0.Gender:F.Indication:nanComparison: None.",
        **changes,
    }


def rexrank_file(path: Path, records: dict[str, Any]) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def evaluated(path: Path) -> dict[str, tuple[str, str]]:
    """Study id → reference and text, as ReXrank's evaluation makes them: sections under their names, None for NaN."""
    found = {}
    for name, one in json.loads(path.read_text(encoding="utf-8")).items():
        findings, impression = (
            None if one[key] != one[key] else one[key] for key in ("section_findings", "section_impression")
        )
        found[name] = f"Findings: {findings} Impression: {impression}", one["model_prediction"]
    return found


def test_the_output_is_the_input_with_the_models_text_and_the_references_stay(tmp_path: Path) -> None:
    given = {"b": record(2, section_findings=float("nan"), section_impression="Ödem."), "a": record(1)}
    records = json.loads(json.dumps(given))
    write_rexrank(tmp_path / "out.json", records, [Report("a", "Text A."), Report("b", "Text B.")])
    assert evaluated(tmp_path / "out.json") == {
        "b": ("Findings: None Impression: Ödem.", "Text B."),
        "a": ("Findings: Clear 1. Impression: None", "Text A."),
    }
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert list(content) == ["b", "a"]
    for name, one in content.items():
        kept = {key for key, value in given[name].items() if one[key] == value}
        assert given[name].keys() - kept <= {"section_findings", "section_impression", "ap_pa"}  # NaN is null
        assert one.keys() - given[name].keys() == {"model_prediction"}
    assert "NaN" not in (tmp_path / "out.json").read_text(encoding="utf-8")


def test_score_reads_predictions_and_references_of_the_output(tmp_path: Path) -> None:
    write_rexrank(tmp_path / "out.json", {"a": record(1, subject_id=5)}, [Report("a", "Text A.")])
    assert read_predictions(tmp_path / "out.json") == {"a": "Text A."}
    assert read_references(tmp_path / "out.json") == {"a": ("Findings: Clear 1. Impression: None",)}


def test_a_record_without_a_text_is_refused_by_its_study(tmp_path: Path) -> None:
    path = rexrank_file(tmp_path / "in.json", {"a": {"image_path": ["a.png"]}})
    with pytest.raises(InputError, match=r"in.json: a: needs one of prediction, .*; it has image_path"):
        read_predictions(path)


def test_other_studies_than_those_of_the_split_are_refused_by_name(tmp_path: Path, tiny_set: TinySet) -> None:
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir)["test"]
    ids = [study.id for study in studies]
    fewer = rexrank_file(tmp_path / "f.json", {name: record(1) for name in ids[1:]})
    with pytest.raises(InputError) as caught:
        records_of(fewer, studies)
    assert str(caught.value) == f"rexrank {fewer}: 1 of {len(ids)} studies of the split are not in it: {ids[0]}"
    more = rexrank_file(tmp_path / "m.json", {name: record(1) for name in (*ids, "x")})
    with pytest.raises(InputError) as caught:
        records_of(more, studies)
    assert str(caught.value) == f"rexrank {more}: 1 of {len(ids) + 1} of its studies are not in the split: x"


def test_test_writes_the_file_beside_the_others_and_a_test_without_it_removes_an_old_one(
    run_cli: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source = rexrank_file(tmp_path / "in.json", {f"test{number}": record(number) for number in (2, 0, 1)})
    words = ["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / "out")]
    done = run_cli([*words, "--rexrank", str(source)])
    assert done.code == 0, done.stderr
    written = evaluated(tmp_path / "out" / "rexrank.json")
    lines = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {one["id"]: one["prediction"] for one in map(json.loads, lines)}
    assert {name: text for name, (_, text) in written.items()} == texts
    assert list(written) == ["test2", "test0", "test1"]
    assert run_cli(words).code == 0
    assert not (tmp_path / "out" / "rexrank.json").exists()


def test_another_file_is_refused_before_the_model_is_loaded(
    run_cli: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("r2gengpt.reporter.loaded", load)
    source = rexrank_file(tmp_path / "in.json", {"test0": record(0)})
    done = run_cli(["test", "--ckpt_file", str(tiny_checkpoint), "--rexrank", str(source)])
    assert (done.code, done.stdout) == (2, "")
    assert f"--rexrank {source}: 2 of 3 studies of the split are not in it: test1, test2" in done.stderr


def test_the_file_is_not_written_over_the_one_that_is_read(
    run_cli: Run, without_weights: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    source = rexrank_file(tmp_path / "rexrank.json", {f"test{number}": record(number) for number in range(3)})
    before = source.read_bytes()
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir)]
    done = run_cli(
        ["test", "--model", str(without_weights), *data, "--rexrank", str(source), "--output", str(tmp_path)]
    )
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.endswith("is what --rexrank names: it would be written over\n")
    assert source.read_bytes() == before
