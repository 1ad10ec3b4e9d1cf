"""`r2gengpt score` as a user runs it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from r2gengpt.cli.commands.score import PROTOCOL_NAMES
from r2gengpt.cli.main import run
from r2gengpt.metrics.protocols import PROTOCOLS

REPORTS = {"a": "The lungs are clear.", "b": "Small left effusion.", "c": "The heart is large."}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Predictions, an annotation file that has their references, and a tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    lines = [json.dumps({"id": k, "prediction": "the lungs are clear .", "reference": v}) for k, v in REPORTS.items()]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    studies = [{"id": k, "report": v} for k, v in REPORTS.items()]
    (tmp_path / "annotation.json").write_text(json.dumps({"train": studies, "val": [], "test": studies}))
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), Decoder()
    alphabet = BpeTrainer(vocab_size=256, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([], alphabet)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return {
        "predictions": str(tmp_path / "predictions.jsonl"),
        "references": str(tmp_path / "annotation.json"),
        "folder": str(tmp_path),
    }


def flags(files: dict[str, str]) -> list[str]:
    return ["--predictions", files["predictions"], "--references", files["references"]]


def test_json_holds_the_scores_and_text_shows_the_same(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("score", [*flags(files), "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["signature"] == "clean|ds:plain|tok:punct|cut:none|unk:none|v1"
    assert run("score", flags(files)) == 0
    shown = capsys.readouterr()
    for name, value in content["metrics"].items():
        line = next(line.split() for line in shown.out.splitlines() if line.startswith(name))
        assert line[1] == f"{value['value']:.4f}"
    assert shown.err == ""


def test_references_come_from_the_predictions_file_where_no_other_is_named(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("score", [*flags(files), "--format", "json"])
    first = capsys.readouterr().out
    assert run("score", ["--predictions", files["predictions"], "--format", "json"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize(("command", "names"), [("score", ["one"]), ("compare", ["one", "two"])])
def test_predictions_with_their_references_may_come_through_a_pipe(
    command: str, names: list[str], files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe can be read once."""
    pipes = [tmp_path / name for name in names]
    content = Path(files["predictions"]).read_text()
    for pipe in pipes:
        os.mkfifo(pipe)
        threading.Thread(target=pipe.write_text, args=(content,), daemon=True).start()
    places = [str(pipe) for pipe in pipes]
    words = ["--predictions", *places] if command == "score" else places
    assert run(command, [*words, "--bootstrap", "0", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == len(REPORTS)


def test_a_train_file_adds_its_baselines(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    given = [*flags(files), "--train", files["references"], "--bootstrap", "0", "--format", "json"]
    assert run("score", given) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["baselines"]) == {"constant", "most_frequent", "random_train", "texts_shuffled"}
    assert content["references_verbatim_in_train"] == 1.0
    assert set(content["metrics"]["bleu_1"]) == {"value"}


def test_r2gengpt_cuts_references_by_the_tokenizer_it_is_given(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*flags(files), "--protocol", "r2gengpt", "--dataset", "iu_xray", "--tokenizer", files["folder"]]
    assert run("score", [*given, "--max_length", "9", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["signature"] == "r2gengpt|ds:iu_xray|tok:ws|cut:9of256|unk:none|v1"
    # "the lungs" (9 bytes), "small lef", "the heart": of 15 words written, 2 + 0 + 1 match
    assert content["metrics"]["bleu_1"]["value"] == pytest.approx(3 / 15, abs=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--protocol", "r2gengpt"], "needs the model's tokenizer (--tokenizer)"),
        (["--protocol", "r2gengpt", "--tokenizer", "/nowhere"], "--tokenizer /nowhere: no such file"),
        (["--tokenizer", "/nowhere"], "--tokenizer /nowhere: has no effect: --protocol clean cuts nothing"),
        (["--max_length", "9", "--protocol", "raw"], "--max_length 9: has no effect: --protocol raw cuts nothing"),
        (["--protocol", "r2gen", "--dataset", "iu_xray"], "needs --train"),
        (["--protocol", "bleu"], "--protocol bleu: choose from clean, r2gen, r2gengpt, ptb, raw"),
        (["--split", "val"], "no studies in split val"),
        (["--split", "test", "--references", "SAME"], "--split test: has no effect: --references"),
        (["--refs", "x"], "unknown flag --refs"),
        (["--bootstrap", "-1"], "--bootstrap -1: must be at least 0"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(
    extra: list[str], message: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    extra = [files["predictions"] if word == "SAME" else word for word in extra]
    assert run("score", [*flags(files), *extra]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_tokenizer_file_that_is_none_is_refused(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    given = [*flags(files), "--protocol", "r2gengpt", "--tokenizer", files["references"]]
    assert run("score", given) == 2
    assert "not a tokenizer" in capsys.readouterr().err


def test_ids_that_do_not_match_name_both_files(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(files["folder"], "other.json")
    other.write_text('{"a": "x", "z": "y"}')
    assert run("score", ["--predictions", str(other), "--references", files["references"]]) == 2
    error = capsys.readouterr().err
    assert f"2 of 3 studies in --references {files['references']} have no text in --predictions {other} (b, c)" in error
    assert "(z)" in error


def test_an_empty_reference_in_the_file_of_predictions_is_told_of_the_flag_that_named_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "prediction": "x", "reference": ""}\n')
    assert run("score", ["--predictions", str(path)]) == 2
    assert f"--predictions {path}: the reference of study a is empty" in capsys.readouterr().err


BAD = {
    "empty": (b"", "is empty"),
    "duplicate": (b'{"a": "x", "a": "y", "b": "x", "c": "x"}', "a is given twice"),
    "a number": (b'{"a": 5, "b": "x", "c": "x"}', "study a: must be a text, is 5"),
    "NaN": (b'{"a": NaN, "b": "x", "c": "x"}', "study a: must be a text, is NaN"),
    "null": (b'{"a": null, "b": "x", "c": "x"}', "study a: must be a text, is null"),
    "cut JSON": (b'{"a": "x", "b": "x", "c": "', "not JSON"),
    "cut JSON lines": (b'{"id": "a", "prediction": "x"}\n{"id": "b", "predi', "line 2: not JSON"),
    "UTF-16": ('{"a": "x", "b": "x", "c": "x"}'.encode("utf-16"), "not UTF-8 text (byte 0)"),
    "Latin-1": ('{"a": "é", "b": "x", "c": "x"}'.encode("latin-1"), "not UTF-8 text (byte 7)"),
    "no column": (b"id,words\na,x\nb,x\nc,x\n", "needs one of prediction, hypothesis"),
    "open quote": (b'id,report\na,"x\nb,x\nc,x\n', "not CSV after line 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_that_names_it_and_never_a_score(
    name: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = BAD[name]
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    for argv in (
        ["score", "--predictions", str(bad), "--references", files["references"]],
        ["compare", files["predictions"], str(bad), "--references", files["references"]],
    ):
        assert run(argv[0], argv[1:]) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert str(bad) in shown.err
        assert message in shown.err


def test_a_prediction_of_ten_megabytes_is_scored(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.csv"
    long.write_text(f'id,prediction\na,"{"the lungs are clear . " * 480_000}"\nb,x\nc,x\n', encoding="utf-8")
    argv = ["--predictions", str(long), "--references", files["references"], "--bootstrap", "0", "--format", "json"]
    assert run("score", [*argv, "--meteor", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["rouge_l"]["value"] > 0


def test_predictions_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", []) == 2
    assert "--predictions is missing" in capsys.readouterr().err


def test_the_protocols_offered_are_those_that_there_are() -> None:
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)


def test_scoring_imports_neither_torch_nor_transformers_nor_pillow(files: dict[str, str]) -> None:
    code = (
        "import sys; from r2gengpt.cli.main import run; "
        f"code = run('score', {flags(files)!r}); "
        "loaded = {'torch', 'transformers', 'PIL', 'lightning'} & set(sys.modules); "
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bleu_4" in done.stdout
