"""Eight studies learnt by heart: generated text equals each reference and ends by the end token."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.data.annotation import read_annotation
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.training.run import train
from reporters import reporter_of
from test_looks_at_the_image import tiny_pair
from training_settings import small_run

SHARED = os.environ.get("R2GENGPT_SHARED")


def assert_memorised(data: TinySet, directory: Path) -> None:
    parts = tiny_pair(directory / "parts", 64)
    settings = small_run(
        parts,
        data,
        directory / "run",
        model={"vision_model": str(parts / "vision-vit"), "alignment": "deep", "llm_r": 32, "llm_alpha": 64,
               "lora_dropout": 0.0},
        read={"batch_size": 8, "max_length": 200},
        max_epochs=90,
        gradient_clip_val=1.0,
        limit_val_batches=0.0,
    )  # fmt: skip
    train(settings, FLOAT32)
    built, _ = load_checkpoint(directory / "run" / "last", where=FLOAT32)
    decode = replace(settings.decode, repetition_penalty=1.0, max_new_tokens=200)
    studies = read_annotation(data.annotation, data.base_dir, ("train",))["train"]
    predictions = predict_studies(reporter_of(built, decode), Evaluation(studies, (), "plain", batch_size=8))
    assert len({study.report for study in studies}) == 8
    for prediction in predictions:
        assert prediction.text == prediction.reference
        assert prediction.finish == "stop"


def test_eight_studies_are_memorised_word_for_word_and_end_by_the_end_token(tiny_set: TinySet, tmp_path: Path) -> None:
    assert_memorised(tiny_set, tmp_path)


@pytest.mark.skipif(SHARED is None, reason="needs real studies: set R2GENGPT_SHARED")
def test_eight_real_studies_are_memorised(tmp_path: Path) -> None:
    assert SHARED is not None
    source = Path(SHARED) / "covid_cxr"
    chosen: dict[str, dict[str, Any]] = {}
    for study in json.loads((source / "annotation.json").read_text(encoding="utf-8"))["train"]:
        if 40 < len(study["report"]) < 220:
            chosen.setdefault(study["report"], study)
    train_split = list(chosen.values())[:8]
    validation = [{**study, "id": f"val-{study['id']}"} for study in train_split[:1]]
    annotation = tmp_path / "annotation.json"
    annotation.write_text(json.dumps({"train": train_split, "val": validation}), encoding="utf-8")
    assert_memorised(TinySet(annotation, source / "images"), tmp_path)
