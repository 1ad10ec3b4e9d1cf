"""The mean of several trainings of what sees, as one: the encoder's LoRA updates are averaged, and so are the heads.

    python runs/embedded/average.py --models save/head-0 save/head-1 --rank 32 --output save/mean

Each layer's update is the mean of the runs' B·A, cut to `rank` by its singular values: with rank 16 each, two runs lose
nothing at 32. Train it on for a few steps at a low rate, so that head and scales fit it.
Source: Wortsman et al., "Model soups", arXiv 2203.05482.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from r2gengpt.checkpoint_files import CONFIG, DELTA, find_checkpoint
from r2gengpt.files import whole_directory

DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"


def mean_of(updates: Sequence[tuple[Tensor, Tensor]], rank: int) -> tuple[Tensor, Tensor]:
    """Factors of the mean of some updates B·A, each as large as the other.

    Args:
        updates: A, (r, in), and B, (out, r), of each run, scaled by alpha / r.
        rank: R; what is smaller than the R largest singular values is lost.

    Returns:
        (R, in) and (out, R).
    """
    down = torch.cat([one for one, _ in updates]).double()
    up = torch.cat([one for _, one in updates], 1).double() / len(updates)
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(upper @ lower.T)
    root = values[:rank].sqrt()
    return (root[:, None] * (v[:rank] @ right.T)).float(), (left @ u[:, :rank] * root).float()


def main() -> None:
    """Write the mean as a checkpoint that `train --ckpt_file` goes on from."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="runs of the same settings")
    parser.add_argument("--rank", type=int, required=True, help="of the mean's LoRA")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    args = parser.parse_args()
    sources = [find_checkpoint(str(one), "--models") for one in args.models]
    settings = [json.loads((one / CONFIG).read_text(encoding="utf-8")) for one in sources]
    scales = [one["vis_alpha"] / one["vis_r"] for one in settings]
    tensors = [load_file(one / DELTA) for one in sources]
    kept: dict[str, Tensor] = {}
    for name, first in tensors[0].items():
        if name.endswith(DOWN):
            other = name.removesuffix(DOWN) + UP
            updates = [
                (one[name].float(), scale * one[other].float()) for one, scale in zip(tensors, scales, strict=True)
            ]
            kept[name], kept[other] = mean_of(updates, args.rank)
        elif not name.endswith(UP):
            kept[name] = torch.stack([one[name].float() for one in tensors]).mean(0).to(first.dtype)
    with safe_open(sources[0] / DELTA, "pt") as file:
        metadata = file.metadata()
    with whole_directory(args.output) as target:
        save_file({name: one.contiguous() for name, one in kept.items()}, target / DELTA, metadata)
        changed = settings[0] | {"vis_r": args.rank, "vis_alpha": args.rank}
        (target / CONFIG).write_text(json.dumps(changed, indent=1) + "\n", encoding="utf-8")
        for file_name in ("findings.json", "processor_config.json"):
            shutil.copy(sources[0] / file_name, target)
    print(f"mean of {len(sources)} trainings, rank {args.rank}: {args.output}")


if __name__ == "__main__":
    main()
