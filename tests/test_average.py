"""The mean of trainings of what sees (runs/embedded/average.py)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

SCRIPT = Path(__file__).parents[1] / "runs" / "embedded" / "average.py"
LAYER = "vision_tower.layer.0.fc1"
DOWN, UP = f"{LAYER}.lora_A.default.weight", f"{LAYER}.lora_B.default.weight"


def write_run(directory: Path, seed: int, alpha: int = 4) -> dict[str, Tensor]:
    """A checkpoint as far as the script reads it; one layer of 6 × 8 with LoRA of rank 2."""
    chance = torch.Generator().manual_seed(seed)
    tensors = {
        DOWN: torch.randn(2, 8, generator=chance),
        UP: torch.randn(6, 2, generator=chance),
        "finding_head.bias": torch.randn(3, generator=chance),
    }
    directory.mkdir()
    save_file(tensors, directory / "delta.safetensors", {"format": "r2gengpt-delta-1"})
    (directory / "config.json").write_text(json.dumps({"vis_r": 2, "vis_alpha": alpha, "image_size": 28}))
    for name in ("findings.json", "processor_config.json"):
        (directory / name).write_text("{}")
    return tensors


def averaged(tmp_path: Path, rank: int, *names: str) -> dict[str, Tensor]:
    words = ["--models", *names, "--rank", str(rank), "--output", "mean"]
    subprocess.run([sys.executable, SCRIPT, *words], cwd=tmp_path, check=True, capture_output=True)
    found: dict[str, Tensor] = load_file(tmp_path / "mean" / "delta.safetensors")
    return found


def test_updates_are_averaged_by_their_products_and_heads_by_themselves(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one", 1), write_run(tmp_path / "other", 2, alpha=2)
    found = averaged(tmp_path, 4, "one", "other")
    torch.testing.assert_close(found[UP] @ found[DOWN], (2 * one[UP] @ one[DOWN] + other[UP] @ other[DOWN]) / 2)
    torch.testing.assert_close(found["finding_head.bias"], (one["finding_head.bias"] + other["finding_head.bias"]) / 2)
    settings = json.loads((tmp_path / "mean" / "config.json").read_text())
    assert settings == {"vis_r": 4, "vis_alpha": 4, "image_size": 28}
    with safe_open(tmp_path / "mean" / "delta.safetensors", "pt") as file:
        assert file.metadata() == {"format": "r2gengpt-delta-1"}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_smaller_rank_keeps_the_largest_singular_values(tmp_path: Path, rank: int) -> None:
    one, other = write_run(tmp_path / "one", 1), write_run(tmp_path / "other", 2)
    found = averaged(tmp_path, rank, "one", "other")
    assert found[DOWN].shape == (rank, 8)
    assert found[UP].shape == (6, rank)
    u, values, v = torch.linalg.svd(one[UP] @ one[DOWN] + other[UP] @ other[DOWN], full_matrices=False)
    best = u[:, :rank] * values[:rank] @ v[:rank]
    torch.testing.assert_close(found[UP] @ found[DOWN], best, rtol=1e-4, atol=1e-4)
