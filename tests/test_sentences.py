"""Sentences of reports: where they end, which tokens are theirs, and what both decoders know of each token."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.engine import Engine, Prompt
from r2gengpt.generation.sentences import report_sentences, report_text, text_and_ends
from r2gengpt.generation.speculate import Drafter
from r2gengpt.generation.suffixes import SuffixIndex
from r2gengpt.parts.assemble import build_model
from r2gengpt.report import Report
from r2gengpt.testing import tiny_tokenizer
from r2gengpt.text.sentences import same_sentence, sentence_spans, tokens_of
from reporters import reporter_of
from test_engine import both_settings as both
from test_engine import by_generate, cases, prompts_of, random_model
from test_speculate import FREE


def split(text: str) -> list[str]:
    return [text[first:last] for first, last in sentence_spans(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["The heart is normal.", "The lungs are clear."],
        ["A nodule of 3.5 cm is seen.", "No effusion."],
        ["It measures 3. 5 cm today.", "No change."],
        ["Discussed with Dr. Blue at noon.", "Normal."],
        ["discussed with dr. blue at noon.", "normal."],
        ["Film no. 3 is dark.", "Is there a line?", "No.", "The heart is large!"],
        ["1. Clear lungs.", "2. Old fracture of rib 7.", "3. Normal heart."],
        ["Larger, e.g. the left one vs. the right one (fig. 1).", "Stable."],
        ["the heart is normal .", "the lungs are clear ."],
        ["Opacity ? pneumonia.", "Is it new ?", "The heart is large."],
        ["? effusion."],
        ["Findings", "Clear lungs", "Impression: normal"],
        ["Wait...", "Normal (see above).", 'Called "clear."', "Done"],
    ],
)
def test_a_sentence_ends_where_a_reader_would_end_it(sentences: list[str]) -> None:
    joiner = "\n" if sentences[0] == "Findings" else " "
    assert split(joiner.join(sentences)) == sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [("", []), (" \n ", []), (".", ["."]), ("Clear. . .", ["Clear. . ."]), (". Clear.", [". Clear."])],
)
def test_what_has_no_word_is_no_sentence_of_its_own(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences


TEXTS = st.text(alphabet="ab1. \n?)é", max_size=60)


@settings(max_examples=200, derandomize=True)
@given(text=TEXTS)
def test_sentences_cover_all_of_the_text_but_white_space_between_them(text: str) -> None:
    spans = sentence_spans(text)
    places = [place for first, last in spans for place in range(first, last)]
    assert places == sorted(set(places))
    assert not "".join(character for place, character in enumerate(text) if place not in places).strip()
    assert all(text[first:last] == text[first:last].strip() != "" for first, last in spans)


@settings(max_examples=200, derandomize=True)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=20))
def test_each_sentence_has_tokens_and_each_token_with_a_letter_has_a_sentence(text: str, cuts: list[int]) -> None:
    ends = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found = tokens_of(sentence_spans(text), ends)
    assert all(found)
    starts = [0, *ends[:-1]]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        assert not text[start:end].strip() or any(number in tokens for tokens in found)


def test_tokens_between_sentences_and_behind_the_last_are_of_none() -> None:
    assert tokens_of([(0, 6), (7, 10)], [6, 7, 10, 12]) == [[0], [2]]
    assert tokens_of([(0, 6), (7, 10)], [3, 8, 8, 10]) == [[0, 1], [1, 2, 3]], "one over both, one without a text"


def test_sentences_are_the_same_but_for_case_list_number_and_closing_marks() -> None:
    assert same_sentence("2. No  Effusion.") == same_sentence("no effusion") == "no effusion"
    assert same_sentence("No effusion on the left.") != same_sentence("No effusion.")


class Words:
    """Stands for a processor: a tokenizer of one class and its end token."""

    def __init__(self, kind: str) -> None:
        self.tokenizer = tiny_tokenizer(kind)
        self.end_token_id = self.tokenizer.eos_token_id


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "llama"])
def test_tokens_of_every_kind_of_tokenizer_are_found_in_the_text(kind: str) -> None:
    words: Any = Words(kind)
    report = "The lungs are clear. The Größe is 3.5 cm, naïve 肺. No effusion"
    around = ("", "") if kind == "llama" else (" Assistant:", " ")  # its tokens reach over blanks
    parts = [words.tokenizer.encode(part, add_special_tokens=False) for part in (around[0], f" {report}", around[1])]
    ids = [token for part in parts for token in part]
    whole, ends = text_and_ends(words, [*ids, words.end_token_id])
    assert whole.strip() == f"{around[0]} {report}".strip()
    assert report_text(words, [*ids, words.end_token_id]) == report
    assert (len(ends), ends[-1]) == (len(ids), len(whole))
    assert ends == sorted(ends)
    numbers = [float(number) for number in range(len(ids))]
    found = report_sentences(words, [*ids, words.end_token_id], [*numbers, -1e9])
    assert [sentence.text for sentence in found] == [
        "The lungs are clear.",
        "The Größe is 3.5 cm, naïve 肺.",
        "No effusion",
    ]
    assert sum(sentence.tokens for sentence in found) == len(parts[1]), "neither role words, blanks nor the end token"
    assert found[0].logprob == pytest.approx(len(parts[0]) + (found[0].tokens - 1) / 2)
    assert found[2].agreement is None


def test_an_empty_report_has_no_sentences() -> None:
    words: Any = Words("gpt_neox")
    assert report_sentences(words, [words.end_token_id], [-1.0]) == report_sentences(words, [], []) == ()


def test_agreement_is_the_share_of_final_beams_that_say_the_sentence() -> None:
    words: Any = Words("gpt_neox")
    beams = [
        words.tokenizer.encode(text)
        for text in ("Clear lungs. Large heart.", "Large heart.", "1. Large heart", "Clear lungs. No effusion.")
    ]
    found = report_sentences(words, beams[0], [-1.0] * len(beams[0]), beams)
    assert [sentence.agreement for sentence in found] == [0.5, 0.75]


@torch.no_grad()
def by_hand(model: Any, prompt: Tensor, ids: list[int]) -> list[float]:
    """The log-probability of each new token by one pass over the prompt and the text."""
    embeds = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(ids))])[None]
    logits = model(inputs_embeds=embeds).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return [float(row[token]) for row, token in zip(logits, ids, strict=True)]


def written(model: Any, prompts: list[Tensor], rules: Rules, slots: int, **more: Any) -> list[Written]:
    found = Engine(model, rules, slots, **more).run(iter([Prompt(n, p) for n, p in enumerate(prompts)]))
    return sorted(found, key=lambda one: one.tag)


@settings(max_examples=40, derandomize=True)
@given(case=cases())
def test_each_tokens_log_probability_is_that_of_one_pass_over_the_text(case: dict[str, Any]) -> None:
    """Greedy, drawn and with beams, whatever the rules; float32 on both sides, in another order."""
    model, prompts = random_model(case["kind"]), prompts_of(case["lengths"], case["seed"])
    for one in written(model, prompts, both(case)[1], case["slots"]):
        assert one.logprobs == pytest.approx(by_hand(model, prompts[one.tag], one.ids), abs=1e-4)
        assert len(one.beams) == (case["beams"] if case["beams"] > 1 else 0)
        assert not one.beams or one.beams[0] == one.ids


def test_each_tokens_log_probability_is_kept_with_drafts() -> None:
    model, prompts = random_model("llama"), prompts_of([4, 9, 2, 7], 8)
    rules = Rules(end=17, max_new_tokens=20, repetition_penalty=1.3)
    plain = written(model, prompts, rules, 2)
    drafter = Drafter(SuffixIndex.of([one.ids for one in plain] * 30), FREE)
    for one in written(model, prompts, rules, 2, drafter=drafter):
        assert one.logprobs == pytest.approx(by_hand(model, prompts[one.tag], one.ids), abs=1e-4)
    assert drafter.tokens > drafter.passes, "the drafts were used"


def test_the_beams_that_a_study_ends_with_are_the_librarys() -> None:
    case: dict[str, Any] = {
        "kind": "qwen2", "lengths": [5, 12, 9], "slots": 2, "seed": 1, "end": 17, "beams": 3, "longest": 14,
        "shortest": 2, "repetition_penalty": 1.3, "no_repeat_ngram_size": 0, "length_penalty": 1.0,
        "early_stopping": False, "sample": False,
    }  # fmt: skip
    model, prompts = random_model(case["kind"]), prompts_of(case["lengths"], case["seed"])
    config, rules = both(case)
    config.num_return_sequences = 3
    wanted = by_generate(model, prompts, config)
    found = written(model, prompts, rules, case["slots"])
    assert [ids for one in found for ids in one.beams] == wanted


@pytest.mark.parametrize(
    "decode",
    [
        {"beam_size": 1},
        {"beam_size": 3},
        {"beam_size": 1, "repetition_penalty": 1.0},
        {"beam_size": 4, "length_penalty": 0.0, "no_repeat_ngram_size": 2},
    ],
    ids=str,
)
def test_both_decoders_give_the_same_sentences(tiny_parts: Path, tiny_set: TinySet, decode: dict[str, Any]) -> None:
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
            reporter_of(built, DecodeConfig(max_new_tokens=24, engine=engine, **decode)),
            Evaluation(studies, (), "plain", batch_size=3),
        )
        for engine in ("fast", "hf")
    )

    def facts(predictions: list[Report]) -> list[tuple[str, int, float | None]]:
        return [(one.text, one.tokens, one.agreement) for found in predictions for one in found.sentences]

    assert facts(fast) == facts(slow)
    logprobs = [[one.logprob for found in predictions for one in found.sentences] for predictions in (fast, slow)]
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-4)  # step by step against one pass, both float32
    assert all(re.sub(r"\s", "", f.text) == re.sub(r"\s", "", "".join(s.text for s in f.sentences)) for f in fast)
    assert {one.agreement is None for found in fast for one in found.sentences} == {decode["beam_size"] == 1}


@pytest.mark.parametrize("text", [" " * 100_000, "." * 100_000, "dr. " * 25_000, "!) " * 30_000, "\n" * 100_000])
def test_the_time_for_a_text_grows_with_its_length_whatever_it_holds(text: str) -> None:
    began = time.process_time()
    sentence_spans(text)
    assert time.process_time() - began < 5, "the square of the length took half a minute"
