"""Drafts from the training reports change how fast greedy text comes, never the text."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Outcome, TinySet, without_logprobs
from placements import FLOAT32
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.generation.beams import Rules
from r2gengpt.generation.engine import SERVED, Engine, Prompt, use_engine
from r2gengpt.generation.speculate import MOST, Drafter, PassTime, accepted, pass_time
from r2gengpt.generation.suffixes import START, SUFFIX, Earlier, SuffixIndex, continued, load_index, save_index
from r2gengpt.parts.assemble import build_model
from r2gengpt.parts.int8 import to_int8
from test_engine import WORDS, by_engine, prompts_of, random_model

Run = Callable[[list[str]], Outcome]
FREE = PassTime(0.0, 0.0)
"""A clock by which drafts cost nothing: they are as long as they can be."""
REPORTS = ([5, 6, 7, 8, 9, 0], [5, 6, 7, 2, 0], [5, 6, 7, 8, 3, 0], [1, 6, 7, 4, 0])


def drafted(model: Any, prompts: list[Any], rules: Rules, slots: int, drafter: Drafter) -> list[list[int]]:
    engine = Engine(model, rules, slots, drafter=drafter)
    ids = {one.tag: one.ids for one in engine.run(iter([Prompt(n, p) for n, p in enumerate(prompts)]))}
    return [ids[number] for number in range(len(prompts))]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    longest = draw(st.integers(1, 24))
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=4))
    return {
        "kind": draw(st.sampled_from(SERVED)),
        "lengths": lengths,
        "slots": draw(st.integers(1, len(lengths))),
        "seed": draw(st.integers(0, 99)),
        "end": draw(st.integers(0, WORDS - 1)),
        "longest": longest,
        "shortest": draw(st.integers(0, longest)),
        "repetition_penalty": draw(st.sampled_from([1.0, 0.8, 1.3, 2.0])),
        "no_repeat_ngram_size": draw(st.integers(0, 3)),
        "source": draw(st.sampled_from(["perfect", "wrong at the end", "random", "nothing"])),
        "time": draw(st.sampled_from([FREE, PassTime(0.2, 0.05)])),
    }


def reports_for(case: dict[str, Any], texts: list[list[int]]) -> list[list[int]]:
    """What drafts are taken from: the very texts, texts that leave them late, noise, or no reports."""
    if case["source"] == "perfect":
        return texts * 30
    if case["source"] == "wrong at the end":
        return [[*ids[:-2], (ids[-1] + 1) % WORDS, 3, 4] for ids in texts for _ in range(30)]
    if case["source"] == "nothing":
        return []
    generator = torch.Generator().manual_seed(case["seed"])
    return torch.randint(0, WORDS, (40, 12), generator=generator).tolist()


def assert_greedy(case: dict[str, Any]) -> None:
    model, prompts = random_model(case["kind"]), prompts_of(case["lengths"], case["seed"])
    names = ("repetition_penalty", "no_repeat_ngram_size")
    lengths = {"min_new_tokens": case["shortest"], "max_new_tokens": case["longest"]}
    rules = Rules(end=case["end"], **lengths, **{name: case[name] for name in names})
    wanted = by_engine(model, prompts, rules, case["slots"])
    drafter = Drafter(SuffixIndex.of(reports_for(case, wanted)), case["time"])
    assert drafted(model, prompts, rules, case["slots"], drafter) == wanted
    assert drafter.tokens == sum(len(ids) - 1 for ids in wanted)
    assert drafted(model, prompts, rules, case["slots"], drafter) == wanted, "now with its own texts as drafts"


@settings(max_examples=80, derandomize=True)
@given(case=cases())
def test_text_with_drafts_is_the_greedy_text(case: dict[str, Any]) -> None:
    assert_greedy(case)


@pytest.mark.drill
@settings(max_examples=3000)
@given(case=cases())
def test_text_with_drafts_is_the_greedy_text_in_many_more_cases(case: dict[str, Any]) -> None:
    assert_greedy(case)


@pytest.mark.parametrize("kind", SERVED)
def test_drafts_that_are_right_are_taken_whole_in_every_served_architecture(kind: str) -> None:
    """The guide's settings, studies of different lengths that leave and join; fewer passes than tokens."""
    model, prompts = random_model(kind), prompts_of([5, 12, 9, 3, 7], 1)
    rules = Rules(end=17, min_new_tokens=12, max_new_tokens=40, repetition_penalty=2.0, no_repeat_ngram_size=2)
    wanted = by_engine(model, prompts, rules, slots=2)
    drafter = Drafter(SuffixIndex.of(wanted * 30), FREE)
    assert drafted(model, prompts, rules, 2, drafter) == wanted
    assert drafter.tokens > 3 * drafter.passes


