"""The decode path and the generate command: settings act, batches and streams agree, probabilities are right."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet, without_logprobs
from placements import FLOAT32
from r2gengpt import __version__
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import DecodeConfig
from r2gengpt.data.batches import Batch, Example, prompt_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.generation.decode import predict, stream
from r2gengpt.generation.library import CallbackStreamer, counted_tokens, generation_config, written_by_generate
from r2gengpt.generation.prompts import image_features
from r2gengpt.parts.assemble import Built
from r2gengpt.report import Report, Sentence
from r2gengpt.testing import noise_image
from r2gengpt.text.sentences import tidy_report

GREEDY = DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=16, repetition_penalty=1.0)


@pytest.fixture(scope="module")
def built(tiny_checkpoint: Path) -> Built:
    return load_checkpoint(tiny_checkpoint, where=FLOAT32)[0]


@dataclass(frozen=True)
class Ending:
    """A model whose end symbol is an ordinary token, and the number of tokens after which it ends study a."""

    built: Built
    tokens: int


@pytest.fixture(scope="module")
def known(tiny_checkpoint: Path) -> Ending:
    loaded, _ = load_checkpoint(tiny_checkpoint, where=FLOAT32)
    words = loaded.processor.tokenizer
    settings = generation_config(GREEDY, loaded.processor)
    new = loaded.model.generate(**batch(loaded, a=(1,)).inputs(), generation_config=settings)[0].tolist()
    at = next(
        index
        for index, token in enumerate(new)
        if index >= 2 and token not in new[:index] and loaded.processor.encode_text(words.decode(token)) == [token]
    )
    loaded.processor.end_sym = words.decode(new[at])
    return Ending(loaded, at + 1)


@pytest.fixture
def ending(known: Ending) -> Built:
    return known.built


def batch(built: Built, **studies: tuple[int, ...]) -> Batch:
    examples = [
        Example(name, built.processor.pixels([noise_image(seed) for seed in seeds]), "", f"reference {name}")
        for name, seeds in studies.items()
    ]
    return prompt_batch(examples, built.processor)


def one(built: Built, decode: DecodeConfig, seeds: tuple[int, ...] = (1,)) -> Report:
    (prediction,) = predict(built.model, built.processor, [batch(built, a=seeds)], decode)
    return prediction


def new_ids(built: Built, decode: DecodeConfig) -> list[int]:
    settings = generation_config(decode, built.processor)
    return built.model.generate(**batch(built, a=(1,)).inputs(), generation_config=settings)[0].tolist()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("model", ["built", "ending"])
def test_a_batch_of_two_gives_what_two_batches_of_one_give(
    model: str, beams: int, request: pytest.FixtureRequest
) -> None:
    tiny: Built = request.getfixturevalue(model)
    decode = DecodeConfig(beam_size=beams, min_new_tokens=0, max_new_tokens=16, repetition_penalty=1.2)
    studies = {"a": (1,), "b": (2, 3), "c": (4,)}
    together = list(predict(tiny.model, tiny.processor, [batch(tiny, **studies)], decode))
    alone = list(predict(tiny.model, tiny.processor, [batch(tiny, **{k: v}) for k, v in studies.items()], decode))
    assert [p.id for p in together] == ["a", "b", "c"]
    assert len({p.text for p in together}) == 3
    for left, right in zip(together, alone, strict=True):
        assert left.logprob == pytest.approx(right.logprob, abs=1e-5)  # float32, summed in batches of another shape
        assert without_logprobs(left.to_prediction()) == without_logprobs(right.to_prediction())


def test_a_report_that_ends_counts_its_end_token_and_says_stop(ending: Built, known: Ending) -> None:
    found = {p.id: p for p in predict(ending.model, ending.processor, [batch(ending, a=(1,), b=(2, 3))], GREEDY)}
    assert (found["a"].tokens, found["a"].finish) == (known.tokens, "stop")
    assert (found["b"].tokens, found["b"].finish) == (16, "length")
    assert found["a"].text
    assert ending.processor.end_sym not in found["a"].text


@pytest.mark.parametrize("model", ["built", "ending"])
@torch.no_grad()
def test_the_log_probability_is_the_mean_over_new_tokens_computed_by_hand(
    model: str, request: pytest.FixtureRequest
) -> None:
    tiny: Built = request.getfixturevalue(model)
    decode = DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=16, repetition_penalty=1.5)
    study = batch(tiny, a=(1,))
    ids = tiny.model.generate(**study.inputs(), generation_config=generation_config(decode, tiny.processor))[0]
    embeds = tiny.model.embed_inputs(study.input_ids, study.pixel_values, study.view_mask, None)
    found = []
    for token in ids:
        logits = tiny.model.language_model(inputs_embeds=embeds).logits[0, -1]
        found.append(float(logits.log_softmax(-1)[token]))
        embeds = torch.cat([embeds, tiny.model.get_input_embeddings()(token.view(1, 1))], dim=1)
    prediction = one(tiny, decode)
    assert prediction.tokens == len(ids)
    assert prediction.logprob == pytest.approx(sum(found) / len(found), abs=1e-5)


def test_tokens_count_up_to_and_including_the_first_end_token() -> None:
    new = torch.tensor([[5, 0, 0, 0], [5, 6, 7, 0], [5, 6, 7, 8]])
    assert counted_tokens(new, 0).sum(1).tolist() == [2, 4, 4]


def test_min_and_max_new_tokens_bound_the_report(ending: Built, known: Ending) -> None:
    assert one(ending, GREEDY).tokens == known.tokens
    longer = one(ending, replace(GREEDY, min_new_tokens=known.tokens + 3, max_new_tokens=known.tokens + 3))
    assert longer.tokens == known.tokens + 3
    shorter = one(ending, replace(GREEDY, max_new_tokens=known.tokens - 1))
    assert (shorter.tokens, shorter.finish) == (known.tokens - 1, "length")


def test_no_repeat_ngram_size_forbids_the_second_occurrence(built: Built) -> None:
    def pairs(ids: list[int]) -> list[tuple[int, int]]:
        return list(pairwise(ids))

    options: dict[str, Any] = {"beam_size": 1, "min_new_tokens": 60, "max_new_tokens": 60, "repetition_penalty": 0.5}
    free = pairs(new_ids(built, DecodeConfig(**options)))
    assert len(set(free)) < len(free)
    bound = pairs(new_ids(built, DecodeConfig(**options, no_repeat_ngram_size=2)))
    assert len(set(bound)) == len(bound)


def test_a_repetition_penalty_forbids_words_where_it_is_high(built: Built) -> None:
    options: dict[str, Any] = {"beam_size": 1, "min_new_tokens": 40, "max_new_tokens": 40}
    liked = new_ids(built, DecodeConfig(**options, repetition_penalty=0.5))
    shunned = new_ids(built, DecodeConfig(**options, repetition_penalty=1000.0))
    assert len(set(liked)) < len(set(shunned)) == 40


def test_beams_find_a_likelier_report_than_greedy(built: Built) -> None:
    options: dict[str, Any] = {"min_new_tokens": 8, "max_new_tokens": 8, "repetition_penalty": 1.0}
    assert (
        one(built, DecodeConfig(**options, beam_size=8)).logprob
        > one(built, DecodeConfig(**options, beam_size=1)).logprob
    )


def test_the_length_penalty_prefers_longer_reports_where_it_is_high(ending: Built) -> None:
    options: dict[str, Any] = {"beam_size": 3, "min_new_tokens": 0, "max_new_tokens": 16, "repetition_penalty": 1.0}
    short = one(ending, DecodeConfig(**options, length_penalty=-5.0)).tokens
    assert short < one(ending, DecodeConfig(**options, length_penalty=5.0)).tokens


SAMPLING: dict[str, Any] = {"do_sample": True, "beam_size": 1, "min_new_tokens": 0, "max_new_tokens": 16}


def test_sampling_is_reproduced_by_its_seed_and_differs_by_another(built: Built) -> None:
    first = one(built, DecodeConfig(**SAMPLING, decode_seed=1)).text
    torch.manual_seed(99)  # what ran before has no say
    assert one(built, DecodeConfig(**SAMPLING, decode_seed=1)).text == first
    assert one(built, DecodeConfig(**SAMPLING, decode_seed=2)).text != first


@pytest.mark.parametrize("engine", ["fast", "hf"])
@pytest.mark.parametrize(
    "narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}, {"temperature": 1e-38}, {"temperature": 1e-300}]
)
def test_sampling_from_one_token_is_greedy(narrow: dict[str, Any], engine: str, built: Built) -> None:
    options = {**SAMPLING, "repetition_penalty": 1.0, "engine": engine}
    assert one(built, DecodeConfig(**options, **narrow)).text == one(built, GREEDY).text
    assert one(built, DecodeConfig(**options)).text != one(built, GREEDY).text


def test_a_temperature_without_sampling_has_no_effect_and_says_so(built: Built) -> None:
    decode = DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=16, repetition_penalty=1.0, temperature=0.7)
    with pytest.warns(UserWarning, match=r"`temperature` 0\.7 has no effect without `do_sample` True") as seen:
        prediction = one(built, decode)
    assert len(seen) == 1
    assert prediction == one(built, GREEDY)


def test_a_report_longer_than_the_models_positions_is_refused(built: Built) -> None:
    with pytest.raises(
        InputError, match=r"max_new_tokens 500: with \d+ prompt tokens that is more than .* 512 positions"
    ):
        one(built, DecodeConfig(min_new_tokens=0, max_new_tokens=500))


@pytest.mark.parametrize("seeds", [(1,), (2, 3), (4,), (5,)])
@pytest.mark.parametrize("model", ["built", "ending"])
def test_a_stream_is_the_report_in_pieces(model: str, seeds: tuple[int, ...], request: pytest.FixtureRequest) -> None:
    tiny: Built = request.getfixturevalue(model)
    pieces: list[str] = []
    streamed = stream(tiny.model, tiny.processor, batch(tiny, a=seeds), GREEDY, pieces.append)
    assert streamed == one(tiny, GREEDY, seeds)
    assert "".join(pieces) == streamed.text
    assert len(pieces) > 1 or len(streamed.text.split()) <= 1


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([" The", " lungs ", "are clear. "], ["The", " lungs", " are clear."]),
        ([" Assis", "tant:", " The", " heart"], ["The", " heart"]),
        (["Human:\n", "Clear."], ["Clear."]),
        (["Assistants", " agree."], ["Assistants", " agree."]),
        (["The Assistant:", " said"], ["The Assistant:", " said"]),
        (["Assistant:", " Assistant: x"], ["Assistant: x"]),
        ([" ", "Assistant"], ["Assistant"]),
        (["Assistant:"], []),
        (["a", " ", "\n", "b", " "], ["a", " \nb"]),
        ([], []),
    ],
)
def test_a_stream_shows_what_the_tidied_report_holds(pieces: list[str], shown: list[str], built: Built) -> None:
    found: list[str] = []
    streamer = CallbackStreamer(built.processor, found.append)
    for piece in pieces:
        streamer.on_finalized_text(piece)
    streamer.on_finalized_text("", stream_end=True)
    assert found == shown
    assert "".join(found) == tidy_report("".join(pieces))


def test_a_stream_of_beams_or_of_two_studies_is_refused(built: Built) -> None:
    with pytest.raises(InputError, match="beam_size 3: a stream needs beam_size 1"):
        stream(
            built.model, built.processor, batch(built, a=(1,)), DecodeConfig(min_new_tokens=0, max_new_tokens=9), print
        )
    with pytest.raises(InputError, match="a stream needs one study, got 2"):
        stream(built.model, built.processor, batch(built, a=(1,), b=(2,)), GREEDY, print)


def test_open_lengths_are_a_fault_of_ours(built: Built) -> None:
    with pytest.raises(ValueError, match="call for_dataset first"):
        generation_config(DecodeConfig(), built.processor)


@pytest.fixture
def generate(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tiny_set: TinySet
) -> Callable[..., Outcome]:
    """`r2gengpt generate` on images of the tiny set."""

    def call(images: list[str], *flags: str) -> Outcome:
        paths = [str(tiny_set.base_dir / name) for name in images]
        return run_cli(["generate", *paths, "--model", str(tiny_checkpoint), "--accelerator", "cpu", *flags])

    return call


def test_generate_prints_the_report_and_nothing_else_on_stdout(generate: Callable[..., Outcome], built: Built) -> None:
    found = generate(["train1_0.png", "train1_1.png"], "--dtype", "float32")
    views = batch(built, study=(10, 11))
    decode = DecodeConfig(min_new_tokens=0, max_new_tokens=12)
    (prediction,) = predict(built.model, built.processor, [views], decode)
    assert found == Outcome(0, prediction.text + "\n", "AI draft, not verified, research only\n")


def test_generate_takes_all_images_as_views_of_one_study_in_any_order(generate: Callable[..., Outcome]) -> None:
    both, swapped = generate(["train1_0.png", "train1_1.png"]), generate(["train1_1.png", "train1_0.png"])
    assert both.stdout == swapped.stdout != generate(["train1_0.png"]).stdout


def test_generate_as_json_says_what_the_report_was_made_from(
    generate: Callable[..., Outcome], tiny_checkpoint: Path, tiny_set: TinySet, tiny_parts: Path
) -> None:
    found = generate(["val0_0.png"], "--format", "json", "--max_new_tokens", "5")
    record = json.loads(found.stdout)
    text = generate(["val0_0.png"], "--max_new_tokens", "5").stdout
    assert record["report"] + "\n" == text
    assert record["images"] == [str(tiny_set.base_dir / "val0_0.png")]
    assert record["lm_model"] == str(tiny_parts / "lm-stablelm")
    assert (record["tokens"], record["finish"], record["version"]) == (5, "length", __version__)
    assert record["logprob"] < 0
    assert "not verified" in record["notice"]
    assert record["model"] == tiny_checkpoint.name


def test_generate_streams_what_it_prints_otherwise(generate: Callable[..., Outcome]) -> None:
    for image in ("val0_0.png", "val2_0.png", "test0_0.png"):
        streamed = generate([image], "--stream")
        assert streamed == generate([image], "--beam_size", "1")
        as_json = generate([image], "--stream", "--format", "json")
        assert json.loads(as_json.stdout)["report"] + "\n" == streamed.stdout


def test_generate_with_a_temperature_but_no_sampling_warns_once(generate: Callable[..., Outcome]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of tests, where a warning is no error
        found = generate(["val0_0.png"], "--temperature", "0.7")
    assert found.code == 0
    assert found.stderr.splitlines() == [
        "warning: --temperature 0.7 has no effect without --do_sample True",
        "AI draft, not verified, research only",
    ]


def test_generate_takes_decode_settings_of_the_checkpoint_and_flags_win(generate: Callable[..., Outcome]) -> None:
    assert json.loads(generate(["val0_0.png"], "--format", "json").stdout)["tokens"] == 12
    assert json.loads(generate(["val0_0.png"], "--format", "json", "--max_new_tokens", "7").stdout)["tokens"] == 7


def test_generate_from_a_whole_saved_model(
    run_cli: Callable[[list[str]], Outcome], tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    from test_build import build

    tiny = build(tiny_parts)
    tiny.model.save_pretrained(tmp_path)
    tiny.processor.save_pretrained(tmp_path)
    image = str(tiny_set.base_dir / "val0_0.png")
    found = run_cli(["generate", image, "--model", str(tmp_path), "--dtype", "float32", "--max_new_tokens", "6"])
    assert (found.code, found.stdout.strip() != "") == (0, True)
    refused = run_cli(["generate", image, "--model", str(tmp_path), "--fusion", "concat"])
    assert refused.code == 2
    assert f"--fusion concat: --model {tmp_path} is a whole model" in refused.stderr


def test_decoding_leaves_the_models_own_settings_as_they_were(built: Built) -> None:
    before = built.model.generation_config.to_dict()
    settings = generation_config(
        DecodeConfig(no_repeat_ngram_size=2, max_new_tokens=6, min_new_tokens=0), built.processor
    )
    kept = settings.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = batch(built, a=(1,))
        written_by_generate(built.model, study, image_features(built.model, study), settings)
    assert built.model.generation_config.to_dict() == before
    assert settings.to_dict() == kept


def test_generate_reads_an_image_as_training_and_testing_do(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once reduced large films to another size first, so the same film gave other pixels than in `test`."""
    film = tmp_path / "film.png"
    noise_image(5, size=700).save(film)
    seen: list[Batch] = []

    def remember(model: object, processor: object, batches: list[Batch], *settings: object) -> list[Report]:
        seen.extend(batches)
        return [Report("study", "text", sentences=(Sentence("text", 1, 0.0),))]

    monkeypatch.setattr("r2gengpt.reporter.predict", remember)
    outcome = run_cli(["generate", str(film), "--model", str(tiny_checkpoint)])
    assert outcome.code == 0, outcome.stderr
    built, settings = load_checkpoint(tiny_checkpoint, where=FLOAT32)
    tested = StudyDataset([Study("study", (film,))], built.processor, settings.flat()["dataset"])[(0, 0)]
    assert torch.equal(seen[0].pixel_values[0], tested.pixels)


