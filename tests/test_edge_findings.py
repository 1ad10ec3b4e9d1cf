"""The runtime without PyTorch tells findings and writes with hints, as PyTorch does."""

import contextlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_parts import checkpoint_with_head, rounded, trained_checkpoint, write_films

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

import r2gengpt
from r2gengpt.confidence.findings import FINDINGS, verdicts_of
from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.edge.runtime import EdgeTokenizer
from r2gengpt.errors import InputError
from r2gengpt.report import Finding
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import ALL_OBSERVATIONS, hint_of, opening_of
from test_edge import NOTHING_ELSE, edit, exported, flip, refused

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("StableLM-3B-4E1T", "swin", {"fusion": "concat"}),
    ("Qwen2.5-Instruct", "dinov2", {"feature_norm": "standardize", "image_tokens": 4}),
    ("Llama-2", "vit", {"vis_use_lora": True}),
    ("ChatGLM3", "swin", {"global_only": True}),
    ("Gemma-3-it", "vit", {"template": "{instruction} <ImageHere> Report:"}),
]
"""Family, vision encoder and settings; between them chat templates, plain ones, and an instruction before the film."""
ROUNDING = 1e-5
"""Of float32 sums in another order."""
BFLOAT16 = 1e-2
"""Where a CPU has it, PyTorch's encoder computes in bfloat16 (8 bits); the graphs compute in float32."""


def in_torch(directory: Path) -> Reporter:
    reporter = r2gengpt.load(directory, accelerator="cpu", runtime="torch", dtype="float32")
    assert isinstance(reporter, Reporter)
    return reporter


def in_openvino(directory: Path) -> EdgeReporter:
    reporter = r2gengpt.load(directory)
    assert isinstance(reporter, EdgeReporter)
    return reporter


def check_alike(found: tuple[Finding, ...], wanted: tuple[Finding, ...], close: float) -> None:
    assert verdicts_of(found) == verdicts_of(wanted)
    for one, other in zip(found, wanted, strict=True):
        numbers = [one.probability, *one.interval], [other.probability, *other.interval]
        assert numbers[0] == pytest.approx(numbers[1], abs=close)


