"""Tiny random parts in Hugging Face's formats, for our tests and yours. No network, nothing trained."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    ViTImageProcessorPil,
)

CORPUS = (
    "Human: <Img></Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \nAssistant:",
    "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax is seen.",
    "There is an opacity in the left lower lobe. There is an opacity in the right lower lobe.",
    "Mild cardiomegaly with small bilateral effusions; degenerative changes of the thoracic spine.",
)

COMMON = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
"""The sizes of a kind of language model that is not listed."""
LANGUAGE_MODELS: dict[str, dict[str, object]] = {
    "stablelm": {**COMMON, "num_key_value_heads": 4},
    "llama": {**COMMON},
    "gpt_neox": {"num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64},
    "gpt2": {"num_attention_heads": 4, "num_hidden_layers": 2},
    **{kind: {**COMMON} for kind in ("qwen2", "qwen3", "mistral", "phi3", "gemma3_text")},
}
LANGUAGE_MODELS["gemma3_text"] |= {"head_dim": 8, "query_pre_attn_scalar": 8}
LANGUAGE_MODELS["qwen3"] |= {"head_dim": 8}
LANGUAGE_MODELS["phi3"] |= {"pad_token_id": None}  # its default id is beyond a small vocabulary
VISION_MODELS: dict[str, dict[str, object]] = {
    "swin": {
        "image_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "num_channels": 3,
    },
    "vit": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    "dinov2": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
    },
}


def tiny_tokenizer(
    kind: str = "gpt_neox",
    corpus: Iterable[str] = CORPUS,
    *,
    control: Sequence[str] = (),
    chat_template: str | None = None,
    **names: str | None,
) -> PreTrainedTokenizerFast:
    """A small tokenizer trained here, of one of three classes.

    gpt_neox: byte-level BPE whose id 0 is `<|endoftext|>`, both BOS and EOS, no padding token. gpt2: the same, its
    end token last. llama: SentencePiece-like BPE with `<unk>`, `<s>`, `</s>` as ids 0, 1, 2 and byte fallback.

    Args:
        kind: the class.
        corpus: what its words are learnt from.
        control: special tokens to add, as tuned models have.
        chat_template: in Jinja.
        **names: bos_token, eos_token and the like where they differ from the class's.
    """
    if kind == "llama":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", **names}
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>"] if kind == "gpt_neox" else []
        names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", **names}
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=special,
        initial_alphabet=[] if kind == "llama" else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if kind == "gpt2":
        tokenizer.add_special_tokens(["<|endoftext|>"])
    if kind == "llama":
        tokenizer = _with_ordinary_bytes(tokenizer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, chat_template=chat_template, **names
    )


def _with_ordinary_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer whose byte tokens keep their ids but are no special tokens, which decoding would drop."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def tiny_language_model(
    directory: Path,
    kind: str = "stablelm",
    *,
    width: int = 32,
    tokenizer: str | PreTrainedTokenizerFast | None = None,
) -> Path:
    """Save a random causal language model and its tokenizer (one, or a class of `tiny_tokenizer`) below `directory`.

    Returns:
        The path to load.
    """
    target = directory / f"lm-{kind}"
    words = tokenizer or {"llama": "llama", "gpt2": "gpt2"}.get(kind, "gpt_neox")
    words = tiny_tokenizer(words) if isinstance(words, str) else words
    config = CONFIG_MAPPING[kind](
        vocab_size=len(words) + 7,
        hidden_size=width,
        max_position_embeddings=512,
        initializer_range=0.2,  # a frozen head of the usual 0.02 could never be confident at this width
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        **LANGUAGE_MODELS.get(kind, COMMON),
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(target)
    words.save_pretrained(target)
    return target


def tiny_vision_model(directory: Path, kind: str = "swin") -> Path:
    """Save a random vision encoder and its image processor below `directory`; gives the path to load."""
    target = directory / f"vision-{kind}"
    config = CONFIG_MAPPING[kind](**VISION_MODELS[kind])
    AutoModel.from_config(config).save_pretrained(target)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(target)
    return target


def noise_image(seed: int, size: int = 48) -> Image.Image:
    """A grey image of smooth random shapes, mode RGB."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
