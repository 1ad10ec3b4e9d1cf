"""Where pycocoevalcap keeps METEOR's jar and tables, and the small ones of them. Not the table of paraphrases.

The tables are the jar's (LGPL; WordNet's own licence for the synonyms). They are read from the installed package and
are no part of this program.
"""

import functools
import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.errors import installing

JAR, PARAPHRASES = "meteor-1.5.jar", "data/paraphrase-en.gz"


def find_tables() -> Path | str:
    """The directory of the jar and its tables, or in words what is missing."""
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        return f"the METEOR jar is missing: {installing('metrics')} (package pycocoevalcap)"
    directory = Path(package.submodule_search_locations[0], "meteor")
    for name, what in ((JAR, "the METEOR jar"), (PARAPHRASES, "METEOR's paraphrase table")):
        if not (directory / name).is_file():
            return f"{what} is missing: {directory / name}; install pycocoevalcap anew"
    return directory


@dataclass(frozen=True)
class Prefixes:
    """Words that keep the period after them: before any word, and before a number only."""

    always: frozenset[str]
    numbers: frozenset[str]


@functools.cache
def function_words(directory: Path) -> frozenset[str]:
    """The English function words in the jar."""
    return frozenset(_read(directory, "function/english.words").split())


@functools.cache
def prefixes(directory: Path) -> Prefixes:
    """The English prefixes in the jar."""
    lines = [line.split() for line in _read(directory, "nonbreaking/english.prefixes").split("\n")]
    words = [line for line in lines if line and not line[0].startswith("#")]
    always, numbers = (
        frozenset(word for word, *mark in words if (mark == ["#NUMERIC_ONLY#"]) == wanted) for wanted in (False, True)
    )
    return Prefixes(always, numbers)


def word_lists(directory: Path, name: str) -> dict[str, str]:
    """A table of WordNet in the jar: lines of a word, each followed by a line of what belongs to it."""
    lines = _read(directory, f"synonym/english.{name}").split("\n")
    return dict(zip(lines[::2], lines[1::2], strict=False))


def _read(directory: Path, name: str) -> str:
    with zipfile.ZipFile(directory / JAR) as archive:
        return archive.read(name).decode()