def test_a_pass_reads_the_last_token_and_the_draft_and_nothing_else() -> None:
    model = random_model("llama")
    rules = Rules(end=0, min_new_tokens=14, max_new_tokens=14)
    (wanted,) = by_engine(model, prompts_of([6], 4), rules, slots=1)
    rows: list[int] = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda module, given: rows.append(given[0].shape[1]))
    drafted(model, prompts_of([6], 4), rules, 1, Drafter(SuffixIndex.of([wanted] * 30), FREE))
    hook.remove()
    assert rows == [6, 1 + 12], "the prompt gives a token, one pass all others: 12 drafted and the last"


def test_streamed_tokens_come_in_order_and_once() -> None:
    model, prompts = random_model("qwen2"), prompts_of([4, 9], 2)
    rules = Rules(end=17, min_new_tokens=9, max_new_tokens=20)
    wanted = by_engine(model, prompts, rules, slots=2)
    told: dict[int, list[int]] = {0: [], 1: []}
    drafter = Drafter(SuffixIndex.of(wanted * 30), FREE)
    engine = Engine(model, rules, 2, lambda tag, token: told[tag].append(token), drafter)
    list(engine.run(iter([Prompt(n, p) for n, p in enumerate(prompts)])))
    assert [told[0], told[1]] == wanted


def test_log_probabilities_are_those_of_the_plain_loop() -> None:
    model, prompts = random_model("stablelm"), prompts_of([4, 9, 2], 8)
    rules = Rules(end=17, max_new_tokens=20, repetition_penalty=1.3)
    given = [Prompt(n, p) for n, p in enumerate(prompts)]
    plain = {one.tag: one for one in Engine(model, rules, 3).run(iter(given))}
    drafter = Drafter(SuffixIndex.of([one.ids for one in plain.values()]), FREE)
    for one in Engine(model, rules, 3, drafter=drafter).run(iter(given)):
        assert one.logprobs == pytest.approx(plain[one.tag].logprobs, abs=1e-5)  # float32 sums in another order


def test_the_index_gives_what_followed_most_often_after_the_longest_known_suffix() -> None:
    index = SuffixIndex.of(REPORTS)
    assert index.next((START,)) == (5, 3 / 5)
    assert index.next((5, 6, 7)) == (8, 2 / 4)
    assert index.next((1, 6, 7)) == (4, 1 / 2), "the longer suffix, not the more frequent one"
    assert index.next((40, 6, 7)) == (8, 2 / 5), "what is not known is left out"
    assert index.next((40,)) == (START, 0.0)
    assert index.next((9, 0)) == (START, 1 / 2), "a report has ended"
    assert continued(index.next, [5, 6, 7, 2], 8) == ([0], [1 / 2])
    assert continued(index.next, [], 2) == ([5, 6], [3 / 5, 3 / 4])
    assert continued(SuffixIndex.of([]).next, [1, 2], 5) == ([], [])


