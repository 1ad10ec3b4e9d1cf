"""METEOR by its jar: its values, its intervals, one warm process, and words where something is missing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from metrics_corpus import HYPOTHESES, REFERENCES
from r2gengpt.errors import RunError
from r2gengpt.metrics.measure import FAMILIES, choose, measure, metric_names, scores_of
from r2gengpt.metrics.meteor import jar as meteor_jar
from r2gengpt.metrics.meteor import tables
from r2gengpt.metrics.meteor.jar import MeteorJar, find, score_line
from r2gengpt.metrics.meteor.statistics import COLUMNS, meteor, meteor_family, without_perfect_chunks
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score

GOLDEN = json.loads(Path(__file__).with_name("data").joinpath("metrics_golden.json").read_text(encoding="utf-8"))
needs_the_jar = pytest.mark.skipif(isinstance(find(), str), reason=f"needs the jar and Java: {find()}")
ONE = "1.0 2.0 0.0 0.0 1.0 1.0 " + "0.0 " * 14 + "1.0 1.0 1.0"
"""Statistics of a hypothesis of one content word, of which a reference of two has it."""
ECHO = f"import sys\nfor line in sys.stdin: print('{ONE}', flush=True)"


@pytest.fixture
def start() -> Iterator:
    """Starts a Python program in the jar's place."""
    running = []

    def begin(code: str, **limits: float) -> MeteorJar:
        running.append(MeteorJar([sys.executable, "-c", code], Path.cwd(), **limits))
        return running[-1]

    yield begin
    for process in running:
        process.close()


def jar_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, np.ndarray]:
    """Of the corpus and of each study."""
    place = find()
    assert not isinstance(place, str)
    families = (meteor_family(meteor_jar.shared(place).rows),)
    rows = measure(hypotheses, references, families)
    return scores_of(rows.sum(axis=0), len(rows), families)[0], scores_of(rows, 1, families)[:, 0]


@needs_the_jar
@pytest.mark.parametrize("name", HYPOTHESES)
def test_scores_are_those_stored_from_pycocoevalcap(name: str) -> None:
    whole, each = jar_scores(HYPOTHESES[name], REFERENCES)
    np.testing.assert_allclose([whole, *each], GOLDEN["made_up_meteor"][name], rtol=0, atol=1e-12)


@needs_the_jar
@pytest.mark.skipif("R2GENGPT_SHARED" not in os.environ, reason="needs the IU X-ray annotation (CC BY-NC-ND)")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_baselines_on_the_iu_xray_test_split_are_those_stored_from_pycocoevalcap(protocol: str) -> None:
    from r2gengpt.metrics import baselines
    from test_metrics_parity import iu_xray_texts

    reports, wanted, rules = iu_xray_texts(protocol)
    systems = {
        "constant": [rules.report(baselines.CONSTANT_REPORT)] * 590,
        "most_frequent": [baselines.most_frequent(reports)] * 590,
        "random_train": [reports[i] for i in baselines.random_places(len(reports), 590, 0)],
    }
    for name, texts in systems.items():
        whole, _ = jar_scores(texts, [[text] for text in wanted])
        assert whole == pytest.approx(GOLDEN["iu_xray"][protocol][name][6], abs=1e-12), name


@needs_the_jar
def test_the_score_of_all_studies_is_the_formula_on_their_sums_and_has_an_interval() -> None:
    ids = [str(i) for i in range(8)]
    scores = score(
        dict(zip(ids, HYPOTHESES["rotated"], strict=True)),
        dict(zip(ids, REFERENCES, strict=True)),
        PROTOCOLS["raw"],
        choice=choose(meteor="jar"),
        resamples=200,
    )
    found = scores.metrics["meteor"]
    assert found.value == pytest.approx(GOLDEN["made_up_meteor"]["rotated"][0], abs=1e-12)
    assert found.ci95 is not None
    assert found.ci95[0] < found.value < found.ci95[1]
    assert "meteor" in scores.baselines["constant"].metrics
    assert "meteor" not in scores.not_available


