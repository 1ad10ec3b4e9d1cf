"""Parts of the metrics on their own: n-gram counts, subsequences, resampling, edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2gengpt.metrics.bleu import bleu, bleu_statistics
from r2gengpt.metrics.bootstrap import ci95, resampled_sums
from r2gengpt.metrics.cider import cider_d
from r2gengpt.metrics.measure import METRICS, measure, scores_of
from r2gengpt.metrics.ngrams import corpus
from r2gengpt.metrics.rouge import longest_common_subsequence, rouge_l

WORDS = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=12)


def by_table(a: list[str], b: list[str]) -> int:
    """The textbook's table, to check against."""
    row = [0] * (len(b) + 1)
    for word in a:
        above = row[:]
        for j, other in enumerate(b):
            row[j + 1] = above[j] + 1 if word == other else max(above[j + 1], row[j])
    return row[-1]


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_table(a: list[str], b: list[str]) -> None:
    assert longest_common_subsequence(a, b) == by_table(a, b)


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=9), min_size=1, max_size=4))
def test_ngram_counts_of_a_text_are_its_windows(texts: list[list[str]]) -> None:
    counted = corpus([" ".join(words) for words in texts], [["a"]] * len(texts))
    for order, pair in enumerate(counted.orders, start=1):
        for i, words in enumerate(texts):
            windows = [tuple(words[j : j + order]) for j in range(len(words) - order + 1)]
            mine = pair.hypotheses.text == i
            assert sorted(pair.hypotheses.count[mine]) == sorted(windows.count(w) for w in set(windows))


def test_the_closest_reference_length_is_the_shorter_of_two_that_are_equally_near() -> None:
    statistics = bleu_statistics(corpus(["a b c", "a"], [["a b c d", "a b"], ["a b c", "a b"]]))
    assert statistics.closest.tolist() == [2, 2]


def test_bleu_of_an_identical_word_falls_short_of_one_by_coco_captions_small_terms() -> None:
    found = bleu(bleu_statistics(corpus(["a"], [["a"]])).columns())[0, 0]
    precision = ratio = (1 + 1e-15) / (1 + 1e-9)
    assert 1 - found == pytest.approx(1 - precision * np.exp(1 - 1 / ratio), rel=1e-5)


def test_a_word_matches_no_more_often_than_one_reference_has_it() -> None:
    statistics = bleu_statistics(corpus(["the the the the"], [["the cat", "the the dog"]]))
    assert statistics.matched[0].tolist() == [2, 1, 0, 0]


def test_rouge_l_may_take_precision_and_recall_from_different_references() -> None:
    (score,) = rouge_l(["a b"], [["a b c d e f", "a"]])
    assert score == pytest.approx(1.0)  # precision 1 by the first, recall 1 by the second


def test_two_empty_texts_are_equal_for_rouge_l_as_in_coco_caption() -> None:
    assert rouge_l(["", "a"], [[""], [""]]).tolist() == [1.0, 0.0]


def test_cider_of_one_study_is_zero_even_for_an_identical_text() -> None:
    assert cider_d(corpus(["the lungs are clear"], [["the lungs are clear"]])).tolist() == [0.0]


def test_cider_of_identical_texts_that_share_no_words_is_ten() -> None:
    texts = ["a b c d e", "f g h i j"]
    np.testing.assert_allclose(cider_d(corpus(texts, [[t] for t in texts])), 10.0, rtol=1e-12)


def test_a_word_that_all_studies_have_weighs_nothing_for_cider() -> None:
    assert cider_d(corpus(["a", "a", "a"], [["a"], ["a"], ["a"]])).tolist() == [0.0, 0.0, 0.0]


def test_texts_without_any_words_do_not_stop_the_metrics() -> None:
    assert scores_of(measure([""], [["a"]]).sum(axis=0), 1).tolist() == [0.0] * 6


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], []), (["a"], [[]])])
def test_a_corpus_without_studies_or_references_is_refused(hypotheses: list[str], references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="needs a reference"):
        corpus(hypotheses, references)


def test_resampled_sums_equal_scoring_the_drawn_studies_anew() -> None:
    columns = np.arange(30, dtype=np.float64).reshape(10, 3)
    sums = resampled_sums(columns, 5, seed=3)
    draws = np.random.default_rng(3).integers(0, 10, size=(5, 10))
    np.testing.assert_array_equal(sums, columns[draws].sum(axis=1))


def test_resampling_in_blocks_gives_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(0).random((7, 2))
    whole = resampled_sums(columns, 20, seed=1)
    monkeypatch.setattr("r2gengpt.metrics.bootstrap.BLOCK", 21)
    np.testing.assert_allclose(resampled_sums(columns, 20, seed=1), whole, rtol=1e-14)


def test_without_resamples_there_are_no_sums() -> None:
    assert resampled_sums(np.ones((4, 3)), 0, seed=0).shape == (0, 3)


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    low, high = ci95(resampled_sums(values, 4000, seed=0) / 400)
    error = 1.96 * values.std() / 20
    np.testing.assert_allclose([low[0], high[0]], values.mean() + np.array([-error, error]), atol=0.1 * error)


def test_resampled_bleu_is_the_corpus_bleu_of_the_drawn_studies() -> None:
    hypotheses, references = ["a b c d e", "a b x", "q"], [["a b c d f"], ["a b c"], ["q r"]]
    draws = np.random.default_rng(5).integers(0, 3, size=(1, 3))[0]
    resampled = scores_of(resampled_sums(measure(hypotheses, references), 1, seed=5), 3)[0]
    anew = scores_of(measure([hypotheses[i] for i in draws], [references[i] for i in draws]).sum(axis=0), 3)
    bleus = [METRICS.index(f"bleu_{n}") for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(resampled[bleus], anew[bleus], rtol=1e-12)
