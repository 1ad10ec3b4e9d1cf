"""Final texts of readers' verdicts to an annotation file: ids hashed, split by patient, texts that may name somebody
left out. Opens films only to find them by their hashes, and to read whom they name.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.data.annotation import Preparation, write_prepared
from r2gengpt.data.prepare.films import drawn_split
from r2gengpt.data.prepare.films_by_hash import FoundFilm, films_by_hash
from r2gengpt.data.prepare.verdict_patients import hashed, own_words, patients_of
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import check_writable_file, write_whole
from r2gengpt.text.identifiers import Sign, signs_in, words_of
from r2gengpt.text.written import json_text
from r2gengpt.verdicts.address import opened_store, reason_of, shown_address
from r2gengpt.verdicts.record import ACCEPT, REJECT, KeptVerdict

SHORTEST_SALT = 16
"""Bytes of the secret."""
REJECTED, EDITED_ONLY = "rejected: no final text", "accepted, where edits alone are asked for"
OLDER, MISSING = "another verdict on the same films is newer", "a film is not in the directory"
NAMED_PATH = "a film's path names its patient"
BURNED_IN = "a film has writing in its picture"
EMPTY = "the text is empty"


@dataclass(frozen=True)
class UnusedVerdict:
    """A verdict that does not become a study: its number in the store, why, and films that were not found."""

    verdict: int
    reasons: tuple[str, ...]
    films: tuple[str, ...] = ()


def prepare_verdicts(
    verdicts: str,
    output: str | Path,
    films: str | Path,
    salt_file: str | Path,
    *,
    words: str | Path | None = None,
    edited_only: bool = False,
) -> Preparation:
    """Write the annotation file, and beside it the list of what was left out.

    Args:
        verdicts: the store, a file or a URL.
        output: the annotation file; image paths in it are relative to `films`.
        films: where the films are, under any name.
        salt_file: holds the secret by which ids and patients are hashed; the same secret gives the same ids.
        words: a file of further words that are no names, one a line.
        edited_only: leave accepted drafts out, so that a model is not trained on what it wrote itself.

    Raises:
        InputError: a file, a directory or the store is wrong, or no study is left.
        RunError: the database failed meanwhile.
    """
    check_writable_file(Path(output), "output")
    listing = list_path(Path(output))
    check_writable_file(listing, "output")
    if not Path(films).is_dir():
        raise InputError("is no directory", field="films", value=films)
    salt = read_salt(Path(salt_file))
    further = read_words(Path(words)) if words is not None else frozenset[str]()
    newest = newest_verdicts(verdicts)
    left: list[UnusedVerdict] = []
    chosen = _with_text(newest, left, edited_only=edited_only)
    found = films_by_hash(Path(films), {film for kept in chosen for film in kept.facts.films})
    chosen = _with_films(chosen, found, left)
    chosen = _unnamed(chosen, found, own_words(newest) | further, left)
    whose = patients_of(newest)
    studies = [_study(kept, found, whose[kept.facts.id], salt) for kept in chosen]
    counts = Counter(one.reasons[0] for one in left)
    if not studies:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none has a verdict"
        raise InputError(
            f"no study is left of {len(newest)}: {reasons}", field="verdicts", value=shown_address(verdicts)
        )
    notes = (f"patients {len({study.patient for study in studies})}", f"left out, one by one: {listing}")
    written = write_prepared(output, studies, counts, notes)
    _write_list(listing, left)
    return written


def list_path(output: Path) -> Path:
    """Where what was left out is listed: beside the annotation.

    >>> str(list_path(Path("a/annotation.json")))
    'a/annotation.left_out.json'
    """
    return output.with_name(f"{output.stem}.left_out.json")


def read_salt(path: Path) -> bytes:
    """The secret of a file, without white space at its ends.

    Raises:
        InputError: it cannot be read, or is short.
    """
    try:
        salt = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="salt_file", value=path) from None
    if len(salt) < SHORTEST_SALT:
        words = f"holds {len(salt)} bytes: at least {SHORTEST_SALT}, as `openssl rand -hex 32` prints them"
        raise InputError(words, field="salt_file", value=path, limit=SHORTEST_SALT)
    return salt


def read_words(path: Path) -> frozenset[str]:
    """The words of a file, in lower case.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return frozenset(words_of(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="words", value=path) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8", field="words", value=path) from None


def newest_verdicts(verdicts: str) -> list[KeptVerdict]:
    """The verdict that counts of each draft of the store.

    Raises:
        InputError: there is no such store.
        RunError: the database failed meanwhile.
    """
    store = opened_store(verdicts, is_read=True)
    from sqlalchemy.exc import SQLAlchemyError

    with closing(store):
        try:
            return store.latest()
        except SQLAlchemyError as error:
            raise RunError(f"`verdicts` {shown_address(verdicts)}: {reason_of(error)}") from None


def _with_text(newest: Sequence[KeptVerdict], left: list[UnusedVerdict], *, edited_only: bool) -> list[KeptVerdict]:
    """Those with a final text, the newest of each set of films."""
    last: dict[frozenset[str], KeptVerdict] = {}
    for kept in newest:
        judgement, films = kept.judgement, frozenset(kept.facts.films)
        if judgement.verdict == REJECT:
            left.append(UnusedVerdict(kept.number, (REJECTED,)))
        elif edited_only and judgement.verdict == ACCEPT:
            left.append(UnusedVerdict(kept.number, (EDITED_ONLY,)))
        elif not judgement.text.strip():
            left.append(UnusedVerdict(kept.number, (EMPTY,)))
        else:
            if films in last:
                left.append(UnusedVerdict(last.pop(films).number, (OLDER,)))
            last[films] = kept
    return sorted(last.values(), key=lambda kept: kept.number)


def _with_films(
    chosen: Sequence[KeptVerdict], found: Mapping[str, FoundFilm], left: list[UnusedVerdict]
) -> list[KeptVerdict]:
    """Those whose films are all there."""
    there = []
    for kept in chosen:
        missing = tuple(film for film in kept.facts.films if film not in found)
        if missing or not kept.facts.films:
            left.append(UnusedVerdict(kept.number, (MISSING,), missing))
        else:
            there.append(kept)
    return there


def _unnamed(
    chosen: Sequence[KeptVerdict], found: Mapping[str, FoundFilm], known: frozenset[str], left: list[UnusedVerdict]
) -> list[KeptVerdict]:
    """Those whose text, and the paths of whose films, name nobody."""
    clean = []
    for kept in chosen:
        films = [found[film] for film in kept.facts.films]
        names = [name for film in films for name in film.names]
        numbers = [number for film in films for number in film.numbers]
        signs = signs_in(kept.judgement.text, names, numbers, known)
        paths = any(Sign.OWN in signs_in(film.path.as_posix(), names, numbers) for film in films)
        reasons = (*(f"the text holds {sign}" for sign in signs), *([NAMED_PATH] if paths else []))
        reasons += (BURNED_IN,) if any(film.burned_in for film in films) else ()
        if reasons:
            left.append(UnusedVerdict(kept.number, reasons))
        else:
            clean.append(kept)
    return clean


def _study(kept: KeptVerdict, found: Mapping[str, FoundFilm], whose: str, salt: bytes) -> Study:
    """The study of a verdict; its split is drawn by its patient's hash."""
    patient = hashed("patient", whose, salt)
    facts = kept.facts
    return Study(
        id=hashed("draft", facts.id, salt),
        image_paths=tuple(found[film].path for film in facts.films),
        report=kept.judgement.text.strip(),
        split=drawn_split(patient),
        views=(facts.view,) if facts.view and len(facts.films) == 1 else (),
        patient=patient,
        source="verdicts",
        sex=facts.sex if facts.sex in ("F", "M") else "",
    )


def _write_list(path: Path, left: Sequence[UnusedVerdict]) -> None:
    """What was left out, by the verdicts' numbers in the store; no text stands in it."""
    rows = [
        {"verdict": one.verdict, "reasons": list(one.reasons), **({"films": list(one.films)} if one.films else {})}
        for one in sorted(left, key=lambda one: one.verdict)
    ]
    write_whole(path, json_text({"left_out": rows}, indent=1) + "\n")
