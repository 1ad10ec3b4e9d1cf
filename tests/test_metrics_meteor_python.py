"""METEOR 1.5 in Python equals the jar: its words, its matches, its search, and the statistics of whole texts."""

import dataclasses
import gzip
import json
import os
import random
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metrics_corpus import HYPOTHESES, REFERENCES
from r2gengpt.errors import RunError
from r2gengpt.metrics.measure import choose, measure, metric_names, scores_of
from r2gengpt.metrics.meteor import alignment, paraphrases, python, tables
from r2gengpt.metrics.meteor import jar as meteor_jar
from r2gengpt.metrics.meteor.paraphrases import ParaphraseIndex, build
from r2gengpt.metrics.meteor.synonyms import Synonyms
from r2gengpt.metrics.meteor.tokens import words
from r2gengpt.metrics.ngrams import Floats

DATA = Path(__file__).with_name("data")
GOLDEN = json.loads(DATA.joinpath("metrics_golden.json").read_text(encoding="utf-8"))
METEOR_GOLDEN = json.loads(DATA.joinpath("meteor_golden.json").read_text(encoding="utf-8"))
PLACE = python.find()
needs_the_tables = pytest.mark.skipif(isinstance(PLACE, str), reason=str(PLACE))
needs_the_jar = pytest.mark.skipif(isinstance(meteor_jar.find(), str), reason=f"needs Java: {meteor_jar.find()}")
Pairs = Sequence[tuple[str, Sequence[str]]]
TABLE = """0.5
is seen
is visible
0.1
is seen
appears
0.2
heart
cardiac
0.3
appears
is seen
"""
"""A table of paraphrases in the form of the jar's."""


def ours(pairs: Pairs) -> Floats:
    assert isinstance(PLACE, Path)
    return python.shared(PLACE).rows(pairs)


def the_jars(pairs: Pairs) -> Floats:
    place = meteor_jar.find()
    assert not isinstance(place, str)
    return meteor_jar.shared(place).rows(pairs)


@needs_the_tables
@pytest.mark.parametrize("name", HYPOTHESES)
def test_scores_are_those_stored_from_pycocoevalcap(name: str) -> None:
    families = choose(meteor="python").families[-1:]
    rows = measure(HYPOTHESES[name], REFERENCES, families)
    found = [scores_of(rows.sum(axis=0), len(rows), families)[0], *scores_of(rows, 1, families)[:, 0]]
    np.testing.assert_allclose(found, GOLDEN["made_up_meteor"][name], rtol=0, atol=1e-12)


@needs_the_tables
@pytest.mark.parametrize("case", METEOR_GOLDEN["pairs"])
def test_statistics_are_those_stored_from_the_jar(case: dict[str, list[float]]) -> None:
    assert ours([(case["hypothesis"], case["references"])])[0].tolist() == case["statistics"]  # type: ignore[list-item]


@needs_the_tables
@pytest.mark.parametrize("together", [512, 5])
def test_statistics_of_drawn_texts_are_those_stored_from_the_jar_however_many_go_together(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "_TOGETHER", together)
    cases = METEOR_GOLDEN["drawn"]
    found = ours([(case["hypothesis"], case["references"]) for case in cases])
    np.testing.assert_array_equal(found, [case["statistics"] for case in cases])


VOCABULARY = """
the heart is normal in size lungs are clear no pleural effusion or pneumothorax focal consolidation mild small left
right lower lobe opacity mediastinum within limits degenerative changes of spine acute bony abnormality catheter tip
there is no evidence of increased enlarged appears seen visible visualized demonstrated lung cardiac large bigger
changed change changing study examination exams compared with prior previous old new
"""


def drawn(rng: random.Random, vocabulary: Sequence[str], longest: int) -> str:
    return " ".join(rng.choices(vocabulary, k=rng.randrange(1, longest)))


