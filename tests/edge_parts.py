"""Tiny checkpoints of every family, and what PyTorch writes with them. No test stands here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint, save_checkpoint
from r2gengpt.confidence.findings import Scale, write_scales
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig
from r2gengpt.data.batches import prompt_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.study import Study
from r2gengpt.generation.decode import predict
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.report import Report
from r2gengpt.testing import noise_image, tiny_vision_model
from r2gengpt.text.observations import ALL_OBSERVATIONS
from reporters import stored_of
from tiny_families import write_family

DECODE = DecodeConfig(beam_size=1, min_new_tokens=6, max_new_tokens=20, repetition_penalty=1.3, no_repeat_ngram_size=2)
BEAMS = DecodeConfig(beam_size=3, min_new_tokens=2, max_new_tokens=14, repetition_penalty=1.0, length_penalty=1.0)


def write_films(directory: Path, count: int = 2) -> list[Path]:
    """Views of one study, of different sizes."""
    paths = [directory / f"view{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        noise_image(number, 48 + 40 * number).save(path)
    return paths


def trained_checkpoint(
    directory: Path, family: str, vision: str = "swin", *, window: int | None = None, **changes: Any
) -> Path:
    """A checkpoint whose trained tensors are random, with LoRA on the language model unless changed.

    `window` is how many positions back sliding layers see; None as the family has it.
    """
    torch.manual_seed(0)
    settings: dict[str, Any] = {"llm_use_lora": True, **changes}
    lm_model, vision_model = write_family(directory, family), tiny_vision_model(directory, vision)
    if window is not None:
        file = lm_model / "config.json"
        stored = json.loads(file.read_text())
        stored.get("text_config", stored)["sliding_window"] = window
        file.write_text(json.dumps(stored))
    config = ModelConfig(lm_model=str(lm_model), vision_model=str(vision_model), **settings)
    built = build_model(config, FLOAT32)
    with torch.no_grad():
        for parameter in built.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    save_checkpoint(directory / "ours", built, stored_of(config, DataConfig(dataset="plain"), DECODE), "# Card\n")
    return directory / "ours"


def checkpoint_with_head(directory: Path, family: str, vision: str = "swin", **changes: Any) -> Path:
    """As `trained_checkpoint`, with a finding head that tells films apart, its scales beside it, and with hints."""
    settings = {"findings_head": True, "findings_hint": True, **changes}
    checkpoint = trained_checkpoint(directory, family, vision, **settings)
    tensors = load_file(checkpoint / "delta.safetensors")
    for name in ("reading", "mean_reading"):
        tensors[f"finding_head.{name}"] *= 10
    save_file(tensors, checkpoint / "delta.safetensors")
    read: dict[str, Any] = {"slope": 0.8, "intercept": -0.1, "variance": (0.01, 0.0, 0.02)}
    scales = [
        Scale(name, likely=0.3, unlikely=-0.3, assessed=at % 3 == 0, **read) for at, name in enumerate(ALL_OBSERVATIONS)
    ]
    write_scales(checkpoint, scales)
    return checkpoint


def written_by_torch(checkpoint: Path, films: list[Path], decode: DecodeConfig) -> Report:
    """The report of the program's own decoder in float32."""
    built, _ = load_checkpoint(checkpoint, where=FLOAT32)
    return predicted(built, films, decode)


def predicted(built: Built, films: list[Path], decode: DecodeConfig) -> Report:
    """The report that a loaded model writes."""
    example = StudyDataset([Study("study", tuple(films))], built.processor, "plain")[(0, 0)]
    batch = prompt_batch([example], built.processor)
    (prediction,) = predict(built.model, built.processor, [batch], decode)
    return prediction


def rounded(prediction: Report) -> Report:
    """Log-probabilities without their last digits, which another order of sums changes."""
    sentences = tuple(replace(sentence, logprob=round(sentence.logprob, 3)) for sentence in prediction.sentences)
    return replace(prediction, logprob=round(prediction.logprob, 3), sentences=sentences)
