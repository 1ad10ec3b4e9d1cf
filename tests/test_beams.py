"""The engine and the runtime without PyTorch choose the same tokens, given the same scores: tables, no models."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from r2gengpt.edge import runtime
from r2gengpt.generation import scores
from r2gengpt.generation.beams import Beam, Candidates, Floats, Row, Rules, Written
from r2gengpt.generation.engine import Engine, Prompt
from test_engine import random_model

WORDS, END = 12, 3


def table(seed: int, levels: int = 0) -> Callable[[Sequence[int]], Floats]:
    """Logits (vocabulary,) after any text: continuous ones, or of so many levels, so that many are equal."""

    def logits(text: Sequence[int]) -> Floats:
        drawn = np.random.default_rng([seed, *text]).normal(size=WORDS) * 2
        return (np.round(drawn) % levels if levels else drawn).astype(np.float32)

    return logits


class Table:
    """A table in place of the engine's forward passes: what comes next depends on the new tokens only."""

    def __init__(self, engine: Engine, logits: Callable[[Sequence[int]], Floats]) -> None:
        self.engine, self.logits, self.device = engine, logits, torch.device("cpu")

    def begin(self, first: int, prompts: Sequence[Tensor]) -> Tensor:
        return torch.from_numpy(np.stack([self.logits([])] * len(prompts)))

    def read(self, tokens: Sequence[Sequence[int]], prompts: Sequence[int], steps: Sequence[int]) -> Tensor:
        texts = [[beam.ids for beam in study.row.running] for study in self.engine.studies]
        return torch.from_numpy(np.stack([[self.logits(ids) for ids in beams] for beams in texts]))

    def follow(self, first: int, origins: Sequence[Sequence[int]]) -> None:
        """The rows hold the texts themselves."""

    def move(self, source: int, target: int) -> None:
        """Likewise."""


def by_engine(logits: Callable[[Sequence[int]], Floats], rules: Rules) -> Written:
    engine: Any = Engine(random_model("llama"), rules, 1)
    engine.tree = Table(engine, logits)
    (written,) = engine.run(iter([Prompt(None, torch.zeros(1, 1))]))
    return written


def by_edge(logits: Callable[[Sequence[int]], Floats], rules: Rules) -> Written:
    texts: list[list[int]] = [[]]

    def step(ids: Sequence[int], origins: Sequence[int]) -> Floats:
        texts[:] = [[*texts[origin], token] for token, origin in zip(ids, origins, strict=True)]
        return np.stack([logits(text) for text in texts])

    return runtime.choose(logits([]), step, rules)


@st.composite
def rules_of_all_kinds(draw: st.DrawFn) -> Rules:
    longest = draw(st.integers(1, 12))
    early_stopping: list[bool | str] = [True, False, "never"]
    return Rules(
        end=END,
        max_new_tokens=longest,
        min_new_tokens=draw(st.integers(0, longest)),
        beam_size=draw(st.integers(1, 4)),
        repetition_penalty=draw(st.sampled_from([1.0, 0.8, 1.3, 2.0])),
        no_repeat_ngram_size=draw(st.integers(0, 3)),
        length_penalty=draw(st.sampled_from([-1.0, 0.0, 1.0, 2.0, 60.0])),
        early_stopping=draw(st.sampled_from(early_stopping)),
    )


@settings(max_examples=300, derandomize=True, deadline=None)
@given(rules=rules_of_all_kinds(), seed=st.integers(0, 9999))
def test_both_write_the_same_report_by_the_same_scores(rules: Rules, seed: int) -> None:
    engine, edge = by_engine(table(seed), rules), by_edge(table(seed), rules)
    assert (engine.ids, engine.beams) == (edge.ids, edge.beams)
    assert engine.logprobs == pytest.approx(edge.logprobs, abs=1e-5)  # float32, summed in another order


