"""METEOR by exact words and stems without Java, under a name of its own. Not METEOR 1.5: no synonyms, no paraphrases.

Equal to the METEOR 1.5 jar with `-l en -lower -m "exact stem"`: the protocol's words in lower case, no tokenizer of its
own. The list of function words is the jar's (LGPL); it is read from the installed package and no part of this program.
The stemmer is Snowball's English one in its form before version 3, which the jar has.
"""

import functools
import importlib.util
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from r2gengpt.metrics.families import Family
from r2gengpt.metrics.meteor import COLUMNS, meteor, meteor_family, without_perfect_chunks
from r2gengpt.metrics.meteor_align import statistics
from r2gengpt.metrics.meteor_jar import JAR
from r2gengpt.metrics.ngrams import Floats

NAME = "meteor_exact_stem"
NOTE = f"{NAME} is METEOR with exact and stem matches only; it is not comparable with published METEOR"
_LIST = "function/english.words"


def exact_stem_family() -> Family | str:
    """The family, or in words what is missing."""
    package = importlib.util.find_spec("pycocoevalcap")
    if importlib.util.find_spec("snowballstemmer") is None:
        return "the package snowballstemmer is missing: pip install 'r2gengpt[metrics]'"
    if package is None or not package.submodule_search_locations:
        return "METEOR's function words are missing: pip install 'r2gengpt[metrics]' (package pycocoevalcap)"
    jar = Path(package.submodule_search_locations[0], "meteor", JAR)
    if not jar.is_file():
        return f"METEOR's function words are missing: {jar}; install pycocoevalcap anew"
    return meteor_family(NAME, lambda pairs: exact_stem_rows(pairs, function_words(jar), stemmer()), NOTE)


@functools.cache
def function_words(jar: Path) -> frozenset[str]:
    """The English function words in the jar."""
    with zipfile.ZipFile(jar) as archive:
        return frozenset(archive.read(_LIST).decode().split())


@functools.cache
def stemmer() -> Callable[[str], str]:
    """Snowball's English stemmer, which remembers words."""
    import snowballstemmer

    stem: Callable[[str], str] = snowballstemmer.stemmer("english").stemWord
    return functools.cache(stem)


def exact_stem_rows(
    pairs: Sequence[tuple[str, Sequence[str]]], function_words: frozenset[str], stem: Callable[[str], str]
) -> Floats:
    """The statistics of pairs of a hypothesis and its references, (pairs, 23): of the reference that scores best."""
    return np.stack([_row(hypothesis, references, function_words, stem) for hypothesis, references in pairs])


def _row(
    hypothesis: str, references: Sequence[str], function_words: frozenset[str], stem: Callable[[str], str]
) -> Floats:
    words = _words(hypothesis)
    rows = np.zeros((len(references), COLUMNS))
    for row, text in zip(rows, references, strict=True):
        wanted = _words(text)
        stems = [stem(word) for word in words], [stem(word) for word in wanted]
        row[:] = statistics(words, wanted, stems, function_words)
    best: Floats = rows[np.argmax(meteor(without_perfect_chunks(rows)))]
    return best


def _words(text: str) -> list[str]:
    """Split as Java does: at ASCII white space only."""
    return [word for word in text.lower().translate(_BLANKS).split(" ") if word]


_BLANKS = str.maketrans("\t\n\r\f", "    ")
