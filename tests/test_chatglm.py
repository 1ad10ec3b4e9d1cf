"""ChatGLM3 checkpoints become Glm models: logits against a plain forward, ids against SentencePiece, end to end."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import silu
from transformers import AutoTokenizer, GlmForCausalLM

from placements import built_of
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import load_directory
from r2gengpt.parts.chatglm.model import glm_config, load_chatglm
from r2gengpt.parts.chatglm.tokenizer import chatglm_tokenizer
from r2gengpt.testing import CORPUS, noise_image
from tiny_families import (
    CHANNELS,
    CHATGLM,
    GROUPS,
    HEADS,
    INNER,
    KEY,
    LAYERS,
    QUERY,
    WIDTH,
    chatglm_weights,
    train_sentencepiece,
    write_chatglm,
)

TEXTS = (
    *CORPUS,
    "The heart is   normal.\n\nNo effusion , 12.5 cm (Δ) – 肺部清晰。",
    "<|user|> sop </s> <unk> [gMASK] <0x0A> is text",
    " leading and trailing ",
    "",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ChatGLM3 in the layout of `zai-org/chatglm3-6b`: pickled shards and their index."""
    directory = tmp_path_factory.mktemp("chatglm3")
    write_chatglm(directory)
    return directory


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + CHATGLM["layernorm_epsilon"]).sqrt() * weight


def rotate(x: Tensor, base: float) -> Tensor:
    """Channels 2i and 2i+1 of the first half of a head, (T, heads, C), as one complex number turned by its angle."""
    half = CHANNELS // 2
    angles = torch.arange(len(x))[:, None] / base ** (torch.arange(0, half, 2) / half)
    turned = torch.view_as_complex(x[..., :half].reshape(*x.shape[:-1], -1, 2).contiguous()) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    return torch.cat([torch.view_as_real(turned).flatten(-2), x[..., half:]], dim=-1)


def attend(x: Tensor, fused: Tensor, base: float) -> Tensor:
    """Causal attention of one sequence, head by head; consecutive heads share a key and value group."""
    query = rotate(fused[:, :QUERY].reshape(len(x), HEADS, CHANNELS), base)
    key = rotate(fused[:, QUERY : QUERY + KEY].reshape(len(x), GROUPS, CHANNELS), base)
    value = fused[:, QUERY + KEY :].reshape(len(x), GROUPS, CHANNELS)
    future = torch.ones(len(x), len(x)).triu(1).bool()
    heads = []
    for head in range(HEADS):
        group = head // (HEADS // GROUPS)
        scores = query[:, head] @ key[:, group].T / math.sqrt(CHANNELS)
        heads.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ value[:, group])
    return torch.cat(heads, dim=-1)


def reference_logits(w: dict[str, Tensor], ids: Tensor, base: float = 10000.0) -> Tensor:
    """The architecture as ChatGLM2's and GLM's descriptions have it, for one sequence (T,) → (T, rows)."""
    x = w["transformer.embedding.word_embeddings.weight"][ids]
    for layer in range(LAYERS):
        at = f"transformer.encoder.layers.{layer}."
        normed = rms_norm(x, w[f"{at}input_layernorm.weight"])
        fused = normed @ w[f"{at}self_attention.query_key_value.weight"].T
        mixed = attend(x, fused + w[f"{at}self_attention.query_key_value.bias"], base)
        x = x + mixed @ w[f"{at}self_attention.dense.weight"].T
        normed = rms_norm(x, w[f"{at}post_attention_layernorm.weight"])
        gate, up = (normed @ w[f"{at}mlp.dense_h_to_4h.weight"].T).split(INNER, dim=-1)
        x = x + (silu(gate) * up) @ w[f"{at}mlp.dense_4h_to_h.weight"].T
    return rms_norm(x, w["transformer.encoder.final_layernorm.weight"]) @ w["transformer.output_layer.weight"].T


IDS = torch.arange(3, 480, 13)


