"""The engine writes what transformers' `generate` writes, token for token, whatever the settings."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.errors import InputError
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.generation.beams import Rules
from r2gengpt.generation.engine import SERVED, Engine, Prompt, unserved
from r2gengpt.generation.scores import repetition_penalised, without_repeated_ngrams
from r2gengpt.model.repetition import take_repetition_rules
from r2gengpt.parts.assemble import build_model
from r2gengpt.testing import LANGUAGE_MODELS
from reporters import reporter_of

WORDS, WIDTH = 60, 32
GLM = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "head_dim": 8,
}


@cache
def random_model(kind: str, seed: int = 0) -> Any:
    """A model without training whose words are nearly as likely as each other, so that rules decide."""
    sizes = {**LANGUAGE_MODELS.get(kind, GLM), "pad_token_id": None}
    config = CONFIG_MAPPING[kind](
        vocab_size=WORDS, hidden_size=WIDTH, max_position_embeddings=256, initializer_range=0.2, **sizes
    )
    if kind in ("gemma3_text", "mistral"):
        config.sliding_window = 9  # shorter than the texts below
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).eval()


def prompts_of(lengths: list[int], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, WIDTH, generator=generator) for length in lengths]


@torch.no_grad()
def by_generate(model: Any, prompts: list[Tensor], config: GenerationConfig) -> list[list[int]]:
    """The reference: left-padded prompts, penalties over new tokens only; each row up to its end token."""
    longest = max(map(len, prompts))
    embeds = torch.stack([torch.cat([torch.zeros(longest - len(p), WIDTH), p]) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    config = copy.deepcopy(config)
    rules = LogitsProcessorList(take_repetition_rules(config))
    rows = model.generate(
        inputs_embeds=embeds, attention_mask=mask, generation_config=config, logits_processor=rules
    ).tolist()
    end = config.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def by_engine(model: Any, prompts: list[Tensor], rules: Rules, slots: int, seed: int = 0) -> list[list[int]]:
    written = Engine(model, rules, slots).run(iter([Prompt(n, p, seed) for n, p in enumerate(prompts)]))
    ids = {one.tag: one.ids for one in written}
    return [ids[number] for number in range(len(prompts))]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of both decoders; sampling alone with one study, where the library's draws depend on nobody else.

    Several beams that draw have more tokens to draw than a small `top_k` or `top_p` leaves. Those beyond have
    probability 0: which of them the library takes hangs on how they lie in memory.
    """
    sample = draw(st.booleans()) and draw(st.booleans())
    longest = draw(st.integers(1, 20))
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=1 if sample else 4))
    beams = draw(st.integers(1, 4))
    return {
        "kind": draw(st.sampled_from(SERVED)),
        "lengths": lengths,
        "slots": draw(st.integers(1, len(lengths))),
        "seed": draw(st.integers(0, 99)),
        "end": draw(st.integers(0, WORDS - 1)),
        "beams": beams,
        "longest": longest,
        "shortest": draw(st.integers(0, longest)),
        "repetition_penalty": draw(st.sampled_from([1.0, 0.8, 1.3, 2.0])),
        "no_repeat_ngram_size": draw(st.integers(0, 3)),
        "length_penalty": draw(st.sampled_from([-1.0, 0.0, 1.0, 2.0])),
        "early_stopping": draw(st.sampled_from([True, False, "never"])),
        "sample": sample,
        "temperature": draw(st.sampled_from([0.7, 1.0, 1.5])),
        "top_k": draw(st.sampled_from([0, 20] if sample and beams > 1 else [0, 1, 20])),
        "top_p": draw(st.sampled_from([0.9, 1.0] if sample and beams > 1 else [0.5, 0.9, 1.0])),
    }


def both_settings(case: dict[str, Any]) -> tuple[GenerationConfig, Rules]:
    shared = {name: case[name] for name in ("repetition_penalty", "no_repeat_ngram_size")}
    drawn = {name: case[name] for name in ("temperature", "top_k", "top_p")} if case["sample"] else {}
    beams = {name: case[name] for name in ("length_penalty", "early_stopping")} if case["beams"] > 1 else {}
    config = GenerationConfig(
        **shared, **drawn, **beams, num_beams=case["beams"], do_sample=case["sample"], eos_token_id=case["end"],
        pad_token_id=case["end"], min_new_tokens=case["shortest"], max_new_tokens=case["longest"],
    )  # fmt: skip
    rules = Rules(
        end=case["end"], min_new_tokens=case["shortest"], max_new_tokens=case["longest"], do_sample=case["sample"],
        beam_size=case["beams"], **shared, **drawn, **beams,
    )  # fmt: skip
    return config, rules