@pytest.fixture(scope="module")
def with_head(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    """A checkpoint, its float32 edge directory, and the films of a study."""
    directory = tmp_path_factory.mktemp("head")
    checkpoint = checkpoint_with_head(directory, "Llama-2", "vit")
    return checkpoint, exported(checkpoint, directory / "edge", "--weights", "float32"), write_films(directory)


class SlowTokenizer:
    """Says how it was told to encode, some time after it was told."""

    encode_special_tokens = False

    def no_truncation(self) -> None:
        time.sleep(0.002)

    no_padding = no_truncation

    def encode(self, text: str, *, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(ids=[int(self.encode_special_tokens)])


def test_threads_that_encode_prompts_and_texts_at_once_do_not_mix_them() -> None:
    words = EdgeTokenizer(SlowTokenizer(), 0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: words.encode("</s>", symbols=number % 2 == 0), range(40)))
    assert found == [[number % 2] for number in range(40)]


@pytest.mark.parametrize(("family", "vision", "changes"), CASES, ids=[case[0] for case in CASES])
def test_findings_and_hinted_reports_are_those_of_pytorch(
    family: str, vision: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2gengpt.confidence.looking.fast_arithmetic", lambda device: contextlib.nullcontext())
    checkpoint, films = checkpoint_with_head(tmp_path, family, vision, **changes), write_films(tmp_path)
    torch, edge = (
        in_torch(checkpoint),
        in_openvino(exported(checkpoint, tmp_path / "edge", "--weights", "float32")),
    )
    for views in (films, films[:1], films[1:]):
        report, wanted = edge.report(views), torch.report(views)
        assert wanted.tokens > 2
        assert rounded(report).text == rounded(wanted).text
        assert report.tokens == wanted.tokens
        assert report.logprob == pytest.approx(wanted.logprob, abs=1e-4)
        assert report.review == wanted.review
        check_alike(report.findings, wanted.findings, ROUNDING)
        check_alike(edge.findings(views), wanted.findings, ROUNDING)


def test_the_prompt_is_that_of_pytorch_token_by_token(with_head: tuple[Path, Path, list[Path]]) -> None:
    checkpoint, directory, films = with_head
    torch, edge = in_torch(checkpoint), in_openvino(directory)
    found = edge.findings(films)
    assert len({one.verdict for one in found}) == 4
    assert edge.edge.record.hint is not None
    hint = hint_of(verdicts_of(found))
    ids = edge.edge.record.hint.ids(edge.edge.words.encode, hint)
    processor = torch.built.processor
    assert ids == processor.prompt_ids(f"{hint} {processor.instruction}")
    assert len(ids.after) > len(processor.prompt_ids().after)


@pytest.mark.parametrize("settings", [{}, {"beam_size": 3}], ids=str)
def test_reports_open_with_findings_as_by_pytorch(
    settings: dict[str, Any], with_head: tuple[Path, Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2gengpt.confidence.looking.fast_arithmetic", lambda device: contextlib.nullcontext())
    checkpoint, directory, films = with_head
    settings = {**settings, "opening": "findings", "max_new_tokens": 60}
    wanted = r2gengpt.load(checkpoint, accelerator="cpu", runtime="torch", dtype="float32", **settings).report(films)
    found = r2gengpt.load(directory, **settings).report(films)
    assert opening_of(wanted.findings)
    assert found.text == wanted.text
    assert found.text.startswith(opening_of(found.findings))
    assert found.logprob == pytest.approx(wanted.logprob, abs=1e-4)


def test_probabilities_are_near_those_of_pytorch_as_it_computes_on_this_machine(
    with_head: tuple[Path, Path, list[Path]],
) -> None:
    checkpoint, directory, films = with_head
    check_alike(in_openvino(directory).findings(films), in_torch(checkpoint).findings(films), BFLOAT16)


def test_a_head_without_hints_leaves_the_prompt_alone(tmp_path: Path, with_head: tuple[Path, Path, list[Path]]) -> None:
    films = with_head[2]
    checkpoint = checkpoint_with_head(tmp_path, "Llama-2", "vit", findings_hint=False)
    edge = in_openvino(exported(checkpoint, tmp_path / "edge", "--weights", "float32"))
    assert "hint" not in json.loads((tmp_path / "edge" / "edge.json").read_text())
    seen = edge.edge.look([film.convert("RGB") for film in edge_films(edge, films)])
    plain = len(edge.edge.record.before) + len(seen.tokens) + len(edge.edge.record.after)
    assert len(edge.edge.prompt(seen)) == plain
    assert len(edge.report(films).findings) == len(ALL_OBSERVATIONS)


def edge_films(edge: EdgeReporter, films: list[Path]) -> list[Any]:
    from r2gengpt.films.reader import load_image

    return [load_image(path, size=edge.side) for path in films]


def test_a_model_without_a_head_has_no_findings_here_either(
    tmp_path: Path, with_head: tuple[Path, Path, list[Path]]
) -> None:
    directory = exported(trained_checkpoint(tmp_path, "Llama-2", "vit"), tmp_path / "edge", "--weights", "float32")
    assert "hint" not in json.loads((directory / "edge.json").read_text())
    assert not (directory / FINDINGS).exists()
    with pytest.raises(InputError, match="no finding head"):
        in_openvino(directory).findings(with_head[2])
    assert in_openvino(directory).report(with_head[2]).findings == ()


def test_generate_shows_findings_with_four_packages_only(with_head: tuple[Path, Path, list[Path]]) -> None:
    checkpoint, directory, films = with_head
    code = NOTHING_ELSE + (
        "from r2gengpt.cli.main import run\n"
        f"sys.exit(run('generate', {[*map(str, films), '--model', str(directory), '--format', 'json']}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verdicts = {one["name"]: one["verdict"] for one in json.loads(done.stdout)["findings"]}
    assert verdicts == verdicts_of(in_torch(checkpoint).findings(films))


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_packed_weights_leave_the_verdicts_as_they_are(
    form: str, with_head: tuple[Path, Path, list[Path]], tmp_path: Path
) -> None:
    """The encoder and the head are kept in 16 bits, whatever form the language model has."""
    checkpoint, whole, films = with_head
    edge = in_openvino(exported(checkpoint, tmp_path / form, "--weights", form))
    check_alike(edge.findings(films), in_openvino(whole).findings(films), BFLOAT16)
    assert edge.report(films).findings == edge.findings(films)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: flip(path / FINDINGS), "findings.json has changed"),
        (lambda path: (path / FINDINGS).unlink(), "findings.json is missing"),
        (lambda path: edit(path, hint={}), "edge.json is damaged"),
        (lambda path: edit(path, hint=None), "edge.json is damaged"),
        (lambda path: edit(path, hint={"instruction": 3, "template": "<ImageHere>", "symbols": False, "opening": []}),
         "edge.json is damaged"),
        (lambda path: edit(path, hint={"instruction": "a", "template": "b", "symbols": False, "opening": []}),
         "edge.json is damaged"),
        (lambda path: without_scales(path), "lists no findings.json"),
    ],
)  # fmt: skip
def test_a_damaged_head_is_refused_in_one_line(
    harm: Any,
    words: str,
    with_head: tuple[Path, Path, list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import shutil

    _, directory, films = with_head
    shutil.copytree(directory, tmp_path / "edge")
    harm(tmp_path / "edge")
    assert words in refused("generate", [str(films[0]), "--model", str(tmp_path / "edge")], capsys)


def without_scales(directory: Path) -> None:
    record = json.loads((directory / "edge.json").read_text())
    edit(directory, files={name: one for name, one in record["files"].items() if name != FINDINGS})


def test_another_threshold_is_another_model(with_head: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    checkpoint, directory, _ = with_head
    assert in_openvino(directory).documents_sha256 == in_openvino(directory).documents_sha256
    scales = (checkpoint / FINDINGS).read_text()
    try:
        (checkpoint / FINDINGS).write_text(scales.replace('"likely": 0.3', '"likely": 0.31', 1))
        other = in_openvino(exported(checkpoint, tmp_path / "edge", "--weights", "float32"))
    finally:
        (checkpoint / FINDINGS).write_text(scales)
    first = in_openvino(directory)
    assert other.documents_sha256 != first.documents_sha256
    assert other.edge.record.source["model_sha256"] != first.edge.record.source["model_sha256"]