def test_what_was_written_before_is_known_by_its_longest_run_and_its_last_turn() -> None:
    earlier = Earlier()
    assert earlier.next((1, 2, 3)) == (START, 0.0)
    earlier.add([1, 2, 3, 4, 0])
    assert earlier.next((START, 1, 2))[0] == 3
    assert earlier.next((9, 9, 2, 3, 4))[0] == 0
    assert earlier.next((3, 4)) == (START, 0.0), "too short to tell"
    once = earlier.next((1, 2, 3))[1]
    earlier.add([1, 2, 3, 4, 0])
    assert once < earlier.next((1, 2, 3))[1] < 1
    earlier.add([1, 2, 3, 7, 0])
    assert earlier.next((1, 2, 3)) == (7, once), "the last turn, as sure as at its first time"
    assert earlier.next((8, 8, 8, 1, 2, 3))[0] == 7
    assert continued(earlier.next, [1, 2, 3], 9)[0] == [7, 0]


def test_what_was_written_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gengpt.generation.suffixes.REMEMBERED", 6)
    earlier = Earlier()
    earlier.add([1, 2, 3, 4])
    earlier.add([5, 6, 7, 8, 9])
    assert earlier.next((1, 2, 3)) == (START, 0.0)
    assert earlier.next((6, 7, 8)[-SUFFIX:])[0] == 9
    assert len(earlier._after) == 6


def test_a_text_written_before_takes_fewer_passes() -> None:
    model, prompts = random_model("llama"), prompts_of([6], 4)
    rules = Rules(end=0, min_new_tokens=20, max_new_tokens=20)
    drafter = Drafter(SuffixIndex.of([]), FREE)
    first = drafted(model, prompts, rules, 1, drafter)
    passes = drafter.passes
    assert drafted(model, prompts, rules, 1, drafter) == first
    assert drafter.passes - passes < passes / 2


@settings(max_examples=60, derandomize=True)
@given(
    reports=st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=8),
    wanted=st.lists(st.integers(-1, 3), min_size=1, max_size=6),
)
def test_places_are_found_as_by_reading_the_whole_text(reports: list[list[int]], wanted: list[int]) -> None:
    index = SuffixIndex.of(reports)
    text = index.text.tolist()
    low, high = index.find(wanted)
    places = [at for at in range(len(text)) if text[at : at + len(wanted)] == wanted]
    assert sorted(index.order[low:high].tolist()) == places


def test_drafts_stop_where_they_do_not_come_true_and_are_tried_again_later() -> None:
    drafter = Drafter(SuffixIndex.of([[5, 6, 7, 8, 9, 5, 6, 7, 8, 9]] * 9), PassTime(0.65, 0.045))
    lengths = []
    for _ in range(200):
        (draft,) = drafter.draft([[5, 6]], [20])
        lengths.append(len(draft))
        drafter.learn(0, 1)
    assert lengths[0] > 4
    tried = sum(length > 0 for length in lengths)
    assert 2 <= tried <= 20
    for _ in range(200):
        (draft,) = drafter.draft([[5, 6]], [20])
        drafter.learn(len(draft), 1)
    assert len(draft) > 4, "and are as long as before once they come true"


def test_a_large_batch_drafts_less_where_rows_cost() -> None:
    index = SuffixIndex.of([[5, 6, 7, 8, 9, 4, 3, 2, 1, 5, 6, 7]] * 3)
    one = Drafter(index, PassTime(0.65, 0.045)).draft([[5, 6]], [20])
    many = Drafter(index, PassTime(0.65, 0.045)).draft([[5, 6]] * 64, [20] * 64)
    assert len(one[0]) > len(many[0])


def test_no_draft_is_longer_than_its_room() -> None:
    index = SuffixIndex.of([[5] * 40] * 30)
    drafts = Drafter(index, FREE).draft([[5], [5], [5]], [0, 3, 99])
    assert [len(draft) for draft in drafts] == [0, 3, MOST]


def test_nothing_is_taken_after_an_end_token() -> None:
    assert accepted([4, 0, 4], [4, 0], end=0) == 2


def test_a_stored_index_comes_back_and_a_misfit_is_one_line(tmp_path: Path) -> None:
    index, path = SuffixIndex.of(REPORTS), tmp_path / "speculation.safetensors"
    with pytest.raises(InputError, match=r"speculate True: .*speculation.safetensors is not there"):
        load_index(path, 10)
    save_index(index, path)
    back = load_index(path, 10)
    assert back.text.tolist() == index.text.tolist()
    assert back.order.tolist() == index.order.tolist()
    with pytest.raises(InputError, match="has token 9, but the language model 9 tokens"):
        load_index(path, 9)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="is damaged"):
        load_index(path, 10)


