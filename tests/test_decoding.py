"""Penalties by number of beams: chosen on the validation split, kept with the model, used by every door."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import r2gengpt
from conftest import Outcome, TinySet
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.confidence.findings import UNFITTED, write_scales
from r2gengpt.config import DECODE_PRESETS, DecodeConfig, Stored
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch, prompt_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.generation.beams import (
    DECODING,
    ChosenDecoding,
    Decodings,
    Penalties,
    decodings,
    read_chosen,
    write_chosen,
)
from r2gengpt.generation.decode import predict, stream
from r2gengpt.options import Override
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.serving.chat_job import chat_decode
from r2gengpt.serving.chat_request import ChatRequest
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.choosing import TRIED, TRIED_BY_ONE, spread
from r2gengpt.training.run import train
from r2gengpt.training.validation import validation_scores
from test_looks_at_the_image import tiny_pair
from training_settings import small_run

BY_BEAMS, BY_ONE = Penalties(2.0, 0), Penalties(1.0, 4)
STORED: dict[str, Any] = {"dataset": "plain", "beam_size": 3, "repetition_penalty": None, "no_repeat_ngram_size": None}


@pytest.fixture
def chosen(tmp_path: Path) -> Path:
    write_chosen(tmp_path, ChosenDecoding(BY_BEAMS, BY_ONE, studies=8))
    return tmp_path


def of(directory: Path, stored: dict[str, Any] = STORED, **given: Any) -> Decodings:
    asked, preset = Override.of(DecodeConfig, given), given.get("decode_preset")
    kept = Stored.of(stored)
    return decodings(kept.decode, asked, preset, dataset=kept.dataset, directory=directory)


def penalties(decode: DecodeConfig) -> Penalties:
    return Penalties(decode.repetition_penalty, decode.no_repeat_ngram_size)


def test_each_number_of_beams_has_the_penalties_that_were_chosen_for_it(chosen: Path) -> None:
    both = of(chosen)
    assert (both.whole.beam_size, penalties(both.whole)) == (3, BY_BEAMS)
    assert (both.streamed.beam_size, penalties(both.streamed)) == (1, BY_ONE)
    assert of(chosen, beam_size=1).whole == both.streamed


def test_what_the_user_sets_stands_for_whole_and_streamed_texts(chosen: Path) -> None:
    both = of(chosen, repetition_penalty=1.3)
    assert penalties(both.whole) == Penalties(1.3, 0)
    assert penalties(both.streamed) == Penalties(1.3, 4)


def test_the_originals_penalty_reaches_a_stream_neither_from_a_checkpoint_nor_by_its_preset(chosen: Path) -> None:
    trained_by_it = {**STORED, **DECODE_PRESETS["original"]}
    assert penalties(of(chosen, trained_by_it).whole) == Penalties(2.0, 0)
    assert penalties(of(chosen, trained_by_it).streamed) == BY_ONE
    assert penalties(of(chosen / "none", trained_by_it).streamed) == Penalties(1.0, 0), "an older checkpoint"
    by_preset = of(chosen, decode_preset="original")
    assert penalties(by_preset.whole) == Penalties(2.0, 0)
    assert penalties(by_preset.streamed) == BY_ONE


def test_nothing_chosen_leaves_penalties_off_and_an_older_checkpoints_own_as_they_were(tmp_path: Path) -> None:
    assert penalties(of(tmp_path).whole) == penalties(of(tmp_path).streamed) == Penalties()
    older = {**STORED, "repetition_penalty": 1.2, "no_repeat_ngram_size": 4, "beam_size": 1}
    assert penalties(of(tmp_path, older).whole) == Penalties(1.2, 4)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"beams": {"repetition_penalty": -1, "no_repeat_ngram_size": 0}, "one_beam": {}, "studies": 1}'],
)
def test_a_damaged_choice_is_refused_by_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / DECODING).write_text(content)
    with pytest.raises(InputError, match=r"decoding\.json is damaged"):
        read_chosen(tmp_path)


def chat(**fields: Any) -> ChatRequest:
    content = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": content}], **fields})


def test_a_chat_that_streams_or_samples_has_the_penalties_of_one_beam(chosen: Path) -> None:
    both = of(chosen)
    assert penalties(chat_decode(chat(), both.whole, both.streamed)) == BY_BEAMS
    for asked in ({"stream": True}, {"temperature": 0.7}):
        found = chat_decode(chat(**asked), both.whole, both.streamed)
        assert (found.beam_size, penalties(found)) == (1, BY_ONE), asked


def test_validation_studies_are_taken_from_the_whole_split() -> None:
    studies = [Study(str(number), (Path("a.png"),)) for number in range(100)]
    assert [study.id for study in spread(studies, 4)] == ["0", "25", "50", "75"]
    assert spread(studies[:3], 32) == studies[:3]


def test_a_run_keeps_the_best_of_the_penalties_it_tried(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    run = small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1)
    train(replace(run, decode=replace(run.decode, beam_size=2)))
    for part in ("best", "last"):
        found = read_chosen(tmp_path / part)
        assert found is not None
        assert found.studies == 3
        for beams, kept in ((1, found.one_beam), (2, found.beams)):
            scores = {Penalties(t["repetition_penalty"], int(t["no_repeat_ngram_size"])): t["score"]
                      for t in found.trials if t["beams"] == beams}  # fmt: skip
            assert scores[kept] == max(scores.values())
        library = json.loads((tmp_path / part / "generation_config.json").read_text())
        assert library.get("repetition_penalty", 1.0) == found.beams.repetition_penalty
    assert read_settings(tmp_path / "best", "model").flat()["repetition_penalty"] is None


def test_penalties_that_a_run_was_given_are_not_tried_again(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    run = small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1)
    train(replace(run, decode=replace(run.decode, repetition_penalty=1.1, no_repeat_ngram_size=3)))
    found = read_chosen(tmp_path / "best")
    assert found is not None
    assert found.beams == found.one_beam == Penalties(1.1, 3)
    assert not found.trials


def test_penalties_are_tried_with_the_hints_and_openings_that_reports_get_in_use(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Batch] = []

    def watched(model: Any, processor: Any, batches: Iterable[Batch], decode: DecodeConfig) -> Iterator[Report]:
        tried.extend(kept := list(batches))
        return predict(model, processor, kept, decode)

    monkeypatch.setattr("r2gengpt.training.choosing.predict", watched)
    monkeypatch.setattr("r2gengpt.training.ended.read_scales", lambda *_: UNFITTED)
    seeing = {"findings_head": True, "findings_hint": True}
    run = small_run(tiny_parts, tiny_set, tmp_path, model=seeing, max_epochs=1)
    train(replace(run, decode=replace(run.decode, opening="findings")))
    write_scales(tmp_path / "best", UNFITTED)
    reporter = r2gengpt.load(tmp_path / "best", accelerator="cpu", runtime="torch", dtype="float32")
    assert isinstance(reporter, Reporter)
    assert reporter.looker is not None
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("val",))["val"]
    films = StudyDataset(studies, reporter.built.processor, "plain")
    batch = prompt_batch([films[0, place] for place in range(len(studies))], reporter.built.processor)
    wanted, _ = reporter.looker.look(batch)
    assert "Findings:" in reporter.built.processor.tokenizer.decode(wanted.input_ids[0])
    assert any(wanted.openings)
    assert len(tried) == len(TRIED_BY_ONE)
    for one in tried:
        assert one.input_ids.tolist() == wanted.input_ids.tolist()
        assert one.openings == wanted.openings


def test_no_choice_is_made_where_none_is_asked_for(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    train(small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1, choose_decode=0))
    assert not (tmp_path / "best" / DECODING).exists()


def cider(predictions: list[Any]) -> float:
    return validation_scores(predictions, "plain")["cider"]


def test_streamed_texts_are_as_good_as_whole_ones_where_the_originals_penalty_ruins_them(
    tiny_set: TinySet, tmp_path: Path
) -> None:
    """Logits are raised as those of real language models are: no probability changes, but a penalty divides more."""
    parts = tiny_pair(tmp_path / "parts", 64)
    model = {"vision_model": str(parts / "vision-vit"), "alignment": "deep", "llm_r": 32, "llm_alpha": 64,
             "lora_dropout": 0.0}  # fmt: skip
    train(small_run(parts, tiny_set, tmp_path / "run", model=model, read={"batch_size": 8, "max_length": 200},
                    max_epochs=30, gradient_clip_val=1.0, limit_val_batches=0.0))  # fmt: skip
    checkpoint = tmp_path / "run" / "last"
    built, settings = load_checkpoint(checkpoint, where=PlacementConfig(dtype="float32"))
    built.model.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits + 20)
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    dataset = StudyDataset(studies, built.processor, "plain")
    both = of(checkpoint, {**settings.flat(), "max_new_tokens": 60, "beam_size": 3})

    def streamed(decode: DecodeConfig) -> float:
        batches = [prompt_batch([dataset[(0, index)]], built.processor) for index in range(len(studies))]
        return cider([stream(built.model, built.processor, batch, decode, lambda text: None) for batch in batches])

    batches = [prompt_batch([dataset[(0, index)] for index in range(len(studies))], built.processor)]
    whole = cider(list(predict(built.model, built.processor, batches, both.whole)))
    assert streamed(both.streamed) > 0.9 * whole
    assert streamed(replace(both.streamed, repetition_penalty=2.0)) < 0.7 * whole


def test_the_preset_stands_for_its_flags_and_other_flags_win_over_it(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    command = ["generate", str(tiny_set.base_dir / "test0_0.png"), "--model", str(tiny_checkpoint)]
    spelt = [word for name, value in DECODE_PRESETS["original"].items() for word in (f"--{name}", str(value))]
    preset = ["--decode_preset", "original"]
    assert run_cli([*command, *preset]).stdout == run_cli([*command, *spelt]).stdout
    assert run_cli([*command, *preset, "--beam_size", "1"]).stdout == run_cli([*command, "--stream"]).stdout
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"decode_preset": "nosuch"}))
    refused = run_cli([*command, "--config", str(config)])
    assert "--decode_preset nosuch: choose from original" in refused.stderr


def test_all_tried_penalties_are_settings_that_decode() -> None:
    for one in TRIED:
        DecodeConfig(**asdict(one))
