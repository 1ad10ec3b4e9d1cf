"""A metric joins the others as a family: its name, its statistics of each study, and scores of their sums."""

import numpy as np
import pytest

from r2gengpt.metrics.families import MetricFamily, Texts, mean
from r2gengpt.metrics.measure import FAMILIES, MetricChoice, measure, metric_names, scores_of
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score


def lengths(texts: Texts) -> np.ndarray:
    """Words of the protocol's form, capitals of the text as it was given, capitals of its first reference."""
    return np.array(
        [
            [len(text.split()), sum(map(str.isupper, written)), sum(map(str.isupper, wanted[0]))]
            for text, written, wanted in zip(texts.hypotheses, texts.written, texts.wanted, strict=True)
        ],
        dtype=np.float64,
    )


def ratio(sums: np.ndarray, studies: np.ndarray) -> np.ndarray:
    return np.concatenate([sums[..., :1] / studies, sums[..., 1:2] / np.maximum(sums[..., 2:], 1)], axis=-1)


LENGTH = MetricFamily("length", ("words", "capitals"), 3, lengths, ratio, note="words and capitals are counted")
CHOICE = MetricChoice((*FAMILIES, LENGTH), {"other": "is not there"})
HYPOTHESES = {"a": "The HEART is large.", "b": "Lungs clear."}
REFERENCES = {"a": ["The heart."], "b": ["LUNGS clear"]}


def test_a_family_is_scored_with_intervals_baselines_and_its_note() -> None:
    scores = score(HYPOTHESES, REFERENCES, PROTOCOLS["clean"], choice=CHOICE)
    assert scores.metrics["words"].value == (5 + 3) / 2  # the protocol splits the full stop off
    assert scores.metrics["capitals"].value == (6 + 1) / (1 + 5)
    assert scores.per_study["capitals"].tolist() == [6 / 1, 1 / 5]
    assert scores.metrics["words"].ci95 == (3.0, 5.0)
    assert scores.baselines["texts_shuffled"].metrics["words"].value == 4.0
    assert "words and capitals are counted" in scores.notes
    assert scores.not_available["other"] == "is not there"


def test_what_one_family_is_given_does_not_move_the_others() -> None:
    alone = score(HYPOTHESES, REFERENCES, PROTOCOLS["clean"], choice=MetricChoice(FAMILIES, {}))
    beside = score(HYPOTHESES, REFERENCES, PROTOCOLS["clean"], choice=MetricChoice((LENGTH, *FAMILIES), {}))
    assert list(beside.metrics) == ["words", "capitals", *alone.metrics]
    assert {name: beside.metrics[name] for name in alone.metrics} == alone.metrics


def test_sums_over_different_numbers_of_studies_are_each_divided_by_their_own() -> None:
    columns = measure(["a", "a b"], [["a"], ["a"]], (LENGTH,))
    sums = np.stack([columns.sum(axis=0), columns[1]])
    assert scores_of(sums, np.array([2.0, 1.0]), (LENGTH,))[:, 0].tolist() == [1.5, 2.0]


@pytest.mark.parametrize("value", [np.zeros((2, 2)), np.full((2, 1), np.nan)])
def test_statistics_of_another_shape_or_not_finite_are_refused(value: np.ndarray) -> None:
    family = MetricFamily("bad", ("bad",), 1, lambda _: value, mean)
    with pytest.raises(ValueError, match="bad: statistics"):
        measure(["a", "b"], [["a"], ["b"]], (family,))


def test_names_of_scores_are_unique() -> None:
    names = metric_names(FAMILIES)
    assert len(set(names)) == len(names)