@needs_the_jar
@pytest.mark.parametrize(("distinct", "longest"), [(4, 20), (12, 40), (200, 60)])
def test_statistics_of_drawn_reports_are_the_jars(distinct: int, longest: int) -> None:
    rng = random.Random(distinct)
    vocabulary = [*rng.sample(VOCABULARY.split(), min(distinct, len(VOCABULARY.split()))), "."]
    pairs = [
        (drawn(rng, vocabulary, longest), [drawn(rng, vocabulary, longest) for _ in range(rng.choice([1, 1, 3]))])
        for _ in range(300)
    ]
    np.testing.assert_array_equal(ours(pairs), the_jars(pairs))


@needs_the_jar
def test_statistics_of_long_texts_of_few_words_are_the_jars() -> None:
    rng = random.Random(1)
    pairs = [
        (drawn(rng, [*VOCABULARY.split()[:20], "."], 900), [drawn(rng, VOCABULARY.split()[:15], 900)]) for _ in range(6)
    ]
    rows = ours(pairs)
    assert rows[:, 0].max() > 300, "more shared words than an integer has bits"
    np.testing.assert_array_equal(rows, the_jars(pairs))


@needs_the_jar
def test_statistics_of_drawn_paraphrases_of_several_words_are_the_jars() -> None:
    assert isinstance(PLACE, Path)
    rng = random.Random(5)
    index = python.shared(PLACE).paraphrases
    names = spelt(index)
    sources = [int(i) for i in rng.sample(range(index.sources.size), 600)]
    phrases = [(names[index.sources[i]], names[index.targets[index.starts[i]]]) for i in sources]

    def pair() -> tuple[str, list[str]]:
        some = rng.sample(phrases, rng.randrange(1, 9))
        first, second = ([one[side] for one in some] for side in (0, 1))
        rng.shuffle(second)
        return " ".join([*first, *rng.choices(VOCABULARY.split(), k=8)]), [" ".join(second)]

    pairs = [pair() for _ in range(300)]
    rows = ours(pairs)
    np.testing.assert_array_equal(rows, the_jars(pairs))
    assert (rows[:, 16:20].sum(axis=1) > 2).mean() > 0.5, "most pairs must have paraphrases"


def spelt(index: ParaphraseIndex) -> list[str]:
    """All phrases and beginnings of phrases by number."""
    known = list(index.words)
    for low, high in zip(index.bounds[:-1], index.bounds[1:], strict=True):
        parents, last = np.divmod(index.nodes[low:high], len(index.words))
        known += [
            f"{known[parent]} {known[word]}" for parent, word in zip(parents.tolist(), last.tolist(), strict=True)
        ]
    return known


@needs_the_jar
@pytest.mark.parametrize(
    "alphabet", ["aAbZ5 .',-\"`", "aX1 s.,'-–—’‘“”(_é ×σ\t\u00a0/%", "a. \x00\x0b\x0c\x1f\x85\u2003\u2028'-,"]
)
def test_words_of_drawn_characters_are_as_many_as_the_jars(alphabet: str) -> None:
    rng = random.Random(alphabet)
    some = ["Mr.", "No.", "e.g.", "U.S.", "lung.", "Lung", "5.5", "a-b", "--", "...", "it's", "x,y", "S/P", "cm."]

    def text() -> str:
        parts = ["".join(rng.choices(alphabet, k=rng.randrange(1, 9))), *rng.choices(some, k=rng.randrange(3))]
        rng.shuffle(parts)
        return rng.choice(["", " "]).join(parts)

    pairs = [(one, [one, text()]) for one in (text() for _ in range(1500))]
    np.testing.assert_array_equal(ours(pairs), the_jars(pairs))


@needs_the_jar
@pytest.mark.skipif("R2GENGPT_SHARED" not in os.environ, reason="needs the IU X-ray annotation (CC BY-NC-ND)")
@pytest.mark.parametrize("protocol", ["clean", "r2gen", "ptb", "raw"])
def test_statistics_of_real_reports_are_the_jars(protocol: str) -> None:
    from test_metrics_parity import iu_xray_texts

    reports, wanted, _ = iu_xray_texts(protocol)
    drawn_reports = random.Random(0).sample(reports, 300)
    pairs = [(text, [other]) for text, other in zip(drawn_reports, wanted, strict=False)]
    np.testing.assert_array_equal(ours(pairs), the_jars(pairs))


