"""Checkpoints of a language model of real size with random weights, for the benchmarks that need one. Times nothing.

The bfloat16 checkpoint is written layer by layer; `r2gengpt quantize` makes the others of it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    StableLmConfig,
    SwinConfig,
    ViTImageProcessorPil,
)

from r2gengpt.testing import tiny_tokenizer

FORMS = {
    "bfloat16": [],
    "int8": ["--quantization", "int8"],
    "nf4": ["--quantization", "nf4"],
    "nf4 double": ["--quantization", "nf4", "--double_quant", "True"],
}
"""Kind of weights, as the plan names it → flags of `r2gengpt quantize`; none for the one written first."""


def stablelm_config(options: argparse.Namespace, words: Any) -> StableLmConfig:
    return StableLmConfig(
        vocab_size=50304,
        hidden_size=options.hidden_size,
        intermediate_size=options.intermediate_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=4096,
        bos_token_id=words.eos_token_id,
        eos_token_id=words.eos_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    )


def tokenizer() -> Any:
    """The real GPT-NeoX tokenizer where R2GENGPT_SHARED has it, else a tiny one."""
    file = Path(os.environ.get("R2GENGPT_SHARED", "")) / "tokenizers" / "gpt_neox_20b" / "tokenizer.json"
    if not file.is_file():
        return tiny_tokenizer()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), bos_token=end, eos_token=end)


def grouped(shapes: dict[str, torch.Size]) -> Iterator[list[str]]:
    """Names that belong into one file: a layer's, or a tensor outside the layers."""
    groups: dict[str, list[str]] = {}
    for name in shapes:
        key = ".".join(name.split(".")[:3]) if ".layers." in name else name
        groups.setdefault(key, []).append(name)
    yield from groups.values()


def write_random(config: Any, words: Any, directory: Path) -> None:
    """A checkpoint in bfloat16, one layer in memory at a time: matrices normal (0.02), norms one, biases zero."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    directory.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(grouped(shapes)):
        file = f"model-{number:05}.safetensors"
        tensors = {}
        for name in names:
            tensor = torch.empty(shapes[name], dtype=torch.bfloat16, device=device)
            constant = 0.0 if name.endswith("bias") else 1.0
            tensors[name] = (tensor.normal_(std=0.02) if tensor.ndim > 1 else tensor.fill_(constant)).cpu()
        safetensors.torch.save_file(tensors, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    size = sum(2 * shape.numel() for shape in shapes.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    model.config.save_pretrained(directory)
    words.save_pretrained(directory)


def write_vision(options: argparse.Namespace, directory: Path) -> None:
    width = options.vision_width
    config = SwinConfig(
        embed_dim=width,
        depths=[2, 2, options.vision_depth, 2],
        num_heads=[width // 32 * 2**stage for stage in range(4)],
        image_size=224,
        window_size=7,
    )
    AutoModel.from_config(config).save_pretrained(directory)
    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(directory)


def add_size_flags(parser: argparse.ArgumentParser) -> None:
    """The sizes, StableLM-3B-4E1T's and Swin-B's unless told otherwise, and the place of the checkpoints."""
    for name, value in (
        ("hidden_size", 2560),
        ("intermediate_size", 6912),
        ("layers", 32),
        ("heads", 32),
        ("vision_width", 128),
        ("vision_depth", 18),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"size of the random model ({value})")
    parser.add_argument("--directory", type=Path, help="where checkpoints are kept (default: a temporary one)")


def prepare(options: argparse.Namespace, forms: Sequence[str]) -> None:
    """Write what is not there yet below `options.directory`: the vision encoder, bfloat16 and the other forms."""
    words = tokenizer()
    if not (options.directory / "vision").is_dir():
        write_vision(options, options.directory / "vision")
    if not (options.directory / "bfloat16").is_dir():
        write_random(stablelm_config(options, words), words, options.directory / "bfloat16")
    for form in forms:
        output = options.directory / form.replace(" ", "-")
        if not output.is_dir():
            words = ["--lm_model", str(options.directory / "bfloat16"), *FORMS[form], "--output", str(output)]
            run_python(["-c", "from r2gengpt.cli.main import main; main()", "quantize", *words])


def run_python(words: list[str]) -> str:
    return subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True).stdout