def assert_equal_texts(case: dict[str, Any]) -> None:
    model, prompts = random_model(case["kind"]), prompts_of(case["lengths"], case["seed"])
    config, rules = both_settings(case)
    with torch.random.fork_rng():
        torch.manual_seed(case["seed"])
        wanted = by_generate(model, prompts, config)
    assert by_engine(model, prompts, rules, case["slots"], case["seed"]) == wanted


@settings(max_examples=120, derandomize=True)
@given(case=cases())
def test_the_engine_writes_what_generate_writes(case: dict[str, Any]) -> None:
    assert_equal_texts(case)


@pytest.mark.drill
@settings(max_examples=3000)
@given(case=cases())
def test_the_engine_writes_what_generate_writes_in_many_more_cases(case: dict[str, Any]) -> None:
    assert_equal_texts(case)


@pytest.mark.parametrize("kind", SERVED)
def test_every_served_architecture_is_equal_with_the_guides_settings(kind: str) -> None:
    case = {
        "kind": kind, "lengths": [5, 12, 9, 3, 7], "slots": 2, "seed": 1, "end": 17, "beams": 3, "longest": 40,
        "shortest": 12, "repetition_penalty": 2.0, "no_repeat_ngram_size": 2, "length_penalty": 2.0,
        "early_stopping": False, "sample": False,
    }  # fmt: skip
    assert_equal_texts(case)


def test_no_pass_is_spent_on_a_finished_study_and_places_are_used_again() -> None:
    """Two places, five studies that end at different steps: rows of all passes are the tokens written, none more."""
    model = random_model("llama", seed=3)
    rows: list[tuple[int, int]] = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda module, given: rows.append(given[0].shape[:2]))
    rules = Rules(end=17, max_new_tokens=30)
    written = by_engine(model, prompts_of([5] * 5, 2), rules, slots=2)
    hook.remove()
    lengths = [len(ids) for ids in written]
    assert len(set(lengths)) > 2, "this seed's reports should end at different steps"
    steps = [count for count, width in rows if width != 5]
    assert max(steps) == 2
    assert sum(steps) == sum(length - 1 for length in lengths)
    assert len(steps) < sum(max(pair) for pair in zip(lengths[::2], [*lengths[1::2], 0], strict=True))


def test_a_studys_draws_do_not_depend_on_its_neighbours() -> None:
    model, prompts = random_model("qwen2"), prompts_of([4, 9, 6], 5)
    rules = Rules(end=0, max_new_tokens=12, do_sample=True)
    together = by_engine(model, prompts, rules, slots=3, seed=7)
    alone = [by_engine(model, [prompt], rules, slots=1, seed=7)[0] for prompt in prompts]
    assert together == alone
    assert by_engine(model, prompts, rules, slots=3, seed=8) != together


def test_the_models_attention_is_its_own_again_afterwards() -> None:
    model = random_model("stablelm")
    before = model.config._attn_implementation
    run = Engine(model, Rules(end=0, max_new_tokens=5), 1).run(iter([Prompt(0, prompts_of([3], 0)[0])]))
    next(run)
    run.close()
    assert model.config._attn_implementation == before


def test_runs_that_take_turns_write_the_same_and_leave_the_models_attention_alone() -> None:
    model = random_model("llama")
    kept, rules = model.config._attn_implementation, Rules(beam_size=2, max_new_tokens=9, end=3)
    prompts = prompts_of([5, 9, 3, 7], seed=11)
    alone = [by_engine(model, [prompt], rules, 1) for prompt in prompts]
    runs = [Engine(model, rules, 1).run(iter([Prompt(0, one), Prompt(1, one)])) for one in prompts]
    first = [next(run) for run in runs]
    assert model.config._attn_implementation == kept
    second = [next(run) for run in reversed(runs)]
    assert [[one.ids] for one in first] == alone
    assert [[one.ids] for one in reversed(second)] == alone


