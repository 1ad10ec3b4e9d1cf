"""What a start puts right in a spool: files follow the ledger; where it was lost, it is made up from the files."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread

from r2gengpt.clinical.archive import private
from r2gengpt.clinical.archive.films import identified, keys_of
from r2gengpt.clinical.archive.ledger import LedgerFilm, LedgerStudy, accession_key
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import silence_pydicom

if TYPE_CHECKING:
    from r2gengpt.clinical.archive.spool import Spool

log = logging.getLogger("r2gengpt.clinical.archive")
WHOLE_STUDY = "(no report of the whole study)"
"""Second line of a film's reason, where it is its study's."""
REPORT = "-report.dcm"
"""What ends the name of a report that was sent."""
MESSAGE = ".hl7"
"""What ends the name of a report's message."""
KEY = 32
"""Digits of a study's key, that the name of each file of its report begins with."""
LOST = "its reason was lost"
UNREADABLE = "cannot be read any more, and the ledger that knew it was lost"


def object_name(study: str, number: int) -> str:
    """What the name of an object of a report begins with: the key, and from the second form on its number."""
    return study if number == 0 else f"{study}-{number + 1}"


def recover(spool: "Spool") -> None:
    """Put right what a killed process, or a lost ledger, has left."""
    for place in spool.places:
        for left in private.own_files(place, private.PARTIAL):
            left.unlink()
    if spool.ledger.is_new:
        _restore_sent(spool)
        _restore_aside(spool)
    _take_in(spool)
    if spool.ledger.is_new:
        _restore_reports(spool)
    _follow_ledger(spool)
    spool.ledger.begin_anew(spool.clock())


def _restore_sent(spool: "Spool") -> None:
    """Studies whose files say that their report was sent."""
    objects = _objects(spool)
    for path in private.own_files(spool.sent, REPORT):
        spool.ledger.restore_study(path.name[:KEY], "sent", spool.clock(), objects=objects[path.name[:KEY]])
    for path in private.own_files(spool.sent, ".dcm"):
        if not path.name.endswith(REPORT) and (film := _read(path)) is not None:
            spool.ledger.restore_study(film.study, "sent", spool.clock())
            spool.ledger.restore_film(film.key, film.study, film.digest, "")


def _objects(spool: "Spool") -> Counter[str]:
    """How many objects of each study's report there are, sent or not."""
    paths = [*private.own_files(spool.sent, REPORT), *private.own_files(spool.reports, ".dcm")]
    return Counter(path.name[:KEY] for path in paths)


def _restore_aside(spool: "Spool") -> None:
    """Films that were aside, with the reasons beside them; and studies that had those reasons as a whole."""
    for path in private.own_files(spool.aside, ".dcm"):
        film = _read(path)
        reason, whole_study = _reason_beside(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        spool.ledger.restore_film(path.stem, film.study if film else "", digest, reason)
        if film is not None and whole_study:
            spool.ledger.restore_study(film.study, "aside", spool.clock(), reason)


def _reason_beside(path: Path) -> tuple[str, bool]:
    """Why a film is aside, and whether its study is."""
    try:
        lines = path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return (lines[0] if lines and lines[0] else LOST), WHOLE_STUDY in lines[1:]


def _take_in(spool: "Spool") -> None:
    """Films that the ledger does not know: it was lost, or the program ended before it was told of them."""
    known = {film.key for film in spool.ledger.films()}
    count = 0
    for path in private.own_files(spool.incoming, ".dcm"):
        if path.stem in known:
            continue
        film = _read(path)
        if film is not None and film.key == path.stem:
            _add(spool, film)
            count += 1
        elif spool.ledger.is_new:
            spool.ledger.add_aside(path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), UNREADABLE)
        else:
            path.unlink()
    if count:
        log.warning("%d films that the ledger did not know are taken in", count)