def test_prefixes_are_those_before_any_word_and_those_before_numbers(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / tables.JAR, "w") as archive:
        archive.writestr(
            "nonbreaking/english.prefixes", "# titles\n\nMr\nDr\n#List\nNo #NUMERIC_ONLY#\nArt #NUMERIC_ONLY#\n"
        )
    assert tables.prefixes(tmp_path) == tables.Prefixes(frozenset({"Mr", "Dr"}), frozenset({"No", "Art"}))


KEEP = tables.Prefixes(frozenset({"A", "Mr", "Dr", "v", "vs"}), frozenset({"No"}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The heart. is 5.5 cm. Dr. A saw No. 5, p. 4", "the heart. is 5.5 cm . dr. a saw no. 5 , p . 4"),
        ("No. 95 A. zoo heart. zoo No. a No. \u00e9", "no. 95 a. zoo heart. zoo no. a no . \u00e9"),
        ("U.S. is big. e.g. this v1.2. 3.4.", "us is big. eg this v12 3.4 ."),
        ("a,b,c,d 5,300 5,b 1,,2 a,,b", "a , b,c , d 5,300 5 , b 1 , , 2 a , ,b"),
        ("don't it's 1990's dogs' l'eau 1'2 a'b'c", "don 't it 's 1990 's dogs ' l 'eau 1 ' 2 a 'b'c"),
        ("a-b-c-d a--b a---b -a a- 5-6 U.S.-led", "a b-c d a b a--b -a a- 5 6 us led"),
        ("wait... what.... a..b ..x . ..", "wait ... what .... a .. b .. x . .."),
        ("``a\u2019\u2019 \u201cb\u201d `c'", '" a " " b " \' c \''),
        ("S/P (x) [y] 50% #3 é×σ", "s / p ( x ) [ y ] 50 % # 3 é × σ"),
        ("A\u00a0B\tC\u2003D", "a b c d"),
        ("!a!", "! a !"),
        ("", ""),
    ],
)
def test_words_are_those_that_the_jar_prints(text: str, found: str) -> None:
    assert " ".join(words(text, KEEP)) == found


SYNONYMS = Synonyms(
    {
        "heart": "1",
        "ticker": "1",
        "do": "2",
        "doe": "3",
        "deer": "3",
        "make": "2",
        "glass": "4",
        "pane": "4",
        "as": "5",
    },
    {"did": ["do"], "make": ["make"]},
)


