"""An edge directory writes what PyTorch writes, without PyTorch."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_files import data_of, film
from edge_parts import BEAMS, DECODE, predicted, rounded, trained_checkpoint, write_films, written_by_torch
from film_parts import AS_JSON, BELOW, LEFT_OUT, REPORT, SENTENCES

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.cli.commands import export
from r2gengpt.cli.main import run
from r2gengpt.confidence import review
from r2gengpt.config import DecodeConfig
from r2gengpt.edge.graphs import FORMS
from r2gengpt.edge.record import ACTIVATIONS, read_record
from r2gengpt.edge.runtime import INPUTS, Edge, Passes, openvino
from r2gengpt.errors import InputError
from r2gengpt.report import Report
from r2gengpt.text.written import NOTICE
from reporters import stored_of

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("StableLM-3B-4E1T", "swin", {"vis_use_lora": True}),
    ("Llama-2", "vit", {"fusion": "concat", "feature_norm": "position"}),
    ("Qwen2.5-Instruct", "dinov2", {"feature_norm": "standardize", "image_tokens": 4}),
    ("Gemma-3-it", "swin", {"global_only": True, "window": 8}),
    ("Mistral-Instruct", "swin", {"window": 8}),
    ("ChatGLM3", "vit", {}),
]
"""Family, vision encoder and settings; between them every kind of language graph and every step of the projector."""


def exported(checkpoint: Path, output: Path, *words: str) -> Path:
    arguments = ["--target", "openvino", "--model", str(checkpoint), "--output", str(output), *words]
    assert run("export", arguments) == 0
    return output


def films_of(edge: Edge, paths: list[Path]) -> list[Any]:
    from r2gengpt.films.reader import load_image

    return [load_image(path, size=edge.record.film.decoded) for path in paths]


def report_by(edge: Edge, films: list[Any], decode: DecodeConfig) -> Report:
    return edge.written(edge.look(films), decode)[0]


@pytest.fixture(scope="module")
def llama_in_torch(llama: tuple[Path, Path, list[Path]]) -> Any:
    """The same checkpoint, loaded by PyTorch in float32."""
    return load_checkpoint(llama[0], where=FLOAT32)[0]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    """A checkpoint, its float32 edge directory, and the films of a study."""
    directory = tmp_path_factory.mktemp("edge")
    checkpoint = trained_checkpoint(directory, "Llama-2")
    return checkpoint, exported(checkpoint, directory / "edge", "--weights", "float32"), write_films(directory)


@pytest.mark.parametrize(("family", "vision", "changes"), CASES, ids=[case[0] for case in CASES])
def test_whole_weights_write_what_pytorch_writes(
    family: str, vision: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint, films = trained_checkpoint(tmp_path, family, vision, **changes), write_films(tmp_path)
    edge = Edge(exported(checkpoint, tmp_path / "edge", "--weights", "float32"))
    for decode in (DECODE, BEAMS):
        wanted = written_by_torch(checkpoint, films, decode)
        assert wanted.tokens > 2
        assert rounded(report_by(edge, films_of(edge, films), decode)) == rounded(wanted)


@pytest.mark.parametrize(
    "changes",
    [
        {"early_stopping": "True"},
        {"early_stopping": "never", "length_penalty": 2.0},
        {"length_penalty": -1.0, "no_repeat_ngram_size": 3},
        {"beam_size": 5, "repetition_penalty": 2.0, "min_new_tokens": 8},
        {"max_new_tokens": 1, "min_new_tokens": 0},
    ],
    ids=str,
)
def test_beam_search_follows_every_setting(
    changes: dict[str, Any], llama: tuple[Path, Path, list[Path]], llama_in_torch: Any
) -> None:
    _, directory, films = llama
    edge, decode = Edge(directory), replace(BEAMS, **changes)
    wanted = predicted(llama_in_torch, films, decode)
    assert rounded(report_by(edge, films_of(edge, films), decode)) == rounded(wanted)


def test_one_model_writes_study_after_study(llama: tuple[Path, Path, list[Path]], llama_in_torch: Any) -> None:
    _, directory, films = llama
    edge = Edge(directory)
    for views in (films, films[:1], films[1:]):
        wanted = predicted(llama_in_torch, views, DECODE)
        assert rounded(report_by(edge, films_of(edge, views), DECODE)) == rounded(wanted)


@pytest.mark.parametrize("frugal", [False, True])
def test_studies_of_several_threads_are_written_as_if_they_had_come_one_by_one(
    frugal: bool, llama: tuple[Path, Path, list[Path]]
) -> None:
    """The graphs keep a study's cache: two studies at once would read each other's."""
    _, directory, films = llama
    edge = Edge(directory, frugal=frugal)
    studies = [films_of(edge, views) for views in (films, films[:1], films[1:])] * 4
    wanted = [report_by(edge, study, DECODE) for study in studies]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda study: report_by(edge, study, DECODE), studies))
    assert list(map(rounded, found)) == list(map(rounded, wanted))


def test_a_model_that_is_asked_from_within_its_own_report_says_so_and_writes_on(
    llama: tuple[Path, Path, list[Path]],
) -> None:
    """It would wait for itself without end."""
    _, directory, paths = llama
    edge = Edge(directory)
    films = films_of(edge, paths)
    seen, refused_times = edge.look(films), 0

    def watch(token: int) -> bool:
        nonlocal refused_times
        for ask in (lambda: edge.look(films), lambda: edge.written(seen, DECODE)):
            with pytest.raises(InputError, match="is writing a report in this thread"):
                ask()
            refused_times += 1
        return False

    wanted = rounded(edge.written(seen, DECODE)[0])
    assert rounded(edge.written(seen, DECODE, watch)[0]) == wanted
    assert refused_times > 0
    assert rounded(report_by(edge, films, DECODE)) == wanted


def test_lora_may_stay_beside_the_weights_or_be_folded_in(llama: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    checkpoint, folded, films = llama
    beside = exported(checkpoint, tmp_path / "beside", "--weights", "float32", "--merge", "False")
    assert (read_record(folded, "x").merged, read_record(beside, "x").merged) == (True, False)
    texts = [report_by(Edge(path), films_of(Edge(path), films), DECODE) for path in (folded, beside)]
    assert rounded(texts[0]) == rounded(texts[1])


NOTHING_ELSE = """
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ("r2gengpt", "openvino", "tokenizers", "numpy", "PIL"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Only())
"""
"""No package can be imported but the four that the guide installs on an edge machine."""


def test_dora_is_folded_in_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, films = trained_checkpoint(tmp_path, "Llama-2", use_dora=True), write_films(tmp_path)
    arguments = ["--target", "openvino", "--model", str(checkpoint), "--output", str(tmp_path / "edge")]
    assert "--merge False: DoRA" in refused("export", [*arguments, "--merge", "False"], capsys)
    assert read_record(exported(checkpoint, tmp_path / "edge", "--weights", "nf4"), "model").merged
    edge = Edge(exported(checkpoint, tmp_path / "whole", "--weights", "float32"))
    wanted = written_by_torch(checkpoint, films, DECODE)
    assert rounded(report_by(edge, films_of(edge, films), DECODE)) == rounded(wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="signal stacks of OpenVINO")
def test_a_signal_is_handled_after_another_thread_has_let_go_of_a_model(llama: tuple[Path, Path, list[Path]]) -> None:
    code = (
        "import signal, threading\n"
        "from pathlib import Path\n"
        "from r2gengpt.edge.runtime import Edge\n"
        f"held = [Edge(Path({str(llama[1])!r}))]\n"
        "held[0].compile()\n"
        "thread = threading.Thread(target=held.clear)\n"
        "thread.start()\n"
        "thread.join()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_plain_directory_can_be_exported_too(llama: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    checkpoint, directory, films = llama
    plain = ["--model", str(checkpoint), "--output", str(tmp_path / "plain"), "--dtype", "float32"]
    assert run("export", plain) == 0
    again = Edge(exported(tmp_path / "plain", tmp_path / "edge", "--weights", "float32"))
    first = report_by(Edge(directory), films_of(again, films), DECODE)
    assert rounded(report_by(again, films_of(again, films), DECODE)) == rounded(first)


def test_generate_takes_the_directory_and_needs_four_packages_only(
    llama: tuple[Path, Path, list[Path]], llama_in_torch: Any
) -> None:
    _, directory, films = llama
    code = NOTHING_ELSE + (
        "from r2gengpt.cli.main import run\n"
        f"code = run('generate', {[*map(str, films), '--model', str(directory), '--format', 'json']})\n"
        "heavy = {'torch', 'transformers', 'openvino_telemetry'}\n"
        "sys.exit(code or 9 * any(sys.modules.get(name) is not None for name in heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert NOTICE in done.stderr
    record = json.loads(done.stdout)
    wanted = predicted(llama_in_torch, films, DECODE)
    assert (record["notice"], record["runtime"], record["weights"]) == (NOTICE, "openvino", "float32")
    assert (record["report"], record["tokens"], record["finish"]) == (wanted.text, wanted.tokens, wanted.finish)
    assert [sentence["text"] for sentence in record["sentences"]] == [one.text for one in wanted.sentences]


def test_generate_notes_a_film_of_nobody_in_text_and_json(
    llama: tuple[Path, Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, directory, films = llama
    (tmp_path / "film.dcm").write_bytes(data_of(film()))
    words = [str(films[0]), str(tmp_path / "film.dcm"), "--model", str(directory)]
    assert run("generate", words) == 0
    said = capsys.readouterr().out
    assert said.startswith("CHECK WHOSE IMAGES THESE ARE: 1 of 2 names no patient")
    assert run("generate", [*words, "--format", "json"]) == 0
    assert said.startswith(json.loads(capsys.readouterr().out)["note"])


def test_generate_shows_findings_and_what_contradicts_them(
    llama: tuple[Path, Path, list[Path]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(REPORT, review=(), sentences=tuple(replace(one, needs_review=False) for one in SENTENCES))
    monkeypatch.setattr(review, "with_confidence", lambda report, calibration, below: replace(found, id=report.id))
    _, directory, films = llama
    words = [str(films[0]), "--model", str(directory)]
    assert run("generate", words) == 0
    assert capsys.readouterr().out.splitlines()[1:-1] == ["", *BELOW]
    assert run("generate", [*words, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["findings"], record["review"][0]) == (AS_JSON, LEFT_OUT)
    assert [one["needs_review"] for one in record["sentences"]] == [False, True]


def test_the_record_says_what_it_was_made_from(llama: tuple[Path, Path, list[Path]]) -> None:
    import hashlib

    checkpoint, directory, _ = llama
    source = read_record(directory, "model").source
    delta = hashlib.sha256((checkpoint / "delta.safetensors").read_bytes()).hexdigest()
    assert source["delta_sha256"] == delta
    assert len(source["model_sha256"]) == 64
    assert "torch" in source["versions"]
    assert json.loads((directory / "edge.json").read_text())["notice"] == NOTICE


@pytest.mark.parametrize(("card", "begins"), [("# Card\n", "# Card\n"), (None, "# An edge model of r2gengpt\n")])
def test_the_card_of_the_checkpoint_goes_along_with_the_notice(
    llama: tuple[Path, Path, list[Path]], tmp_path: Path, card: str | None, begins: str
) -> None:
    checkpoint = Path(shutil.copytree(llama[0], tmp_path / "checkpoint"))
    (checkpoint / "README.md").unlink(missing_ok=True)
    if card is not None:
        (checkpoint / "README.md").write_text(card)
    there = (exported(checkpoint, tmp_path / "edge") / "README.md").read_text()
    assert there.startswith(begins)
    assert NOTICE in there


@pytest.mark.parametrize("form", ["nf4", "int4", "int8"])
def test_packed_weights_are_multiplied_as_they_lie(
    form: str, llama: tuple[Path, Path, list[Path]], tmp_path: Path
) -> None:
    checkpoint, _, films = llama
    edge = Edge(exported(checkpoint, tmp_path / form, "--weights", form))
    assert report_by(edge, films_of(edge, films), DECODE).tokens >= DECODE.min_new_tokens
    graph = edge._language.get_compiled_model().get_runtime_model()
    kinds = [node.get_rt_info() for node in graph.get_ops()]
    kept = [kind["runtimePrecision"].astype(str) for kind in kinds if kind["layerType"].astype(str) == "FullyConnected"]
    packed, count = {"nf4": ("nf4", 14), "int4": ("i4", 14), "int8": ("i8", 15)}[form]
    assert kept.count("i8") == {"nf4": 0, "int4": 1, "int8": 15}[form]
    assert kept.count(packed) == count  # 2 layers of q, k, v, o, gate, up, down; beside 8 the head; the rest is LoRA


def test_the_words_of_the_flags_are_the_forms() -> None:
    assert export.WEIGHTS == FORMS
    assert export.ACTIVATIONS == ACTIVATIONS == tuple(INPUTS)


def test_inputs_of_products_are_whole_unless_the_export_was_told_otherwise(
    llama: tuple[Path, Path, list[Path]], tmp_path: Path
) -> None:
    checkpoint, _, films = llama
    logits = {}
    for form in ACTIVATIONS:
        directory = exported(checkpoint, tmp_path / form, "--weights", "int8", "--activations", form)
        assert read_record(directory, "model").activations == form
        edge = Edge(directory)
        group = edge._language.get_compiled_model().get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
        assert str(group) == INPUTS[form]
        prompt = edge.prompt(edge.look(films_of(edge, films)))
        logits[form] = Passes(edge._language, edge.embeddings, len(prompt)).begin(prompt)
        assert report_by(edge, films_of(edge, films), DECODE).tokens >= DECODE.min_new_tokens
    assert np.abs(logits["int8"] - logits["float32"]).max() < 0.1 * np.abs(logits["float32"]).max()


def refused(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    assert run(command, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    line = captured.err.strip()
    return line


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: (path / "vision.bin").unlink(), "vision.bin is missing"),
        (lambda path: (path / "tokenizer.json").write_text("{}"), "tokenizer.json has 2 bytes"),
        (lambda path: flip(path / "language.bin"), "language.bin has changed"),
        (lambda path: (path / "edge.json").write_text("[]"), "edge.json is damaged"),
        (lambda path: (path / "edge.json").write_text("{"), "edge.json is damaged"),
        (lambda path: edit(path, format="2"), "must be r2gengpt-edge-1"),
        (lambda path: edit(path, files={}), "lists no language.xml"),
        (lambda path: edit(path, film={"decoded": 3, "colour": 1}), "unknown colour"),
        (lambda path: edit(path, end=None, files=3), "edge.json is damaged"),
        (lambda path: (path / "edge.json").unlink(), "no edge.json there"),
    ],
)
def test_a_damaged_directory_is_refused_in_one_line(
    harm: Any, words: str, llama: tuple[Path, Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, directory, films = llama
    shutil.copytree(directory, tmp_path / "edge")
    harm(tmp_path / "edge")
    flags = ["--runtime", "openvino", "--model", str(tmp_path / "edge")]
    line = refused("generate", [str(films[0]), *flags], capsys)
    assert words in line
    assert "export it anew" in line


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(directory: Path, **changes: Any) -> None:
    content = json.loads((directory / "edge.json").read_text())
    (directory / "edge.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--do_sample", "True"], "--do_sample True"),
        (["--engine", "hf"], "--engine hf"),
        (["--speculate", "True"], "--speculate True"),
        (["--accelerator", "gpu"], "--accelerator gpu"),
        (["--evidence", "maps"], "--evidence maps"),
        (["--dtype", "float32"], "--dtype float32"),
        (["--runtime", "torch"], "--runtime torch"),
        (["--runtime", "onnx"], "--runtime"),
        (["--max_new_tokens", "600"], "--max_new_tokens 600"),
    ],
)
def test_what_the_edge_has_not_is_refused_by_name(
    flags: list[str], words: str, llama: tuple[Path, Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, directory, films = llama
    assert words in refused("generate", [str(films[0]), "--model", str(directory), *flags], capsys)


def test_a_stream_is_the_text_word_by_word(
    llama: tuple[Path, Path, list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, directory, films = llama
    arguments = [str(films[0]), "--model", str(directory), "--format", "text"]
    assert run("generate", arguments) == 0
    whole = capsys.readouterr().out
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *words, end="\n", **_: printed.append(" ".join(words) + end))
    assert run("generate", [*arguments, "--stream"]) == 0
    said = printed[: printed.index(f"{NOTICE}\n")]
    assert "".join(said) == whole
    assert len(said) > 2


def test_a_checkpoint_is_no_edge_directory(
    llama: tuple[Path, Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, _, films = llama
    line = refused("generate", [str(films[0]), "--model", str(checkpoint), "--runtime", "openvino"], capsys)
    assert "no edge.json there" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dtype", "bfloat16"], "--dtype bfloat16"),
        (["--weights", "int3"], "--weights"),
        (["--target", "onnx"], "--target"),
        (["--quantization", "nf4"], "--quantization nf4"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(
    flags: list[str],
    words: str,
    llama: tuple[Path, Path, list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--target", "openvino", "--model", str(llama[0]), "--output", str(tmp_path / "edge"), *flags]
    assert words in refused("export", arguments, capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_and_untouched(
    llama: tuple[Path, Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    arguments = ["--target", "openvino", "--model", str(llama[0]), "--output", str(tmp_path)]
    assert "exists already" in refused("export", arguments, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--weights", "nf4"], "--weights nf4: belongs to --target openvino"),
        (["--activations", "int8"], "--activations int8: belongs to --target openvino"),
        (
            ["--target", "openvino", "--weights", "float32", "--activations", "int8"],
            "--activations int8: are for packed weights; name another form",
        ),
    ],
)
def test_forms_of_weights_and_of_their_inputs_belong_to_openvino(
    flags: list[str],
    words: str,
    llama: tuple[Path, Path, list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--model", str(llama[0]), "--output", str(tmp_path / "plain"), *flags]
    assert words in refused("export", arguments, capsys)


def test_a_family_without_an_edge_form_is_refused_by_name(
    tiny_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from r2gengpt.checkpoint import save_checkpoint
    from r2gengpt.config import DataConfig, ModelConfig
    from r2gengpt.parts.assemble import build_model

    parts: dict[str, Any] = {"lm_model": str(tiny_parts / "lm-gpt2"), "vision_model": str(tiny_parts / "vision-vit")}
    config = ModelConfig(**parts)
    save_checkpoint(
        tmp_path / "ours", build_model(config, FLOAT32), stored_of(config, DataConfig(), DECODE), "# Card\n"
    )
    arguments = ["--target", "openvino", "--model", str(tmp_path / "ours"), "--output", str(tmp_path / "edge")]
    assert "language models of type gpt2" in refused("export", arguments, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_without_openvino_both_halves_say_what_to_install(
    llama: tuple[Path, Path, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import importlib.util

    checkpoint, directory, films = llama
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else real(name, *rest)
    )
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    arguments = ["--target", "openvino", "--model", str(checkpoint), "--output", str(tmp_path / "edge")]
    for line in (
        refused("export", arguments, capsys),
        refused("generate", [str(films[0]), "--model", str(directory)], capsys),
    ):
        assert "pip install '.[openvino]' in the clone" in line


def test_an_export_that_fails_midway_leaves_nothing(
    llama: tuple[Path, Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r2gengpt.edge import export as half

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(half, "embedding_table", full)
    with pytest.raises(OSError, match="No space"):
        run("export", ["--target", "openvino", "--model", str(llama[0]), "--output", str(tmp_path / "edge")])
    assert list(tmp_path.iterdir()) == []


def test_the_librarys_usage_reports_are_switched_off() -> None:
    openvino(field="runtime", value="openvino")
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("width", [64, 576])
def test_nf4_is_bitsandbytes_own_where_its_blocks_end_with_the_rows(width: int) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    import torch

    from r2gengpt.edge.graphs import pack_nf4

    weight = torch.randn(48, width, generator=torch.Generator().manual_seed(width))
    weight[0] = 0.0
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    wanted = functional.dequantize_4bit(packed, state).numpy()
    np.testing.assert_array_equal(pack_nf4(weight.numpy()).whole(), wanted)


@pytest.mark.parametrize("form", ["nf4", "int4", "int8"])
@pytest.mark.parametrize("width", [128, 40, 7])
def test_packed_weights_are_near_the_whole_ones(form: str, width: int) -> None:
    from r2gengpt.edge.graphs import PACKERS

    weight = np.random.default_rng(0).standard_normal((6, width)).astype(np.float32)
    weight[1] = 0.0
    weight[2] = 3.0
    found = PACKERS[form](weight).whole()
    steps = {"nf4": 0.16, "int4": 1 / 8, "int8": 1 / 254}[form]  # of the largest weight
    assert (np.abs(found - weight) <= steps * np.abs(weight).max(1, keepdims=True) + 1e-6).all()
    np.testing.assert_array_equal(found[1], 0.0)


@pytest.mark.parametrize("rounded", [False, True])
def test_weights_that_had_four_bits_stay_as_they_are(rounded: bool) -> None:
    from r2gengpt.edge.graphs import pack_int4

    chance = np.random.default_rng(0)
    codes = chance.integers(0, 16, (48, 18, 32))
    codes[..., 0], codes[..., 1] = 0, 15
    scale = chance.uniform(0.1, 1.0, (48, 18, 1)).astype(np.float16)
    least = (-scale * chance.uniform(4, 12, (48, 18, 1))).astype(np.float16)
    weight: Any = (codes * scale.astype(np.float32) + least.astype(np.float32)).reshape(48, 576).astype(np.float32)
    if rounded:
        import torch

        weight = torch.from_numpy(weight).to(torch.bfloat16).float().numpy()
    found = pack_int4(weight)
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_allclose(found.whole(), weight, atol=0.0625 if rounded else 2e-6)


def test_weights_that_had_more_bits_get_the_steps_of_q4_0() -> None:
    from r2gengpt.edge.graphs import pack_int4

    weight = np.random.default_rng(0).standard_normal((48, 576)).astype(np.float32)
    found = pack_int4(weight)
    assert found.zero is None
    wanted = pytest.importorskip("gguf").quants.Q4_0.dequantize_blocks(
        pytest.importorskip("gguf").quants.Q4_0.quantize_blocks(weight.reshape(-1, 32))
    )
    np.testing.assert_allclose(found.whole().reshape(-1, 32), wanted, atol=2e-3)


@pytest.mark.parametrize("crop", [False, True])
def test_pixels_are_the_image_processors_own(crop: bool, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

    from r2gengpt.edge.export import film_settings
    from r2gengpt.edge.record import view_pixels
    from r2gengpt.model import R2GenGPTProcessor
    from r2gengpt.testing import noise_image, tiny_tokenizer

    own = (
        CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
        if crop
        else ViTImageProcessorPil(size={"height": 32, "width": 32})
    )
    processor = R2GenGPTProcessor(own, tiny_tokenizer())
    films = [noise_image(1, 90).resize(size) for size in ((90, 60), (61, 200), (40, 40))]
    np.testing.assert_array_equal(view_pixels(films, film_settings(processor)), processor.pixels(films).numpy())