@pytest.mark.parametrize(("accelerator", "name"), [("gpu", "CUDA"), ("cuda", "CUDA"), ("mps", "MPS")])
def test_a_device_that_is_not_there_is_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Callable[[list[str]], Outcome],
    tiny_set: TinySet,
    without_weights: Path,
    accelerator: str,
    name: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    image = str(tiny_set.base_dir / "test0_0.png")
    done = run_cli(["generate", image, "--model", str(without_weights), "--accelerator", accelerator])
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == f"r2gengpt generate: --accelerator {accelerator}: no {name} device here\n"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beam_size": 3},
        {"do_sample": True},
        {"engine": "hf"},
        {"engine": "hf", "beam_size": 3},
        {"min_new_tokens": 2},
    ],
    ids=str,
)
def test_a_language_model_whose_scores_are_no_numbers_writes_no_empty_report(
    changes: dict[str, Any], tiny_checkpoint: Path
) -> None:
    damaged, _ = load_checkpoint(tiny_checkpoint, where=FLOAT32)
    with torch.no_grad():
        next(damaged.model.language_model.parameters())[0, 0] = torch.nan
        damaged.model.get_output_embeddings().weight[3, 0] = torch.nan
    with pytest.raises(RunError, match=r"^the language model's scores are no numbers, so it writes no report"):
        one(damaged, replace(GREEDY, **changes))
