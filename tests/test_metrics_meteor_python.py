"""METEOR by exact words and stems, without Java, equals the jar with the same two modules."""

import os
import random
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from metrics_corpus import HYPOTHESES, REFERENCES
from r2gengpt.metrics.measure import choose, measure, metric_names, scores_of
from r2gengpt.metrics.meteor import jar as meteor_jar
from r2gengpt.metrics.meteor import python as meteor_python
from r2gengpt.metrics.meteor.jar import JAR, MeteorJar, find
from r2gengpt.metrics.meteor.python import NAME, align, exact_stem_family, exact_stem_rows, function_words, stemmer
from r2gengpt.metrics.meteor.statistics import meteor, without_perfect_chunks
from r2gengpt.metrics.ngrams import Floats

Pairs = Sequence[tuple[str, Sequence[str]]]
needs_the_jar = pytest.mark.skipif(isinstance(find(), str), reason=f"needs the jar and Java: {find()}")
needs_the_list = pytest.mark.skipif(isinstance(exact_stem_family(), str), reason=str(exact_stem_family()))


@pytest.fixture(scope="module")
def jar() -> Iterator[MeteorJar]:
    """The jar with exact and stem only, on words as they are."""
    place = find()
    assert not isinstance(place, str)
    options = ["-", "-", "-stdio", "-l", "en", "-lower", "-m", "exact stem"]
    process = MeteorJar([place.java, "-Xmx2G", "-jar", JAR, *options], place.directory)
    yield process
    process.close()


def ours(pairs: Pairs) -> Floats:
    place = find()
    assert not isinstance(place, str)
    return exact_stem_rows(pairs, function_words(place.directory / JAR), stemmer())


def scores(rows: Floats) -> Floats:
    """Of each pair, then of all."""
    rows = without_perfect_chunks(rows)
    return np.append(meteor(rows), meteor(rows.sum(axis=0)))


@needs_the_jar
@pytest.mark.parametrize("name", HYPOTHESES)
def test_statistics_are_the_jars(name: str, jar: MeteorJar) -> None:
    pairs = list(zip(HYPOTHESES[name], REFERENCES, strict=True))
    np.testing.assert_allclose(scores(ours(pairs)), scores(jar.rows(pairs)), rtol=0, atol=1e-12)


@needs_the_jar
@pytest.mark.parametrize("words", [3, 12, 60])
def test_statistics_of_random_words_and_their_forms_are_the_jars(words: int, jar: MeteorJar) -> None:
    rng = random.Random(words)
    stems = ["lung", "the", "opacity", "clear", "is", "enlarge", "nodule", "of", "effusion", ".", "measure", "stable"]
    forms = [stem + end for stem in stems for end in ("", "s", "ed", "ing", "ly")][:words]

    def text() -> str:
        return " ".join(rng.choices(forms, k=rng.randrange(1, 30)))

    pairs = [(text(), [text() for _ in range(rng.choice([1, 1, 3]))]) for _ in range(100)]
    np.testing.assert_array_equal(ours(pairs), jar.rows(pairs))


@needs_the_jar
@pytest.mark.skipif("R2GENGPT_SHARED" not in os.environ, reason="needs the IU X-ray annotation (CC BY-NC-ND)")
@pytest.mark.parametrize("protocol", ["clean", "r2gen", "ptb", "raw"])
def test_statistics_of_real_reports_are_the_jars(protocol: str, jar: MeteorJar) -> None:
    from test_metrics_parity import iu_xray_texts

    reports, wanted, _ = iu_xray_texts(protocol)
    drawn = random.Random(0).sample(reports, 300)
    pairs = [(text, [other]) for text, other in zip(drawn, wanted, strict=False)]
    rows = ours(pairs)
    np.testing.assert_array_equal(rows, jar.rows(pairs))
    assert 0.1 < scores(rows)[-1] < 0.3


@pytest.mark.parametrize(
    ("hypothesis", "reference", "pairs", "chunks"),
    [
        ("a b c", "a b c", ((0, 0, 0), (1, 1, 0), (2, 2, 0)), 1),
        ("c a b", "a b c", ((0, 1, 0), (1, 2, 0), (2, 0, 0)), 2),
        ("lungs x", "lung y", ((0, 0, 1),), 1),
        ("x", "y", (), 0),
        ("a a", "a", ((0, 0, 0),), 1),
        ("", "a", (), 0),
    ],
)
def test_an_alignment_has_the_most_words_then_the_fewest_chunks_then_the_shortest_way(
    hypothesis: str, reference: str, pairs: tuple[tuple[int, int, int], ...], chunks: int
) -> None:
    words = hypothesis.split(), reference.split()
    found = align(*words, stems=tuple([word.rstrip("s") for word in text] for text in words))  # type: ignore[arg-type]
    assert (found.pairs, found.chunks) == (pairs, chunks)


@needs_the_list
def test_it_stands_under_its_own_name_and_says_what_it_is_not() -> None:
    chosen = choose(meteor="exact_stem")
    assert NAME in metric_names(chosen.families)
    assert "meteor" in chosen.not_available
    assert any("not comparable with published METEOR" in family.note for family in chosen.families)
    rows = measure(["the lungs are clear"], [["the lungs are clear"]], chosen.families)
    assert scores_of(rows.sum(axis=0), 1, chosen.families)[-1] == 1.0


@needs_the_list
def test_it_needs_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert isinstance(meteor_jar.find(), str)
    assert NAME in metric_names(choose(meteor="exact_stem").families)


@pytest.mark.parametrize("package", ["snowballstemmer", "pycocoevalcap"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = meteor_python.importlib.util.find_spec
    monkeypatch.setattr(
        meteor_python.importlib.util, "find_spec", lambda name: None if name == package else find_spec("json")
    )
    assert package in choose(meteor="exact_stem").not_available[NAME]