@torch.no_grad()
def test_logits_are_those_of_a_plain_forward_of_the_architecture(checkpoint: Path) -> None:
    model, _ = load_chatglm(checkpoint, "--lm_model", torch.float32)
    assert isinstance(model, GlmForCausalLM)
    wanted = reference_logits(chatglm_weights(), IDS)
    assert wanted.std() > 0.5
    # float32 sums in another order
    torch.testing.assert_close(model.eval()(IDS[None]).logits[0], wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_32k_variant_stretches_the_base_of_the_rotation(copied: Path) -> None:
    (copied / "config.json").write_text(json.dumps({**CHATGLM, "rope_ratio": 50}))
    model, _ = load_chatglm(copied, "--lm_model", torch.float32)
    logits = model.eval()(IDS[None]).logits[0]
    torch.testing.assert_close(logits, reference_logits(chatglm_weights(), IDS, 500_000.0), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits, reference_logits(chatglm_weights(), IDS), atol=1e-2)


def test_safetensors_hold_the_same_model_as_pickled_shards(checkpoint: Path, copied: Path) -> None:
    for file in copied.glob("pytorch_model*"):
        file.unlink()
    save_file(chatglm_weights(), copied / "model.safetensors")
    one, other = (load_chatglm(path, "--lm_model", torch.bfloat16)[0].state_dict() for path in (checkpoint, copied))
    assert one["model.layers.1.mlp.down_proj.weight"].dtype == torch.bfloat16
    assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"byte_fallback": False, "vocab_size": 200},
        {"user_defined_symbols": ["<n>", "lungs", "effusion"]},
    ],
)
def test_the_fast_tokenizer_gives_the_ids_of_sentencepiece_and_its_text_back(
    options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(train_sentencepiece(**options))
    slow = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    fast = chatglm_tokenizer(tmp_path / "tokenizer.model", "--lm_model x")
    for text in TEXTS:
        ids = fast(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert ids == slow.encode(text), text
        if slow.unk_id() not in ids:
            assert fast.decode(ids) == slow.decode(ids), text


def test_special_tokens_follow_the_vocabulary_and_open_the_text(checkpoint: Path, tmp_path: Path) -> None:
    file = checkpoint / "tokenizer.model"
    size = sentencepiece.SentencePieceProcessor(model_file=str(file)).vocab_size()
    chatglm_tokenizer(file, "--lm_model x").save_pretrained(tmp_path)
    for fast in (chatglm_tokenizer(file, "--lm_model x"), AutoTokenizer.from_pretrained(tmp_path)):
        # ChatGLM3-6B's vocabulary has 64789 pieces: [gMASK] is 64790, sop 64792, <|user|> 64795
        names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>"]
        assert fast.convert_tokens_to_ids([*names, "<|observation|>"]) == list(range(size, size + 9))
        assert fast("The").input_ids[:2] == [size + 1, size + 3]
        assert (fast.eos_token_id, fast.pad_token_id, fast.eos_token) == (2, 0, "</s>")
        assert fast.decode(fast("The heart</s>").input_ids, skip_special_tokens=True) == "The heart"


def build(lm_model: Path, parts: Path, **options: Any) -> Any:
    names = {"vision_model": str(parts / "vision-swin"), "lm_model": str(lm_model), "dtype": "float32"}
    return built_of(**names | options)


@torch.no_grad()
def test_a_chatglm_directory_builds_and_generates_without_its_own_code(checkpoint: Path, tiny_parts: Path) -> None:
    torch.manual_seed(0)
    built = build(checkpoint, tiny_parts, llm_use_lora=True)
    size = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model")).vocab_size()
    inputs = built.processor(noise_image(1))
    assert inputs["input_ids"][0, :2].tolist() == [size + 1, size + 3]
    assert built.model.generation_config.eos_token_id == 2
    model = built.model.eval()
    ids = model.generate(**inputs, do_sample=False, min_new_tokens=5, max_new_tokens=5)
    assert ids.shape == (1, 5)
    assert built.processor.decode_reports(ids) == [built.processor.tokenizer.decode(ids[0], skip_special_tokens=True)]


@torch.no_grad()
def test_the_plain_directory_of_a_chatglm_model_loads_with_the_same_logits_and_prompt(
    checkpoint: Path, tiny_parts: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    built = build(checkpoint, tiny_parts)
    for part in (built.model, built.processor):
        part.save_pretrained(tmp_path)
    again = load_directory(tmp_path, dtype="float32")
    inputs, same = (one.processor(noise_image(1)) for one in (built, again))
    assert inputs["input_ids"].tolist() == same["input_ids"].tolist()
    assert torch.equal(built.model.eval()(**inputs).logits, again.model(**same).logits)


def edit_config(**values: object) -> Callable[[Path], object]:
    return lambda path: (path / "config.json").write_text(json.dumps({**CHATGLM, **values}))


def edit_index(name: object) -> Callable[[Path], object]:
    text = json.dumps({"weight_map": {"a": name}})
    return lambda path: (path / "pytorch_model.bin.index.json").write_text(text)


def edit_weights(**values: Tensor | None) -> Callable[[Path], object]:
    def edit(directory: Path) -> None:
        weights: dict[str, Any] = {**chatglm_weights(), **values}
        save_file(
            {name: value for name, value in weights.items() if value is not None}, directory / "model.safetensors"
        )

    return edit


class Runs:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


QKV = "transformer.encoder.layers.1.self_attention.query_key_value.weight"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (edit_config(rmsnorm=False), "config.json has rmsnorm False, must be True"),
        (edit_config(quantization_bit=4), "config.json has quantization_bit 4, must be 0"),
        (edit_config(padded_vocab_size=None), "config.json has padded_vocab_size None, must be a positive number"),
        (edit_config(num_layers=True), "config.json has num_layers True, must be a positive number"),
        *(
            (edit_config(**{key: value}), f"config.json has {key} {value}, must be a number from 0 to 1000000")
            for key in ("rope_ratio", "layernorm_epsilon", "attention_dropout")
            for value in (None, "1", [1], True, -1, float("nan"))
        ),
        (edit_config(ffn_hidden_size=41), "dense_h_to_4h.weight has shape (80, 48), must be (82, 48) by config.json"),
        (edit_config(multi_query_group_num=4), "num_attention_heads 6, must be a multiple of 4 groups"),
        (lambda path: (path / "pytorch_model.bin.index.json").write_text("{"), "index.json is no index of weights"),
        *(
            (edit_index(name), f"index.json names {name}, which is not there")
            for name in (1, None, "x" * 300, "../config.json")
        ),
        (edit_config(num_layers=3), "11 weights are missing, first model.layers.2.input_layernorm.weight"),
        (edit_config(num_layers=1), "7 weights have no place in ChatGLM3, first transformer.encoder.layers.1."),
        (edit_weights(**{QKV: None}), "3 weights are missing, first model.layers.1.self_attn.k_proj.weight"),
        (edit_weights(**{QKV: torch.zeros(7, WIDTH)}), "query_key_value.weight has shape (7, 48), must be (80, 48)"),
        (edit_weights(prefix=torch.zeros(1)), "1 weights have no place in ChatGLM3, first prefix"),
        (lambda path: (path / "pytorch_model.bin.index.json").unlink(), "no weights there"),
        (lambda path: (path / "pytorch_model-00002-of-00002.bin").unlink(), "-00002-of-00002.bin, which is not there"),
        (lambda path: torch.save(Runs(), path / "pytorch_model-00001-of-00002.bin"), "cannot be read: "),
        (lambda path: torch.save([1], path / "pytorch_model-00001-of-00002.bin"), "holds something else than tensors"),
        (lambda path: (path / "model.safetensors").write_bytes(b"no"), "model.safetensors cannot be read: "),
        (lambda path: (path / "tokenizer.model").unlink(), "no tokenizer.model there"),
        (lambda path: (path / "tokenizer.model").write_bytes(b"no model"), "tokenizer.model is no SentencePiece"),
        (
            lambda path: (path / "tokenizer.model").write_bytes(
                train_sentencepiece(model_type="unigram", vocab_size=320)
            ),
            "tokenizer.model is no SentencePiece BPE model whose id 2 is </s>",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_and_runs_nothing(
    edit: Callable[[Path], object],
    reason: str,
    copied: Path,
    tiny_parts: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    edit(copied)
    with pytest.raises(InputError) as error:
        build(copied, tiny_parts)
    assert str(error.value).startswith(f"lm_model {copied}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert "code ran" not in capfd.readouterr().out


def test_without_the_packages_of_the_extra_it_says_what_to_install(checkpoint: Path) -> None:
    # an interpreter that finds neither package, as after a plain install
    script = (
        "import sys; from pathlib import Path; from importlib.machinery import PathFinder\n"
        "from r2gengpt.parts.chatglm.tokenizer import chatglm_tokenizer\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = staticmethod(lambda name, *a: None if name[:6] == 'google' else find(name, *a))\n"
        "[sys.modules.pop(name) for name in list(sys.modules) if name.split('.')[0] == 'google']\n"
        "try: chatglm_tokenizer(Path(sys.argv[1]), '--lm_model x')\n"
        "except ValueError as error: print(error)\n"
    )
    file = str(checkpoint / "tokenizer.model")
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=True)
    wanted = "--lm_model x: ChatGLM needs sentencepiece and protobuf (pip install '.[chatglm]' in the clone)"
    assert done.stdout.strip() == wanted


def test_the_sizes_of_chatglm3_6b_make_its_number_of_parameters() -> None:
    sizes = {"num_layers": 28, "padded_vocab_size": 65024, "hidden_size": 4096, "ffn_hidden_size": 13696}
    heads = {"num_attention_heads": 32, "kv_channels": 128, "seq_length": 8192}
    with torch.device("meta"):
        model = GlmForCausalLM(glm_config({**CHATGLM, **sizes, **heads}, "x"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_243_584_000