@pytest.mark.parametrize(
    ("word", "other", "related"),
    [
        ("heart", "ticker", True),
        ("hearts", "tickers", True),
        ("did", "make", True),
        ("does", "deer", True),
        ("does", "make", False),
        ("glasses", "pane", True),
        ("ass", "as", False),
        ("heart", "pane", False),
    ],
)
def test_a_synonym_shares_a_synset_with_a_word_or_with_its_first_base_form(
    word: str, other: str, related: bool
) -> None:
    assert SYNONYMS.among([word, other]) == ({word: [other], other: [word]} if related else {})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A directory with a little table of paraphrases."""
    place = tmp_path / tables.PARAPHRASES
    place.parent.mkdir()
    place.write_bytes(gzip.compress(TABLE.encode()))
    return tmp_path


def test_phrases_and_their_paraphrases_are_found_in_texts_in_the_tables_order(table: Path) -> None:
    index = build(table / tables.PARAPHRASES)
    texts = [["heart", "is", "seen"], ["is", "visible", "appears", "is"], []]
    found = index.find(texts)
    names = spelt(index)
    listed = list(
        zip(found.text.tolist(), found.start.tolist(), [names[number] for number in found.number], strict=True)
    )
    assert listed == [
        (0, 0, "heart"),
        (0, 1, "is"),
        (0, 1, "is seen"),
        (0, 2, "seen"),
        (1, 0, "is"),
        (1, 0, "is visible"),
        (1, 1, "visible"),
        (1, 2, "appears"),
        (1, 3, "is"),
    ]
    partners = {names[one]: [names[other] for other in others] for one, others in index.among(found.number).items()}
    assert partners == {"is seen": ["is visible", "appears"], "appears": ["is seen"]}


LONGER = """0.5
right
on the right
0.5
on the right
at the right side of
0.5
at the right side of
right
0.5
on the right
right
"""
"""Phrases that begin or end alike, with words of others."""


def test_phrases_of_many_words_are_found_where_they_stand_whole_in_one_text(tmp_path: Path) -> None:
    tmp_path.joinpath("table").write_bytes(gzip.compress(LONGER.encode()))
    index = build(tmp_path / "table")
    names = spelt(index)
    texts = [
        ["seen", "at", "the", "right", "side", "of", "it", "on", "the", "right"],
        ["on", "the"],
        ["right", "at"],
        ["at", "the", "side"],
    ]
    found = index.find(texts)
    whole = {"on the right", "at the right side of", "right"}
    listed = [
        (text, start, length, names[number])
        for text, start, length, number in zip(found.text, found.start, found.length, found.number, strict=True)
        if names[number] in whole
    ]
    assert listed == [
        (0, 1, 5, "at the right side of"),
        (0, 3, 1, "right"),
        (0, 7, 3, "on the right"),
        (0, 9, 1, "right"),
        (2, 0, 1, "right"),
    ]
    partners = {names[one]: [names[other] for other in others] for one, others in index.among(found.number).items()}
    assert partners == {
        "right": ["on the right"],
        "on the right": ["at the right side of", "right"],
        "at the right side of": ["right"],
    }


@pytest.mark.parametrize("size", [1, 7, 20, 33, 1 << 25])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_table_read_in_parts_is_the_table(
    size: int, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("table").write_bytes(gzip.compress((TABLE.rstrip() + end).encode()))
    monkeypatch.setattr(paraphrases, "_CHUNK", size)
    index = build(tmp_path / "table")
    names = spelt(index)
    places = zip(index.sources, index.starts[:-1], index.starts[1:], strict=True)
    found = {names[one]: [names[other] for other in index.targets[low:high]] for one, low, high in places}
    assert found == {"heart": ["cardiac"], "is seen": ["is visible", "appears"], "appears": ["is seen"]}


def test_an_index_is_kept_by_the_checksum_and_the_size_of_its_tables_text(table: Path) -> None:
    text = TABLE.encode()
    kept = zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    assert paraphrases._checksum(table / tables.PARAPHRASES) == kept.hex()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this program."""
    monkeypatch.setenv("R2GENGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The tables that an index was made of."""
    made: list[Path] = []
    monkeypatch.setattr(paraphrases, "build", lambda path: (made.append(path), build(path))[1])
    return made


def test_an_index_is_made_once_and_a_spoilt_or_another_one_anew(table: Path, cache: Path, builds: list[Path]) -> None:
    assert paraphrases.load(table).words == paraphrases.load(table).words
    assert len(builds) == 1
    next(cache.rglob("nodes.npy")).write_bytes(b"spoilt")
    paraphrases.load(table)
    assert paraphrases.load(table).targets.tolist() == build(table / tables.PARAPHRASES).targets.tolist()
    assert len(builds) == 2
    (table / tables.PARAPHRASES).write_bytes(gzip.compress(TABLE.replace("heart", "core").encode()))
    assert "core" in paraphrases.load(table).words
    assert len(builds) == 3


def test_where_the_cache_cannot_be_written_the_index_is_made_each_time(
    table: Path, cache: Path, builds: list[Path]
) -> None:
    cache.touch()
    assert paraphrases.load(table).words == paraphrases.load(table).words
    assert len(builds) == 2


@needs_the_tables
def test_it_needs_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    chosen = choose(meteor="python")
    assert "meteor" in metric_names(chosen.families)
    assert "meteor" not in chosen.not_available
    rows = measure(["the lungs are clear"], [["the lungs are clear"]], chosen.families)
    assert scores_of(rows.sum(axis=0), 1, chosen.families)[-1] == 1.0


@needs_the_tables
def test_a_text_too_long_is_refused() -> None:
    with pytest.raises(RunError, match="a text of 5001 words, at most 5000; leave it out with meteor none"):
        ours([("a", ["b"]), ("a " * 5001, ["b"])])


@needs_the_tables
def test_texts_with_too_many_equal_words_are_refused() -> None:
    with pytest.raises(RunError, match="a text of 4000 words and a reference of 4000 share too many; leave it out"):
        ours([("a " * 4000, ["a " * 4000])])


@pytest.mark.parametrize("package", ["snowballstemmer", "pycocoevalcap"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = tables.importlib.util.find_spec
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: None if name == package else find_spec("json"))
    reason = choose(meteor="python").not_available["meteor"]
    assert package in reason
    assert "pip install '.[metrics]' in the clone" in reason


def possible(*rows: tuple[int, int, int, int, int, int]) -> alignment.PossibleMatches:
    """Of rows of pair, place, length, place and length in the hypothesis, and kind."""
    return alignment.PossibleMatches(*np.array(rows, dtype=np.int64).reshape(len(rows), 6).T)


EXACT, STEM, SYNONYM, PARAPHRASE = 0, 1, 2, 3


def test_more_pairs_than_a_key_has_bits_for_are_no_scale() -> None:
    one = np.zeros(1, dtype=np.int64)
    candidates = alignment.PossibleMatches(*(one for _ in dataclasses.fields(alignment.PossibleMatches)))
    narrow = alignment._Scale.of(candidates, 8, 1)
    assert narrow is not None
    free = np.iinfo(np.int64).bits - 1 - narrow.rank - narrow.order
    assert alignment._Scale.of(candidates, 8, 2**free - 1) is not None
    assert alignment._Scale.of(candidates, 8, 2**free) is None


@pytest.mark.parametrize(
    ("rows", "words", "distance", "count", "order"),
    [
        ((), 6, 0, 3, 6),  # 40 places among equals
        ((), 7, 0, 4, 6),
        (((0, 2, 1, 2, 1, EXACT),), 6, 0, 3, 7),  # 80: a match or none
        (((0, 0, 1, 3, 1, EXACT),), 6, 2, 3, 7),
        (((0, 0, 1, 3, 1, EXACT), (0, 2, 1, 1, 1, EXACT)), 6, 3, 3, 7),  # 3 + 1 apart
        (((0, 0, 1, 3, 1, EXACT), (1, 0, 1, 1, 1, EXACT)), 6, 2, 3, 7),
        (((0, 1, 1, 0, 1, EXACT), (1, 0, 1, 0, 1, EXACT)), 2, 1, 2, 7),
        (((0, 1, 1, 1, 1, EXACT), (1, 1, 1, 1, 1, EXACT), (2, 1, 1, 1, 1, EXACT)), 6, 0, 3, 7),
        (((0, 2, 1, 2, 1, EXACT), (0, 2, 1, 3, 1, EXACT), (0, 2, 1, 4, 1, EXACT)), 8, 2, 4, 8),  # 160
    ],
)
def test_a_rank_has_the_fewest_bits_that_hold_distance_chunks_and_words(
    rows: Sequence[tuple[int, int, int, int, int, int]], words: int, distance: int, count: int, order: int
) -> None:
    scale = alignment._Scale.of(possible(*rows), words, 2)
    matched = distance + count
    assert scale == alignment._Scale(distance, matched, words << matched, matched + count, order)


def test_pairs_that_do_not_fit_into_a_key_together_go_forward_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(0, 0, 1, 0, 1, EXACT), (1, 1, 1, 0, 1, STEM), (2, 0, 1, 0, 1, EXACT), (2, 1, 1, 1, 1, EXACT)]
    rows += [(4, 0, 1, 1, 1, EXACT), (4, 1, 1, 0, 1, EXACT)]
    lengths = np.full(5, 2)
    together = alignment.align(possible(*rows), lengths, lengths)
    assert together.chunks.tolist() == [1, 1, 1, 0, 2]
    assert sorted(together.taken) == list(range(6))
    alone = alignment._Scale.of(possible(*rows[-2:]), 4, 1)
    assert alone is not None
    monkeypatch.setattr(alignment, "_KEY_BITS", alone.rank + alone.order + 1)
    apart = alignment.align(possible(*rows), lengths, lengths)
    assert apart.chunks.tolist() == together.chunks.tolist()
    assert sorted(apart.taken) == list(range(6))


def test_a_pair_that_fits_into_no_key_is_refused_with_its_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_KEY_BITS", 8)
    with pytest.raises(RunError, match="a text of 3 words and a reference of 2 share too many words; leave it out"):
        alignment.align(possible((0, 0, 1, 0, 1, EXACT)), np.array([2]), np.array([3]))


def test_a_paraphrase_of_many_words_matches_a_single_word() -> None:
    rows = [(pair, 0, 6, 0, 1, PARAPHRASE) for pair in range(3)]
    found = alignment.align(possible(*rows), np.array([6, 6, 6]), np.array([1, 1, 1]))
    assert sorted(found.taken) == [0, 1, 2]
    assert found.chunks.tolist() == [1, 1, 1]


@pytest.mark.parametrize("words", [1, 2, 3, 4])
@pytest.mark.parametrize("further", [0, 1])
def test_an_alignment_of_texts_that_begin_alike_is_one_chunk(words: int, further: int) -> None:
    rows = [(0, place, 1, place, 1, EXACT) for place in range(words)]
    found = alignment.align(possible(*rows), np.array([words]), np.array([words + further]))
    assert sorted(found.taken) == list(range(words))
    assert found.chunks.tolist() == [1]


def test_without_candidates_no_match_is_taken() -> None:
    found = alignment.align(possible(), np.array([2, 0]), np.array([0, 3]))
    assert found.taken.tolist() == []
    assert found.chunks.tolist() == [0, 0]


def without_last_s(word: str) -> str:
    return word.removesuffix("s")


def test_a_family_is_the_other_words_of_the_same_stem() -> None:
    found = python._families(["lung", "heart", "lungs", "rib", "ribs"], without_last_s)
    assert found == {"lung": ["lungs"], "lungs": ["lung"], "rib": ["ribs"], "ribs": ["rib"]}


def analysed(text: str, phrases: dict[int, list[tuple[int, int]]]) -> python.AnalysedText:
    return python.AnalysedText(text.split(), [False] * len(text.split()), python._places(tuple(text.split())), phrases)


def test_of_the_paraphrases_at_a_place_the_shorter_phrase_comes_first_and_then_the_tables_order() -> None:
    reference = analysed("a b", {10: [(0, 2)], 11: [(0, 1)], 12: [(1, 1)]})
    hypothesis = analysed("x y z", {20: [(0, 1)], 21: [(1, 1)], 22: [(2, 1)]})
    kin = python.Kinship({}, {10: [20], 11: [22, 21], 12: [20], 20: [12]})
    assert python.candidates(hypothesis, reference, kin) == [
        (0, 1, 2, 1, PARAPHRASE),
        (0, 1, 1, 1, PARAPHRASE),
        (0, 2, 0, 1, PARAPHRASE),
        (1, 1, 0, 1, PARAPHRASE),
        (1, 1, 0, 1, PARAPHRASE),
    ]


@pytest.mark.parametrize(("most", "refused"), [(5, True), (6, False)])
def test_a_pair_may_have_as_many_candidates_as_is_allowed_and_no_more(
    most: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "MOST", most)
    texts = analysed("a a a", {}), analysed("a a", {}), python.Kinship({}, {})
    if refused:
        with pytest.raises(RunError, match="a text of 3 words and a reference of 2 share too many"):
            python.candidates(*texts)
    else:
        assert len(python.candidates(*texts)) == 6


@needs_the_tables
def test_a_text_of_the_most_words_is_taken() -> None:
    assert ours([("a " * 5000, ["b"])])[0, :2].tolist() == [5000, 1]