def test_a_hypothesis_without_words_scores_zero_and_an_identical_one_scores_one() -> None:
    empty = np.zeros(COLUMNS)
    empty[1] = 3
    perfect = np.array([3, 3, 1, 1, 2, 2, 1, 1, *[0] * 12, 0, 3, 3], dtype=float)
    np.testing.assert_allclose(meteor(np.stack([empty, perfect])), [0, 1])


def test_the_score_is_the_published_formula() -> None:
    exact, stem, paraphrase = [2, 2, 1, 1], [1, 1, 0, 0], [3, 1, 0, 1]  # content words of both, function words of both
    row = np.array([10, 8, 4, 3, *exact, *stem, *[0] * 4, *paraphrase, 3, 7, 6], dtype=float)
    precision = (0.75 * (2 + 0.6 * 1 + 0.6 * 3) + 0.25 * 1) / (0.75 * 6 + 0.25 * 4)
    recall = (0.75 * (2 + 0.6 * 1 + 0.6 * 1) + 0.25 * (1 + 0.6 * 1)) / (0.75 * 5 + 0.25 * 3)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert meteor(row) == pytest.approx(mean * (1 - 0.6 * (3 / 6.5) ** 0.2), abs=1e-12)


def test_a_synonym_weighs_four_fifths_of_an_equal_word() -> None:
    row = np.array([1, 1, 0, 0, *[0] * 8, 1, 1, 0, 0, *[0] * 4, 0, 1, 1], dtype=float)
    assert meteor(row) == pytest.approx(0.8, abs=1e-12)


def test_a_match_of_one_function_word_alone_counts() -> None:
    row = np.array([1, 1, 1, 1, 0, 0, 1, 1, *[0] * 12, 1, 1, 1], dtype=float)
    assert meteor(row) == pytest.approx(1 - 0.6, abs=1e-12)


def test_a_pair_that_occurs_often_is_asked_for_once() -> None:
    asked = []

    def rows(pairs: Sequence[tuple[str, Sequence[str]]]) -> np.ndarray:
        asked.extend(pairs)
        return np.ones((len(pairs), COLUMNS))

    measure(["a", "b", "a"], [["x"], ["x"], ["x"]], (meteor_family(rows),))
    assert asked == [("a", ("x",)), ("b", ("x",))]


def test_one_process_answers_all_calls(start) -> None:
    process = start("import os, sys\nfor line in sys.stdin: print(os.getpid(), " + "*[0.0] * 22, flush=True)")
    first = process.rows([("a", ["b"])] * 3)
    assert (first[:, 0] == process.rows([("a", ["b"])])[0, 0]).all()


def test_more_lines_than_a_pipe_holds_do_not_block(start) -> None:
    assert start(ECHO).rows([("word " * 300, ["word " * 300])] * 400).shape == (400, COLUMNS)


def test_a_process_that_dies_is_told_with_what_it_wrote_to_stderr(start) -> None:
    process = start("import sys\nsys.stdin.readline()\nsys.exit('OutOfMemoryError: Java heap space')")
    with pytest.raises(RunError, match="its Java process ended: OutOfMemoryError: Java heap space"):
        process.rows([("a", ["b"])])


def test_a_process_that_does_not_answer_is_ended_and_told(start) -> None:
    process = start("import sys\nprint('still loading', file=sys.stderr, flush=True)\nsys.stdin.read()", start_s=1)
    with pytest.raises(RunError, match=r"no answer in 1 s to a text of 1 words .*meteor none"):
        process.rows([("a", ["b"])])
    assert process.ended


def test_an_answer_that_is_no_statistics_is_told(start) -> None:
    with pytest.raises(RunError, match="no statistics: b'Error"):
        start("import sys\nfor line in sys.stdin: print('Error', flush=True)").rows([("a", ["b"])])


