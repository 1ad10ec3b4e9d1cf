"""A finished run to the checkpoint that ships in the package: rounded weights, decode settings, neutral paths, card.

Not a training step: which epoch and which decode settings are right was chosen on the val split before.

    python runs/embedded/ship.py --run OUT/run --card runs/embedded/CARD.md --output src/r2gengpt/embedded
"""

import argparse
import dataclasses
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from r2gengpt.checkpoint import DELTA, find_checkpoint, read_settings
from r2gengpt.config import DecodeConfig
from r2gengpt.data.files import whole_directory

DECODE = DecodeConfig(
    beam_size=3,
    length_penalty=2.0,
    repetition_penalty=1.0,
    no_repeat_ngram_size=4,
    min_new_tokens=0,
    max_new_tokens=80,
)
"""Chosen on the val split (docs/log.md)."""
NEUTRAL = {
    "annotation": "covid_cxr/annotation.json",
    "base_dir": "covid_cxr/images",
    "savedmodel_path": "save/embedded",
}


def ship(run: str, card: Path, output: Path) -> None:
    """Write the directory whole; statistics stay float32, trained weights become bfloat16 (half the bytes)."""
    source = find_checkpoint(run, "--run")
    settings = {**read_settings(source, "--run"), **NEUTRAL, **dataclasses.asdict(DECODE)}
    tensors = safetensors.torch.load_file(source / DELTA)
    rounded = {name: t if ".norm_in." in name else t.to(torch.bfloat16) for name, t in tensors.items()}
    with safe_open(source / DELTA, "pt") as file:
        metadata = file.metadata()
    generation = json.loads((source / "generation_config.json").read_text(encoding="utf-8"))
    generation |= {
        "num_beams": DECODE.beam_size,
        "length_penalty": DECODE.length_penalty,
        "repetition_penalty": DECODE.repetition_penalty,
        "no_repeat_ngram_size": DECODE.no_repeat_ngram_size,
        "min_new_tokens": DECODE.min_new_tokens,
        "max_new_tokens": DECODE.max_new_tokens,
    }
    with whole_directory(output) as target:
        safetensors.torch.save_file(rounded, target / DELTA, metadata=metadata)
        (target / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        (target / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n", encoding="utf-8")
        (target / "processor_config.json").write_bytes((source / "processor_config.json").read_bytes())
        (target / "README.md").write_bytes(card.read_bytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="finished run or checkpoint directory")
    parser.add_argument("--card", type=Path, required=True, help="model card to put beside the weights")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    arguments = parser.parse_args()
    ship(arguments.run, arguments.card, arguments.output)
