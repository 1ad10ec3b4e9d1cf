"""Supervised checkpoints and runs of reinforcement for tests. No test stands here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import TinySet
from r2gengpt.config import ReinforceConfig, RunConfig
from training_settings import small_run


def reinforced_run(
    parts: Path, data: TinySet, directory: Path, start: Path, *, how: dict[str, Any] | None = None, **train: Any
) -> RunConfig:
    """Two epochs of four batches of two studies, two samples each, chosen by reward."""
    run = small_run(
        parts,
        data,
        directory,
        **{
            "stage": "reinforce",
            "ckpt_file": str(start),
            "scorer_types": ("reward",),
            "choose_decode": 0,
            **train,
        },
    )
    return replace(run, reinforce=ReinforceConfig(**{"samples_per_study": 2, **(how or {})}))
