"""`r2gengpt compare` as a user runs it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r2gengpt.cli.main import run

REPORTS = {"P1_a": "The lungs are clear.", "P1_b": "Small left effusion.", "P2_c": "The heart is large."}
WRITTEN = {"P1_a": "the lungs are clear", "P1_b": "no effusion", "P2_c": "the heart is normal"}


def put(path: Path, texts: dict[str, str], reports: dict[str, str] = REPORTS, **fields: object) -> str:
    path.parent.mkdir(exist_ok=True)
    lines = [{"id": k, "prediction": v, **fields} | ({"reference": reports[k]} if k in reports else {})
             for k, v in texts.items()]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two files of predictions that hold their references."""
    same = dict.fromkeys(REPORTS, "the lungs are clear")
    return put(tmp_path / "a" / "predictions.jsonl", same), put(tmp_path / "b" / "predictions.jsonl", WRITTEN)


def scored(pair: tuple[str, str], capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[str, str]:
    """A scores.json beside each file, as `test` writes it."""
    found = []
    for file in pair:
        assert run("score", ["--predictions", file, "--format", "json", "--bootstrap", "0", *flags]) == 0
        path = Path(file).with_name("scores.json")
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        found.append(str(path))
    return found[0], found[1]


def test_text_and_json_hold_every_metric_of_both_and_their_difference(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", [*pair, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["n"], content["bootstrap"]["by"]) == (3, "study")
    assert run("compare", list(pair)) == 0
    shown = capsys.readouterr()
    for name, values in content["metrics"].items():
        assert values["difference"]["value"] == values["second"] - values["first"]
        line = next(line.split() for line in shown.out.splitlines() if line.startswith(name))
        assert line[1:4] == [
            f"{values['first']:.4f}", f"{values['second']:.4f}", f"{values['difference']['value']:+.4f}",
        ]  # fmt: skip
    assert shown.err == ""


@pytest.mark.parametrize("is_run", [False, True])
def test_directories_of_tests_are_compared_under_the_convention_of_their_scores(
    is_run: bool, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [Path(path) for path in scored(pair, capsys, "--protocol", "raw")]
    named = [path.parent for path in scores]
    if is_run:
        shutil.copytree(named[1], named[1] / "results-test")
        scores[1].unlink()
        scores[1] = named[1] / "results-test" / "scores.json"
    assert run("compare", [*map(str, named), "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["signature"] == "raw|ds:none|tok:ws|cut:none|unk:none|v1"
    assert content["metrics"]["rouge_l"]["second"] == pytest.approx(
        json.loads(scores[1].read_text())["metrics"]["rouge_l"]["value"]
    )


def test_scores_of_different_conventions_are_refused(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = scored(pair, capsys)
    content = json.loads(Path(second).read_text())
    Path(second).write_text(json.dumps({**content, "signature": "raw|ds:none|tok:ws|cut:none|unk:none|v1"}))
    assert run("compare", [first, second]) == 2
    error = capsys.readouterr().err
    assert "can't be compared: protocol clean and raw" in error
    assert error.count("\n") == 1


def test_a_flag_that_contradicts_the_scores_is_refused(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = scored(pair, capsys)
    assert run("compare", [*scores, "--protocol", "raw"]) == 2
    assert "can't be compared: protocol clean and raw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signature": "none"}, "'none' is no signature"),
        (None, "no predictions.jsonl lies beside it"),
    ],
)
def test_scores_that_cannot_be_used_are_named(
    change: dict[str, str] | None, message: str, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = scored(pair, capsys)
    if change is None:
        Path(second).with_name("predictions.jsonl").unlink()
    else:
        Path(second).write_text(json.dumps({**json.loads(Path(second).read_text()), **change}))
    assert run("compare", [first, second]) == 2
    assert message in capsys.readouterr().err


def test_other_study_ids_are_listed_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = put(tmp_path / "a.jsonl", dict.fromkeys(REPORTS, "x"))
    second = put(tmp_path / "b.jsonl", {"P1_a": "x", "P9_z": "x"}, {**REPORTS, "P9_z": "y"})
    assert run("compare", [first, second]) == 2
    shown = capsys.readouterr()
    assert f"1 of 2 studies in B {second} have no text in A {first} (P9_z)" in shown.err
    assert f"2 of 3 studies in A {first} have no text in B {second} (P1_b, P2_c)" in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")


def test_files_with_different_references_are_refused_unless_a_third_settles_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = put(tmp_path / "a.jsonl", WRITTEN)
    second = put(tmp_path / "b.jsonl", WRITTEN, {**REPORTS, "P1_b": "Another text."})
    assert run("compare", [first, second]) == 2
    assert "hold different references for 1 studies, first P1_b" in capsys.readouterr().err
    assert run("compare", [first, second, "--references", first]) == 0


def test_patients_come_from_the_file_or_from_a_rule_on_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(tmp_path / "a.jsonl", WRITTEN, patient="one for all")
    for flags, patients in (((), 1), (("--patient_of", r"^P\d+"), 2), (("--patient_of", r"_(.)$"), 3)):
        assert run("compare", [file, file, *flags, "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["bootstrap"]["patients"] == patients


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--patient_of", "("], "--patient_of (: not a regular expression"),
        (["--patient_of", "P2"], "--patient_of P2: finds nothing in the study id P1_a"),
        (["--swaps", "-1"], "--swaps -1: must be at least 0"),
        (["--references", "nowhere"], "--references nowhere: No such file"),
        (["--protocol", "r2gen", "--dataset", "iu_xray"], "needs --train"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(
    flags: list[str], message: str, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", [*pair, *flags]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")


@pytest.mark.parametrize("files", [[], ["one.jsonl"], ["nowhere.json", "nowhere.json"], ["/", "/"]])
def test_files_that_are_not_there_are_named(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", files) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_comparing_imports_neither_torch_nor_transformers_nor_pillow(pair: tuple[str, str]) -> None:
    code = (
        "import sys; from r2gengpt.cli.main import run; "
        f"code = run('compare', {list(pair)!r}); "
        "loaded = {'torch', 'transformers', 'PIL', 'lightning'} & set(sys.modules); "
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bleu_4" in done.stdout
