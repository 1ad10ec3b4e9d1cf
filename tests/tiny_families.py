"""Tiny random checkpoints of every family of language models, tuned ones with chat templates of their formats."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from r2gengpt.testing import CORPUS, tiny_language_model, tiny_tokenizer

ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if thinking and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
INST = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content | trim }} [/INST]{% endfor %}"
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class TinyFamily:
    """A model to make, and what its prompt must be: `opens` are the first tokens, `end` is what ends a report."""

    kind: str
    tokenizer: str
    prompt: str
    opens: str | None
    end: str
    control: tuple[str, ...] = ()
    chat_template: str | None = None
    names: tuple[tuple[str, str | None], ...] = ()


IMAGE = "<Img><ImageHere></Img> {instruction}"
PLAIN = f"Human: {IMAGE} \nAssistant:"
TINY_FAMILIES = {
    "StableLM-3B-4E1T": TinyFamily("stablelm", "gpt_neox", PLAIN, "<|endoftext|>", "<|endoftext|>"),
    "Zephyr-3B": TinyFamily(
        "stablelm", "gpt_neox", f"<|user|>\n{IMAGE}<|endoftext|>\n<|assistant|>\n", None, "<|endoftext|>",
        control=("<|user|>", "<|assistant|>"), chat_template=ZEPHYR,
    ),
    "StableLM-Base-Alpha": TinyFamily("gpt_neox", "gpt_neox", PLAIN, "<|endoftext|>", "<|endoftext|>"),
    "StableLM-Tuned-Alpha": TinyFamily(
        "gpt_neox", "gpt_neox", f"<|USER|>{IMAGE}<|ASSISTANT|>", "<|endoftext|>", "<|endoftext|>",
        control=("<|USER|>", "<|ASSISTANT|>"),
    ),
    "Llama-2": TinyFamily("llama", "llama", PLAIN, "<s>", "</s>"),
    "Llama-2-chat": TinyFamily("llama", "llama", f"[INST] {IMAGE} [/INST]", "<s>", "</s>", chat_template=INST),
    "Llama-3-Instruct": TinyFamily(
        "llama", "gpt2",
        "<|start_header_id|>user<|end_header_id|>\n\n" + IMAGE
        + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|begin_of_text|>", "<|eot_id|>",
        control=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        chat_template=HEADERS, names=(("bos_token", "<|begin_of_text|>"), ("eos_token", "<|eot_id|>")),
    ),
    "Gemma-3-it": TinyFamily(
        "gemma3_text", "llama", f"<start_of_turn>user\n{IMAGE}<end_of_turn>\n<start_of_turn>model\n", "<s>",
        "<end_of_turn>", control=("<start_of_turn>", "<end_of_turn>"), chat_template=TURNS,
    ),
    "ChatGLM3": TinyFamily("chatglm", "sentencepiece", f"<|user|>\n {IMAGE}<|assistant|>", "[gMASK]sop", "</s>"),
    "Qwen2.5-Instruct": TinyFamily(
        "qwen2", "gpt2", f"<|im_start|>user\n{IMAGE}<|im_end|>\n<|im_start|>assistant\n", None, "<|im_end|>",
        control=("<|im_start|>", "<|im_end|>"), chat_template=CHATML,
        names=(("bos_token", None), ("eos_token", "<|im_end|>")),
    ),
    "Qwen3": TinyFamily(
        "qwen3", "gpt2",
        f"<|im_start|>user\n{IMAGE}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", None, "<|im_end|>",
        control=("<|im_start|>", "<|im_end|>"), chat_template="{% set thinking = true %}" + CHATML,
        names=(("bos_token", None), ("eos_token", "<|im_end|>")),
    ),
    "Mistral-Instruct": TinyFamily("mistral", "llama", f"[INST] {IMAGE} [/INST]", "<s>", "</s>", chat_template=INST),
    "Phi-3": TinyFamily(
        "phi3", "llama", f"<|user|>\n{IMAGE}<|end|>\n<|assistant|>\n", None, "<|end|>",
        control=("<|user|>", "<|assistant|>", "<|end|>"), chat_template=PHI,
    ),
}  # fmt: skip
"""Name of a public model → the tiny one of its kind."""


def write_family(directory: Path, name: str) -> Path:
    """Save the tiny model of a family; gives the path to load."""
    family = TINY_FAMILIES[name]
    if family.kind == "chatglm":
        write_chatglm(directory)
        return directory
    words = tiny_tokenizer(
        family.tokenizer, control=family.control, chat_template=family.chat_template, **dict(family.names)
    )
    path = tiny_language_model(directory, family.kind, tokenizer=words)
    return add_eyes(directory, path) if family.kind == "gemma3_text" else path


def add_eyes(directory: Path, text: Path) -> Path:
    """A Gemma 3 text model as Gemma 3 is published from 4B on: inside a model that also sees."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    language = AutoModelForCausalLM.from_pretrained(text)
    eyes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Gemma3Config(
        text_config=language.config.to_dict(),
        vision_config={**eyes, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    model = Gemma3ForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.save_pretrained(directory / "with-eyes")
    AutoTokenizer.from_pretrained(text).save_pretrained(directory / "with-eyes")
    return directory / "with-eyes"


LAYERS, WIDTH, HEADS, GROUPS, CHANNELS, INNER, ROWS = 2, 48, 6, 2, 8, 40, 512
QUERY, KEY = HEADS * CHANNELS, GROUPS * CHANNELS
CHATGLM: dict[str, Any] = {
    "model_type": "chatglm",
    "auto_map": {"AutoConfig": "configuration_chatglm.ChatGLMConfig"},
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "ffn_hidden_size": INNER,
    "hidden_size": WIDTH,
    "kv_channels": CHANNELS,
    "layernorm_epsilon": 1e-3,  # large enough to be seen in the logits
    "multi_query_attention": True,
    "multi_query_group_num": GROUPS,
    "num_attention_heads": HEADS,
    "num_layers": LAYERS,
    "original_rope": True,
    "padded_vocab_size": ROWS,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 256,
    "tie_word_embeddings": False,
}
"""The `config.json` of a tiny ChatGLM3."""


def chatglm_weights() -> dict[str, Tensor]:
    """Random weights under ChatGLM3's names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 0.25) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    weights = {
        "transformer.embedding.word_embeddings.weight": draw(ROWS, WIDTH, scale=1.0),
        "transformer.rotary_pos_emb.inv_freq": torch.ones(CHANNELS // 4),
        "transformer.encoder.final_layernorm.weight": 1 + draw(WIDTH),
        "transformer.output_layer.weight": draw(ROWS, WIDTH),
    }
    for layer in range(LAYERS):
        at = f"transformer.encoder.layers.{layer}."
        weights |= {
            f"{at}input_layernorm.weight": 1 + draw(WIDTH),
            f"{at}post_attention_layernorm.weight": 1 + draw(WIDTH),
            f"{at}self_attention.query_key_value.weight": draw(QUERY + 2 * KEY, WIDTH),
            f"{at}self_attention.query_key_value.bias": draw(QUERY + 2 * KEY),
            f"{at}self_attention.dense.weight": draw(WIDTH, QUERY),
            f"{at}mlp.dense_h_to_4h.weight": draw(2 * INNER, WIDTH),
            f"{at}mlp.dense_4h_to_h.weight": draw(WIDTH, INNER),
        }
    return weights


def train_sentencepiece(**options: Any) -> bytes:
    """A SentencePiece model file as ChatGLM3's, small."""
    model = io.BytesIO()
    settings: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 420,
        "byte_fallback": True,
        "character_coverage": 1.0,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 3,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=model, **settings | options)
    return model.getvalue()


def write_chatglm(directory: Path) -> None:
    """A random ChatGLM3 in the layout of `zai-org/chatglm3-6b`: pickled shards and their index."""
    weights = chatglm_weights()
    names = sorted(weights)
    shards = {f"pytorch_model-0000{part + 1}-of-00002.bin": names[part::2] for part in range(2)}
    for file, held in shards.items():
        torch.save({name: weights[name] for name in held}, directory / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(CHATGLM))
    (directory / "tokenizer.model").write_bytes(train_sentencepiece())
