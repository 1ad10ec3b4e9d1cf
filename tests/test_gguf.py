"""A language model of ours as a GGUF file is the same model, for transformers' reader and for llama.cpp."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.cli.main import run
from r2gengpt.engines.gguf import FAMILIES, check_gguf, write_gguf
from r2gengpt.engines.llama_cpp import LlamaCpp, binding
from r2gengpt.errors import InputError
from r2gengpt.generation.beams import Rules
from r2gengpt.generation.engine import Engine, Prompt
from r2gengpt.locate import ModelChoice
from r2gengpt.options import Override
from r2gengpt.parts.embedded.cache import part_dir
from r2gengpt.parts.embedded.catalogue import PARTS
from r2gengpt.reporter import Reporter
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import tiny_language_model
from test_export import VIEWS, text_of, trained_checkpoint

RULES = Rules(end=2, max_new_tokens=24, min_new_tokens=6)
EXAMPLES = sorted((Path(__file__).parents[1] / "src/r2gengpt/examples").glob("*.jpg"))


def no_llama_cpp() -> str:
    """Why llama.cpp cannot run here; empty where it can."""
    try:
        binding()
    except InputError as error:
        return str(error)
    return ""


needs_llama_cpp = pytest.mark.skipif(bool(no_llama_cpp()), reason=no_llama_cpp() or "llama.cpp is here")


def language_model(directory: Path, kind: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(tiny_language_model(directory, kind), dtype=torch.float32).eval()


def prompt_of(model: Any, opening: tuple[int, ...] = ()) -> Prompt:
    ids = torch.arange(5, 16)
    return Prompt("study", model.get_input_embeddings()(ids).detach(), 3, opening)


@pytest.mark.parametrize("kind", FAMILIES)
def test_transformers_reads_the_same_model_back(kind: str, tmp_path: Path) -> None:
    model = language_model(tmp_path, kind)
    write_gguf(model, tmp_path / "language_model.gguf")
    back, info = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="language_model.gguf", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids = torch.arange(5, 16)[None]
    with torch.no_grad():
        torch.testing.assert_close(back(ids).logits, model(ids).logits, rtol=0, atol=1e-5)


def test_weights_stay_in_their_type_and_norms_are_float32(tmp_path: Path) -> None:
    import gguf

    model = language_model(tmp_path, "llama").to(torch.bfloat16)
    write_gguf(model, tmp_path / "half.gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "half.gguf").tensors}
    table = tensors["token_embd.weight"]
    assert (table.tensor_type.name, tensors["output_norm.weight"].tensor_type.name) == ("BF16", "F32")
    read = torch.from_numpy(table.data.copy()).view(torch.bfloat16)
    torch.testing.assert_close(read, model.get_input_embeddings().weight.detach(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("gpt2", {}, "type gpt2 are not written as GGUF, only llama, mistral, qwen2, stablelm"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "of type linear"),
        ("mistral", {"sliding_window": 64}, "in a window of 64 tokens"),
        ("stablelm", {"qk_layernorm": True}, "norms on queries and keys"),
        *((kind, {"hidden_act": "gelu"}, "the activation gelu") for kind in FAMILIES),
    ],
)
def test_what_the_file_cannot_say_is_refused(kind: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"target gguf: .*{words}"):
        check_gguf(CONFIG_MAPPING[kind](**changes))


@needs_llama_cpp
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_llama_cpp_writes_the_engines_tokens(kind: str, penalty: float, tmp_path: Path) -> None:
    model = language_model(tmp_path, kind)
    write_gguf(model, tmp_path / "language_model.gguf")
    rules = Rules(end=2, max_new_tokens=24, min_new_tokens=6, repetition_penalty=penalty)
    prompt, shown = prompt_of(model, opening=(7, 9)), []
    (ours,) = Engine(model, rules, 1).run(iter([prompt]))
    theirs = LlamaCpp(tmp_path / "language_model.gguf").write(prompt, rules, shown.append)
    assert theirs.ids == ours.ids == shown
    assert theirs.ids[:2] == [7, 9]
    assert theirs.logprobs == pytest.approx(ours.logprobs, abs=1e-4)  # sums of 32 in another order


@needs_llama_cpp
def test_a_second_study_is_written_as_if_it_were_the_first(tmp_path: Path) -> None:
    model = language_model(tmp_path, "llama")
    write_gguf(model, tmp_path / "language_model.gguf")
    writer, prompt = LlamaCpp(tmp_path / "language_model.gguf"), prompt_of(model)
    first = writer.write(prompt, RULES, None)
    long = Rules(end=2, max_new_tokens=300, min_new_tokens=300)
    assert len(writer.write(prompt, long, None).ids) == 300
    assert writer.write(prompt, RULES, None).ids == first.ids


@needs_llama_cpp
@pytest.mark.parametrize("language", ["llama", "stablelm"])
def test_an_exported_directory_writes_the_checkpoints_text(language: str, tmp_path: Path) -> None:
    checkpoint = trained_checkpoint(tmp_path, language, "dinov2", feature_norm="standardize", image_tokens=4)
    flags = ["--target", "gguf", "--dtype", "float32", "--beam_size", "1"]
    assert run("export", ["--model", str(checkpoint), "--output", str(tmp_path / "served"), *flags]) == 0
    reporter = Reporter.load(ModelChoice(str(tmp_path / "served")))
    assert reporter.report(VIEWS).text == text_of(load_checkpoint(checkpoint, where=FLOAT32)[0], beam_size=1)
    assert reporter.written_by["writer"] == "llama.cpp"


def test_a_missing_package_or_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp_py_sync._cffi_bindings", None)
    with pytest.raises(InputError, match=r"run by llama\.cpp: pip install llama-cpp-py-sync"):
        binding()


@needs_llama_cpp
def test_a_file_that_llama_cpp_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "language_model.gguf").write_bytes(b"GGUF, but not one")
    with pytest.raises(InputError, match=r"llama.cpp does not load .*language_model.gguf"):
        LlamaCpp(tmp_path / "language_model.gguf")


@pytest.mark.drill
@needs_llama_cpp
@pytest.mark.skipif(not all(part_dir(part).is_dir() for part in PARTS), reason="needs `r2gengpt pull embedded`")
def test_llama_cpp_writes_the_embedded_models_texts(tmp_path: Path) -> None:
    exact = Override(PlacementConfig, {"dtype": "float32"})
    ours = Reporter.load(ModelChoice(placement=exact))
    texts = [ours.report([film]).text for film in EXAMPLES]
    flags = ["--model", "embedded", "--target", "gguf", "--dtype", "float32"]
    assert run("export", [*flags, "--output", str(tmp_path / "served")]) == 0
    theirs = Reporter.load(ModelChoice(str(tmp_path / "served")))
    assert [theirs.report([film]).text for film in EXAMPLES] == texts