def test_what_a_row_costs_goes_by_the_arithmetic_of_the_model() -> None:
    model = copy.deepcopy(random_model("llama"))
    whole = pass_time(model)
    half = pass_time(model.bfloat16())
    to_int8(model.float())
    assert len({whole, half, pass_time(model)}) == 3
    assert whole(1) == half(1) == 1.0
    assert whole(2) > max(half(2), pass_time(model)(2)), "float32 products of a few rows are slow"


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_test_with_drafts_writes_the_same_files_and_keeps_the_index_for_generate(
    run_cli: Run, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    image = str(tiny_set.base_dir / "test0_0.png")
    generate = ["generate", image, "--model", str(model), "--beam_size", "1"]
    missing = run_cli([*generate, "--speculate", "True"])
    assert (missing.code, missing.stderr.count("\n")) == (2, 1)
    assert "speculation.safetensors is not there; train or test with --speculate True to make it" in missing.stderr

    told = {}
    for speculate in ("False", "True"):
        data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir)]
        argv = ["test", "--model", str(model), *data, "--output", str(tmp_path / speculate), "--beam_size", "1"]
        told[speculate] = run_cli([*argv, "--speculate", speculate, "--test_batch_size", "2"])
        assert told[speculate].code == 0, told[speculate].stderr
    plain, drafted = (json_lines(tmp_path / name / "predictions.jsonl") for name in ("False", "True"))
    assert list(map(without_logprobs, plain)) == list(map(without_logprobs, drafted))
    assert "tokens a pass" in told["True"].stderr
    assert "tokens a pass" not in told["False"].stderr
    assert "speculation.safetensors: holds the 8 training reports" in told["True"].stderr

    report = run_cli(generate).stdout
    for more in ([], ["--stream"]):
        outcome = run_cli([*generate, *more, "--speculate", "True"])
        assert (outcome.code, outcome.stdout) == (0, report), outcome.stderr


def test_training_keeps_the_index_beside_the_weights_where_asked(
    run_cli: Run, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    argv = [
        "train", "--vision_model", str(tiny_parts / "vision-vit"), "--lm_model", str(tiny_parts / "lm-llama"),
        "--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir), "--dataset", "plain",
        "--max_steps", "1", "--batch_size", "8", "--max_new_tokens", "6", "--dtype", "float32",
        "--precision", "32-true", "--accelerator", "cpu", "--beam_size", "1", "--speculate", "True",
        "--savedmodel_path", str(tmp_path / "run"),
    ]  # fmt: skip
    outcome = run_cli(argv)
    assert outcome.code == 0, outcome.stderr
    for name in ("best", "last"):
        index = load_index(tmp_path / "run" / name / "speculation.safetensors", 10**6)
        assert (index.text == START).sum() == 8, "a start for each of the 8 training reports"


@pytest.mark.parametrize(
    "flags", [{"beam_size": 3}, {"beam_size": 1, "do_sample": True}, {"beam_size": 1, "engine": "hf"}]
)
def test_drafts_are_refused_where_text_is_not_greedy_or_not_ours(flags: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="speculate True: needs beam_size 1 do_sample False"):
        DecodeConfig(**flags, speculate=True)


def test_a_language_model_of_generate_takes_no_drafts(tiny_parts: Path, tiny_set: TinySet) -> None:
    config = ModelConfig(vision_model=str(tiny_parts / "vision-vit"), lm_model=str(tiny_parts / "lm-gpt2"))
    built = build_model(config, FLOAT32)
    decode = DecodeConfig(beam_size=1, speculate=True)
    with pytest.raises(InputError, match="speculate True: language models of type gpt2 are decoded by hf only"):
        use_engine(built.model.language_model, decode)