def test_threads_that_write_with_one_model_write_what_one_writes() -> None:
    model = random_model("llama")
    rules, prompts = Rules(beam_size=1, max_new_tokens=12, end=3), prompts_of([6, 4, 9, 5] * 4, seed=12)
    alone = [by_engine(model, [prompt], rules, 1) for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda prompt: by_engine(model, [prompt], rules, 1), prompts)) == alone


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10_000), steps=st.integers(0, 9), size=st.integers(1, 4))
def test_the_rules_are_the_librarys_for_rows_at_different_steps(seed: int, steps: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 12, generator=generator)
    history = torch.randint(0, 12, (3, 9), generator=generator)
    lengths = torch.tensor([steps, 0, 9])
    ours = (
        repetition_penalised(scores, history, lengths, 1.7),
        without_repeated_ngrams(scores, history, lengths, size),
    )
    for row, length in enumerate(lengths.tolist()):
        told = history[row : row + 1, :length]
        theirs = (RepetitionPenaltyLogitsProcessor(1.7), NoRepeatNGramLogitsProcessor(size))
        for mine, rule in zip(ours, theirs, strict=True):
            assert torch.equal(mine[row : row + 1], rule(told, scores[row : row + 1].clone()))


def decode(**changes: Any) -> DecodeConfig:
    return DecodeConfig(**{"beam_size": 2, "min_new_tokens": 0, "max_new_tokens": 10, **changes})


@pytest.mark.parametrize("beams", [1, 3])
def test_both_decoders_give_the_same_predictions_of_a_split(tiny_parts: Path, tiny_set: TinySet, beams: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names: dict[str, Any] = {
            "vision_model": str(tiny_parts / "vision-vit"),
            "lm_model": str(tiny_parts / "lm-llama"),
        }
        built = build_model(ModelConfig(**names), FLOAT32)
    built.model.eval()
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    fast, slow = (
        predict_studies(
            reporter_of(built, decode(beam_size=beams, engine=engine)), Evaluation(studies, (), "plain", batch_size=3)
        )
        for engine in ("fast", "hf")
    )
    assert [(one.id, one.text, one.tokens, one.finish) for one in fast] == [
        (one.id, one.text, one.tokens, one.finish) for one in slow
    ]
    # summed step by step against one pass over the whole text, both float32
    assert [one.logprob for one in fast] == pytest.approx([one.logprob for one in slow], abs=1e-4)


def test_another_architecture_goes_to_generate_and_that_is_said_once(
    tiny_parts: Path, tiny_set: TinySet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2gengpt.generation.engine._logged", set())
    config = ModelConfig(vision_model=str(tiny_parts / "vision-vit"), lm_model=str(tiny_parts / "lm-gpt2"))
    built = build_model(config, FLOAT32)
    built.model.eval()
    assert unserved(built.model.language_model)
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("test",))["test"]
    with caplog.at_level("INFO", logger="r2gengpt"):
        for _ in range(2):
            predict_studies(reporter_of(built, decode()), Evaluation(studies, (), "plain", batch_size=3))
    told = [record.message for record in caplog.records if "gpt2" in record.message]
    assert told == ["language models of type gpt2 are decoded by transformers' generate"]
    with pytest.raises(InputError, match="engine fast: language models of type gpt2 are decoded by hf only"):
        predict_studies(reporter_of(built, decode(engine="fast")), Evaluation(studies, (), "plain", batch_size=3))


def test_studies_join_a_run_while_others_are_being_written_and_write_the_same() -> None:
    model, prompts = random_model("stablelm", seed=3), prompts_of([5, 9, 7], 2)
    rules = Rules(end=17, max_new_tokens=20, beam_size=2, repetition_penalty=1.3)

    def arriving() -> Iterator[Prompt | None]:
        for number, prompt in enumerate(prompts):
            yield Prompt(number, prompt)
            yield None
            yield None

    written = {one.tag: one.ids for one in Engine(model, rules, 3).run(arriving())}
    assert [written[number] for number in range(3)] == by_engine(model, prompts, rules, slots=1)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_study_that_nobody_waits_for_leaves_and_the_others_write_the_same(beams: int) -> None:
    model, prompts = random_model("llama", seed=3), prompts_of([5, 9, 7, 4], 2)
    rules = Rules(end=17, min_new_tokens=8, max_new_tokens=20, beam_size=beams)
    asked: list[int] = []

    def unwanted(tag: int) -> bool:
        asked.append(tag)
        return tag == 1 and asked.count(1) == 4

    run = Engine(model, rules, 3, unwanted=unwanted).run(iter([Prompt(n, p) for n, p in enumerate(prompts)]))
    written = {one.tag: one.ids for one in run}
    wanted = by_engine(model, prompts, rules, slots=4)
    assert written == {number: wanted[number] for number in (0, 2, 3)}
    assert asked.count(1) == 4
