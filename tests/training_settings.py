"""RunConfig of small training runs for tests."""

from pathlib import Path
from typing import Any

from conftest import TinySet
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, RunConfig, TrainConfig


def small_run(parts: Path, data: TinySet, directory: Path, *, model: dict[str, Any] | None = None,
              read: dict[str, Any] | None = None, **train: Any) -> RunConfig:  # fmt: skip
    """Two epochs of four batches in float32, validated by loss; keyword arguments change single settings."""
    return RunConfig(
        ModelConfig(
            **{
                "lm_model": str(parts / "lm-stablelm"),
                "vision_model": str(parts / "vision-swin"),
                "llm_use_lora": True,
                "llm_r": 4,
                **(model or {}),
            }
        ),
        DataConfig(
            **{
                "annotation": str(data.annotation),
                "base_dir": str(data.base_dir),
                "dataset": "plain",
                "batch_size": 2,
                **(read or {}),
            }
        ),
        DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=8),
        TrainConfig(
            **{
                "savedmodel_path": str(directory),
                "learning_rate": 1e-2,
                "max_epochs": 2,
                "precision": "32-true",
                "scorer_types": ("val_loss",),
                "weights": (1.0,),
                "num_sanity_val_steps": 0,
                **train,
            }
        ),
    )
