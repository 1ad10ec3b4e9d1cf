"""A finished run to the checkpoint that ships in the package: rounded weights, decode settings, card.

Not a training step: which epoch and which decode settings are right was chosen on the val split before.

    python runs/embedded/ship.py --run OUT/reports --card runs/embedded/CARD.md --output src/r2gengpt/embedded
"""

import argparse
import json
import shutil
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from r2gengpt.checkpoint_files import DELTA, find_checkpoint
from r2gengpt.files import whole_directory

DECODE = {"beam_size": 1, "max_new_tokens": 110, "opening": "findings"}
"""One beam, so that a stream reads the same; no report learnt from is longer; the writer alone passes over the head."""
EXACT = (".norm_in.", "finding_head.")
"""What stays in float32: statistics, and the head that scales are fitted to."""
BESIDE = ("processor_config.json", "findings.json", "film_guard.npz")


def ship(run: str, card: Path, output: Path) -> None:
    """Write the directory whole; other trained weights become bfloat16, half the bytes."""
    source = find_checkpoint(run, "--run")
    settings = json.loads((source / "config.json").read_text(encoding="utf-8")) | DECODE
    tensors = safetensors.torch.load_file(source / DELTA)
    kept = {n: t if any(part in f".{n}" for part in EXACT) else t.to(torch.bfloat16) for n, t in tensors.items()}
    with safe_open(source / DELTA, "pt") as file:
        metadata = file.metadata()
    generation = json.loads((source / "generation_config.json").read_text(encoding="utf-8"))
    generation |= {"num_beams": DECODE["beam_size"], "max_new_tokens": DECODE["max_new_tokens"]}
    with whole_directory(output) as target:
        safetensors.torch.save_file(kept, target / DELTA, metadata=metadata)
        for name, content in (("config.json", settings), ("generation_config.json", generation)):
            (target / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for name in BESIDE:
            shutil.copyfile(source / name, target / name)
        shutil.copyfile(card, target / "README.md")
        shutil.copyfile(card.with_name("calibration.svg"), target / "calibration.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="finished run or checkpoint directory")
    parser.add_argument("--card", type=Path, required=True, help="model card to put beside the weights")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    arguments = parser.parse_args()
    ship(arguments.run, arguments.card, arguments.output)