@settings(max_examples=200, derandomize=True, deadline=None)
@given(rules=rules_of_all_kinds(), seed=st.integers(0, 9999), levels=st.integers(1, 3))
def test_where_scores_are_equal_both_offer_equal_ones_and_the_same_beams_go_on(
    rules: Rules, seed: int, levels: int
) -> None:
    """Which of equal candidates stand at the cut is each library's; all above it are the same."""
    logits, row = table(seed, levels), Row(rules)
    while not row.through:
        texts = [beam.ids for beam in row.running]
        after = np.stack([logits(text) for text in texts])
        if rules.beam_size == 1:
            (token,), (logprob,) = scores.next_tokens(rules, torch.from_numpy(after), texts, ())
            assert token == int(runtime.ruled(after[0], texts[0], rules).argmax())
            row.add(token, logprob)
            continue
        totals = torch.tensor([[float(beam.score) for beam in row.running]])
        (torchs,) = scores.candidates(rules, torch.from_numpy(after)[None], texts, totals, ())
        ours = runtime.candidates(runtime.log_softmax(after), row)
        assert torchs.sums == pytest.approx(ours.sums, rel=1e-6)  # float32, summed in another order
        assert above_the_cut(torchs) == above_the_cut(ours)
        row.advance(ours)


def above_the_cut(found: Candidates) -> set[tuple[int, int]]:
    """Origins and tokens of the candidates that are better than the last one."""
    last = found.sums[-1]
    better = found.sums > last + 1e-4 * max(1.0, abs(last)) if np.isfinite(last) else np.isfinite(found.sums)
    return set(zip(found.origins[better].tolist(), found.tokens[better].tolist(), strict=True))


def step_of(*candidates: tuple[float, int, int]) -> Candidates:
    """Sums, origins and tokens, best first."""
    sums, origins, tokens = zip(*candidates, strict=True)
    return Candidates(
        sums=np.array(sums, np.float32),
        origins=np.array(origins),
        tokens=np.array(tokens),
        logprobs=np.array(sums, np.float32),
    )


def test_of_equal_beams_the_earlier_candidate_goes_on_and_stands_first() -> None:
    row = Row(Rules(end=END, max_new_tokens=9, beam_size=2, length_penalty=0.0, early_stopping="never"))
    assert row.advance(step_of((-1, 0, 5), (-1, 0, 4), (-1, 0, 6), (-2, 0, 7))) == [0, 0]
    assert [beam.ids for beam in row.running] == [[5], [4]]
    assert row.advance(step_of((-1, 1, END), (-1, 0, END), (-1, 0, 8), (-1, 1, 9))) == [0, 1]
    assert [beam.ids for beam in row.done] == [[4, END], [5, END]]
    assert [beam.ids for beam in row.running] == [[5, 8], [4, 9]]
    assert row.through, "the best running beam can be no better than the worst ended one"
    assert row.written("a") == Written([4, END], [-1, -1], ([4, END], [5, END]), "a")


def test_an_end_below_the_first_k_candidates_is_lost() -> None:
    row = Row(Rules(end=END, max_new_tokens=9, beam_size=2))
    row.advance(step_of((-1, 0, 5), (-2, 0, 4), (-3, 0, END), (-4, 0, 7)))
    assert row.done == [Beam()] * 2


@pytest.mark.parametrize(("early_stopping", "through"), [(True, True), (False, False), ("never", False)])
def test_early_stopping_ends_once_as_many_have_ended_as_there_are_beams(
    early_stopping: bool | str, through: bool
) -> None:
    row = Row(Rules(end=END, max_new_tokens=9, beam_size=2, early_stopping=early_stopping))
    row.advance(step_of((-1, 0, END), (-1.5, 0, 4), (-2, 0, 5), (-3, 0, 6)))
    assert not row.through
    row.advance(step_of((-1.6, 0, 7), (-5, 0, END), (-6, 1, 7), (-7, 1, 8)))
    assert [beam.ended for beam in row.done] == [True, True]
    assert row.through is through
