"""Scores side by side: seeds as mean and sd, published figures beside ours only where both were measured alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Outcome
from r2gengpt.errors import InputError
from r2gengpt.evaluation.collected import collected, read_ours
from r2gengpt.evaluation.page.results import result_lines
from r2gengpt.evaluation.published import read_published
from r2gengpt.metrics.protocols import PROTOCOLS, bind
from r2gengpt.metrics.records import Signature

Run = Callable[[list[str]], Outcome]
R2GEN = "r2gen|ds:iu_xray|tok:ws|cut:59w|unk:lt3of759|v1"
CLEAN = str(bind(PROTOCOLS["clean"], "iu_xray").signature)


def scores(directory: Path, bleu: float = 0.17, signature: str = R2GEN, n: int = 590) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    content = {"signature": signature, "n": n, "metrics": {"bleu_4": {"value": bleu, "ci95": [0.1, 0.2]}}}
    (directory / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


def seeds(directory: Path, **scored: float) -> Path:
    for name, bleu in scored.items():
        scores(directory / name.replace("_", "-") / "results-test", bleu)
    numbers = [int(name.split("_")[1]) for name in scored]
    (directory / "summary.json").write_text(json.dumps({"finished": True, "seeds": numbers}), encoding="utf-8")
    return directory


def figure(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Theirs",
        "source": "A paper",
        "read_from": "its table 2",
        "dataset": "iu_xray",
        "split": "test",
        "n": 590,
        "signature": R2GEN,
        "protocol": "their code",
        "metrics": {"bleu_4": 0.165},
        **changes,
    }


def figures(path: Path, *several: dict[str, Any]) -> Path:
    path.write_text(json.dumps(several), encoding="utf-8")
    return path


def test_a_published_figure_stands_beside_ours_where_signature_and_studies_are_equal(tmp_path: Path) -> None:
    published = read_published(figures(tmp_path / "p.json", figure()))
    (group,) = collected([read_ours(scores(tmp_path / "a"), "test")], published).groups
    assert [one.name for one in group.published] == ["Theirs"]
    assert group.columns == ("bleu_4",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signature": None, "protocol": "not told"}, "not known to be measured as ours: not told"),
        ({"n": 500}, "other studies: 500, ours 590"),
        ({"n": None}, "other studies: not told, ours 590"),
        ({"signature": CLEAN}, f"measured as {CLEAN}, ours as {R2GEN}"),
    ],
)
def test_any_other_stands_apart_with_the_reason(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    published = read_published(figures(tmp_path / "p.json", figure(**changes)))
    found = collected([read_ours(scores(tmp_path / "a"), "test")], published)
    assert found.groups[0].published == ()
    assert [one.reason for one in found.apart] == [reason]


def test_our_own_scores_of_two_conventions_are_two_groups(tmp_path: Path) -> None:
    paths = scores(tmp_path / "a"), scores(tmp_path / "b", signature=CLEAN), scores(tmp_path / "c", 0.2)
    found = collected([read_ours(path, "test") for path in paths], ())
    names = [[Path(one.name).name for one in group.ours] for group in found.groups]
    assert names == [["a", "c"], ["b"]]


def test_the_tests_of_several_seeds_are_one_row_of_mean_and_sd(tmp_path: Path) -> None:
    ours = read_ours(seeds(tmp_path / "run", seed_1=0.1, seed_2=0.2, seed_3=0.3), "test")
    assert (ours.seeds, str(ours.metrics["bleu_4"])) == (3, "0.200 ± 0.100")
    lines = result_lines(collected([ours], ()))
    assert lines[2] == f"{tmp_path / 'run'} (3 seeds, mean ± sd)  0.200 ± 0.100"


def test_seeds_that_were_tested_differently_or_not_at_all_are_refused(tmp_path: Path) -> None:
    run = seeds(tmp_path / "run", seed_1=0.1, seed_2=0.2)
    scores(run / "seed-2" / "results-test", signature=CLEAN)
    with pytest.raises(InputError, match="can't be compared: protocol r2gen and clean"):
        read_ours(run, "test")
    scores(run / "seed-2" / "results-test", n=5)
    with pytest.raises(InputError, match=r"has 590 studies, .*seed-2 5"):
        read_ours(run, "test")
    (run / "seed-2" / "results-test" / "scores.json").unlink()
    with pytest.raises(InputError) as caught:
        read_ours(run, "test")
    assert str(caught.value) == (
        f"results {run / 'seed-2'}: has no scores.json, nor has results-test in it: run r2gengpt test on it first"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": ""}, "source is : must be a text"),
        ({"n": 0}, "n is 0: must be a number of studies or null"),
        ({"metrics": {}}, "metrics is {}: must be numbers by name"),
        ({"metrics": {"bleu_4": "high"}}, "metrics is {'bleu_4': 'high'}: must be numbers by name"),
        ({"signature": "raw"}, "'raw' is no signature of this program"),
    ],
)
def test_a_wrong_figure_is_refused_by_its_number_and_field(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = figures(tmp_path / "p.json", figure(), figure(**changes))
    with pytest.raises(InputError) as caught:
        read_published(path)
    assert str(caught.value) == f"published {path}: figure 2: {said}"


def test_the_figures_that_come_with_the_program_name_source_and_protocol_and_no_metric_of_ours_falsely() -> None:
    found = read_published()
    assert len(found) > 30
    (r2gen,) = (one for one in found if one.signature is not None)
    assert (r2gen.name, r2gen.n, r2gen.metrics["bleu_4"]) == ("R2Gen", 590, 0.165)
    assert r2gen.signature == Signature.parse(R2GEN, "here")
    for one in found:
        if "ReXrank" in one.read_from:
            assert all(name.startswith("rexrank_") for name in one.metrics)


def test_the_command_prints_the_tables_and_writes_a_page_that_loads_nothing(run_cli: Run, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    done = run_cli(["results", str(scores(tmp_path / "<a>")), "--output", str(page)])
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"590 studies, {R2GEN}"
    assert any(line.startswith("R2Gen, published") for line in lines)
    assert lines[-1] == str(page)
    text = page.read_text(encoding="utf-8")
    assert "&lt;a&gt;" in text
    assert "<a>" not in text
    assert "MedVersa" in text
    assert "README of github.com/WissingChen/VLCI, commit 216038f" in text
    assert "src=" not in text
    content = json.loads(run_cli(["results", str(tmp_path / "<a>"), "--format", "json", "--output", "None"]).stdout)
    assert [one["name"] for one in content["groups"][0]["published"]] == ["R2Gen"]
    assert "MedVersa" in {one["name"] for one in content["apart"]}


def test_what_holds_no_scores_is_refused(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}", encoding="utf-8")
    done = run_cli(["results", str(tmp_path), "--output", "None"])
    assert (done.code, done.stdout) == (2, "")
    assert "holds no scores (signature, n, metrics)" in done.stderr


@pytest.mark.parametrize(
    ("number", "n", "said"),
    [
        ("NaN", 590, "bleu_4: value is nan: must be a number"),
        ("1e999", 590, "bleu_4: value is inf: must be a number"),
        ("1" + 400 * "0", 590, "bleu_4: value is 1000"),
        ("null", 590, "bleu_4: value is None: must be a number"),
        ('"0.1"', 590, "bleu_4: value is 0.1: must be a number"),
        ("0.1", -3, "holds no scores (signature, n, metrics)"),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_score_that_is_no_number_is_refused(
    run_cli: Run, tmp_path: Path, number: str, n: int, said: str, form: str
) -> None:
    file = scores(tmp_path, 0.17, n=n) / "scores.json"
    file.write_text(file.read_text().replace('{"value": 0.17', f'{{"value": {number}'))
    done = run_cli(["results", str(tmp_path), "--output", "None", "--format", form])
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_page_is_not_written_over_the_scores_that_it_shows(run_cli: Run, tmp_path: Path) -> None:
    file = scores(tmp_path / "run" / "results-test") / "scores.json"
    before = file.read_bytes()
    for named in (tmp_path / "run", file.parent, file):
        done = run_cli(["results", str(named), "--output", str(file)])
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.endswith("names: it would be written over\n")
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["summary.json", "seed-2/results-test/scores.json"])
def test_a_page_is_not_written_over_what_is_read_of_seeds(name: str, run_cli: Run, tmp_path: Path) -> None:
    file = seeds(tmp_path / "more", seed_1=0.1, seed_2=0.2) / name
    before = file.read_bytes()
    done = run_cli(["results", str(tmp_path / "more"), "--output", str(file)])
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.endswith("is what results names: it would be written over\n")
    assert file.read_bytes() == before