def _add(spool: "Spool", film: "_Found") -> None:
    """A film as if it came now; one of a study whose report was sent belongs to that where the ledger is made up."""
    if spool.ledger.is_new:
        spool.ledger.restore_study(film.study, "received", spool.clock(), accession=film.accession)
        spool.ledger.restore_film(film.key, film.study, film.digest, "")
    else:
        spool.ledger.add(film.key, film.study, film.digest, spool.clock(), film.accession)


def _restore_reports(spool: "Spool") -> None:
    """Reports that were not sent, or of which it is not known: the same object goes to the peer again.

    A message without report and films is of a study whose report was sent.
    """
    silence_pydicom()
    objects = _objects(spool)
    for path in [one for one in private.own_files(spool.reports, ".dcm") if len(one.stem) == KEY]:
        try:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        except Exception:  # a parser over bytes: what cannot be read is written again
            continue
        films = frozenset(film.key for film in spool.ledger.films(path.stem) if film.state == "received")
        spool.ledger.restore_study(path.stem, "received", spool.clock())
        if spool.ledger.state_of(path.stem) == "received":
            spool.ledger.set_reported(path.stem, films, uid, objects[path.stem])
    for path in private.own_files(spool.reports, MESSAGE):
        spool.ledger.restore_study(path.stem, "sent", spool.clock())


def _follow_ledger(spool: "Spool") -> None:
    """Move and remove files until they are where the ledger has them; forget films without a file."""
    films = {film.key: film for film in spool.ledger.films()}
    studies = {study.key: study for study in spool.ledger.studies()}
    here = {path.stem for path in private.own_files(spool.incoming, ".dcm")}
    for film in films.values():
        study = studies.get(film.study)
        if film.key in here and film.state == "aside":
            spool.move_aside(film.key, film.reason, whole_study=_is_whole(film, study))
        elif film.key in here and study is not None and study.state == "sent":
            spool.follow_sent(film.study)
        elif film.key not in here and film.state == "received" and study is not None and study.state != "sent":
            spool.ledger.forget_film(film.key)
    for path in private.own_files(spool.reports):
        study_key = path.name[:KEY]
        state = studies[study_key].state if study_key in studies else ""
        if path.suffix == MESSAGE:
            if state in ("", "received"):
                path.unlink()
        elif state == "sent":
            spool.follow_sent(study_key)
        elif state != "reported":
            path.unlink()
    for path in private.own_files(spool.sent):
        key = path.name[:KEY] if path.name.endswith(REPORT) else _study_of(films.get(path.stem))
        if not spool.ledger.is_kept(key):
            path.unlink()
    _follow_aside(spool, films, studies)


def _follow_aside(spool: "Spool", films: dict[str, LedgerFilm], studies: dict[str, LedgerStudy]) -> None:
    """Films that are aside have their reasons beside them, and reasons a film."""
    for path in private.own_files(spool.aside, ".dcm"):
        film = films.get(path.stem)
        if film is None or (spool.incoming / path.name).exists():
            path.unlink()
        elif not path.with_suffix(".txt").exists():
            spool.note(film.key, film.reason, whole_study=_is_whole(film, studies.get(film.study)))
    for path in private.own_files(spool.aside, ".txt"):
        if not path.with_suffix(".dcm").exists() and not path.with_suffix(MESSAGE).exists():
            path.unlink()


def _is_whole(film: LedgerFilm, study: LedgerStudy | None) -> bool:
    """Whether a film is aside because its study is."""
    return study is not None and study.state == "aside" and study.reason == film.reason


def _study_of(film: LedgerFilm | None) -> str:
    return "" if film is None else film.study


@dataclass(frozen=True)
class _Found:
    """A film in a file: its key, its study's, the hash of its bytes, and the key of its accession number."""

    key: str
    study: str
    digest: str
    accession: str


def _read(path: Path) -> _Found | None:
    """The film in a file, or None where it names none."""
    data = path.read_bytes()
    try:
        header = identified(data)
    except InputError:
        return None
    study, key = keys_of(header)
    return _Found(key, study, hashlib.sha256(data).hexdigest(), accession_key(header.accession))