def test_a_text_too_long_for_it_is_refused_before_it_is_sent(start) -> None:
    with pytest.raises(RunError, match="a text of 5001 words, at most 5000; leave it out with meteor none"):
        start(ECHO).rows([("a", ["b"]), ("a " * 5001, ["b"])])


def test_closing_ends_the_process(start) -> None:
    process = start(ECHO)
    process.rows([("a", ["b"])])
    process.close()
    assert process.ended


def test_a_request_is_one_line_whatever_the_texts_hold() -> None:
    assert score_line("a ||| b\nc", ["d", "e\r\nf |||"]) == "SCORE ||| d ||| e  f  ||| a b c"


def test_after_a_process_has_ended_the_next_score_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    place = meteor_jar.JarPlace(sys.executable, Path.cwd())
    started = []

    def begin(command: list[str], directory: Path) -> MeteorJar:
        started.append(MeteorJar([command[0], "-c", ECHO], directory))
        return started[-1]

    monkeypatch.setattr(meteor_jar, "MeteorJar", begin)
    monkeypatch.setattr(meteor_jar, "_running", {})
    assert meteor_jar.shared(place) is meteor_jar.shared(place)
    started[0].close()
    assert meteor_jar.shared(place).rows([("a", ["b"])]).shape == (1, COLUMNS)
    assert len(started) == 2
    started[1].close()


FORKED = """
import os, sys
from pathlib import Path
from r2gengpt.metrics.meteor import jar

place = jar.JarPlace(sys.executable, Path.cwd())
echo = "import os, sys\\nfor line in sys.stdin: print(os.getpid(), *[0.0] * 22, flush=True)"
begin = jar.MeteorJar
jar.MeteorJar = lambda command, directory: begin([command[0], "-c", echo], directory)

def answering():
    return jar.rows_of(place, [("a", ["b"])])[0, 0]

first = answering()
for asks in (False, True):
    child = os.fork()
    if child == 0:
        sys.exit(int(asks and answering() == first))
    assert os.waitpid(child, 0)[1] == 0
print(answering() == first)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_starts_one_of_its_own_and_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKED], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        try:
            assert run.communicate(timeout=30)[0] == "True\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("package", "pip install '.[metrics]' in the clone"),
        ("jar", "the METEOR jar is missing: "),
        ("table", "METEOR's paraphrase table is missing: "),
        ("java", "Java is missing"),
    ],
)
def test_what_is_missing_is_named_and_the_score_is_not_zero(
    lacks: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "pycocoevalcap" / "meteor"
    (directory / "data").mkdir(parents=True)
    for name, part in (("jar", "meteor-1.5.jar"), ("table", "data/paraphrase-en.gz")):
        if lacks != name:
            (directory / part).touch()

    class Spec:
        submodule_search_locations = (str(directory.parent),)

    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: None if lacks == "package" else Spec())
    monkeypatch.setattr(meteor_jar.shutil, "which", lambda name: None if lacks == "java" else "/bin/java")
    chosen = choose(meteor="jar")
    assert words in chosen.not_available["meteor"]
    assert chosen.families == FAMILIES
    scores = score({"1": "a"}, {"1": ["a"]}, PROTOCOLS["raw"], choice=chosen)
    assert "meteor" not in scores.metrics


def test_without_being_asked_no_meteor_is_measured() -> None:
    assert "meteor" not in metric_names(choose().families)
    assert "`meteor` python" in choose().not_available["meteor"]


def test_a_chunk_counts_as_none_only_where_all_words_of_both_match() -> None:
    rows = np.zeros((4, COLUMNS))
    rows[:, 20] = 1
    rows[:, [0, 1, 21, 22]] = [(3, 5, 3, 5), (3, 5, 3, 4), (3, 5, 2, 5), (5, 5, 5, 5)]
    assert without_perfect_chunks(rows)[:, 20].tolist() == [0, 1, 1, 0]
    assert (rows[:, 20] == 1).all(), "what was handed in is as it was"
