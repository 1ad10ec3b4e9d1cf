"""The text of an earlier study's report, from its DICOM structured reports. Fetches nothing, reads no PDF.

Source: PS3.3, C.17.2 (who wrote and verified a document) and C.17.3 (its content); PS3.16, TID 2000 (its sections).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r2gengpt.clinical.archive.films import reason_of
from r2gengpt.clinical.documents.draft import MANUFACTURER, patient_of
from r2gengpt.errors import InputError
from r2gengpt.films.context import check_prior
from r2gengpt.films.dicom.header import DicomHeader, header_of, open_dataset
from r2gengpt.films.dicom.values import charsets_of, items_of, text_of

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger("r2gengpt.clinical.archive")
CLASSES = {
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR Storage",
}
"""SOP classes of reports that are read."""
MODALITY = "SR"
MOST_REPORTS = 20
"""Documents of a study that are looked into."""
MOST_DEPTH, MOST_ITEMS = 16, 1000
"""Containers within each other, and content items of a document, that are looked into."""
DEVICE, OBSERVER_TYPE = "121007", "121005"
COMPUTER_AIDED = "111017"
"""What a program found of the films, in a container of its own: not the text of a report."""
FINDINGS = frozenset({"59776-5", "18782-3", "121070", "121071", "finding", "findings"})
IMPRESSIONS = frozenset(
    {"19005-8", "121072", "121073", "121076", "121077"}
    | {"impression", "impressions", "conclusion", "conclusions"}
)  # fmt: skip
"""Code values of LOINC and DICOM (CID 7001 and 7002), or their meanings in small letters, by section."""


class _Unusable(Exception):
    """Why a document is not used: a few words that name nobody."""


@dataclass(frozen=True)
class _Document:
    """A document that is used: whether somebody verified it, when it was made, its text."""

    is_verified: bool
    made: tuple[str, str]
    text: str


def report_of(objects: Sequence[bytes], study: str, headers: Sequence[DicomHeader]) -> str:
    """The text of a study's report, or "" with a line in the log: of the newest verified document, else of the newest.

    Args:
        objects: its structured reports, as DICOM files.
        study: its UID.
        headers: of the later study's films, whose patient the report must be of.
    """
    found: list[_Document] = []
    reasons: list[str] = []
    for data in objects[:MOST_REPORTS]:
        try:
            found.append(_document(data, study, headers))
        except _Unusable as error:
            reasons.append(str(error))
        except InputError as error:
            reasons.append(reason_of(error))
    if not found:
        why = f"its structured report {reasons[0]}" if reasons else "it has no structured report"
        log.info("the report of the earlier study is not used: %s", why)
        return ""
    return max(found, key=lambda one: (one.is_verified, one.made)).text


def _document(data: bytes, study: str, headers: Sequence[DicomHeader]) -> _Document:
    """A document as far as it is needed.

    Raises:
        _Unusable: see `_check`; or it has no text.
        InputError: it cannot be read, or is of another patient.
    """
    dataset = open_dataset(data, "report", pixels=False)
    own = header_of(dataset, "report")
    if own.class_uid not in CLASSES:
        raise _Unusable("is of a kind that is not read")
    if own.study_uid != study:
        raise _Unusable("is of another study")
    if own.patient_id.strip() != patient_of(headers).patient_id.strip():
        raise _Unusable("is of another patient")
    check_prior(headers, [own])
    is_verified = _flag(dataset, "VerificationFlag") == "VERIFIED"
    _check(dataset, is_verified=is_verified)
    text = text_in(dataset)
    if not text:
        raise _Unusable("has no text")
    charsets = charsets_of(dataset)
    made = text_of(dataset, "ContentDate", charsets), text_of(dataset, "ContentTime", charsets)
    return _Document(is_verified, made, text)


def _check(dataset: "Dataset", *, is_verified: bool) -> None:
    """Refuse a document that nobody stands for: one that is not complete, or a program's that nobody verified.

    Raises:
        _Unusable: so it is.
    """
    if _flag(dataset, "CompletionFlag") != "COMPLETE":
        raise _Unusable("is not complete")
    if is_verified:
        return
    if _flag(dataset, "PreliminaryFlag") == "PRELIMINARY":
        raise _Unusable("is preliminary, and nobody verified it")
    if _flag(dataset, "Manufacturer") == MANUFACTURER.upper() or _is_by_device(dataset):
        raise _Unusable("is a program's, and nobody verified it")


def _is_by_device(dataset: "Dataset") -> bool:
    """Whether its author, or an observer of all its content, is a device."""
    if any(_flag(author, "ObserverType") == "DEV" for author in items_of(dataset, "AuthorObserverSequence")):
        return True
    return any(
        OBSERVER_TYPE in _concept(one, "ConceptNameCodeSequence") and DEVICE in _concept(one, "ConceptCodeSequence")
        for one in items_of(dataset, "ContentSequence")
    )


def _flag(dataset: "Dataset", key: str) -> str:
    return text_of(dataset, key, ("ascii",)).upper()


def _concept(item: "Dataset", key: str, charsets: Sequence[str] = ("ascii",)) -> frozenset[str]:
    """The values of an item's code, and its meaning in small letters."""
    codes = items_of(item, key)[:1]
    values = {text_of(one, "CodeValue", charsets) for one in codes}
    return frozenset(values | {text_of(one, "CodeMeaning", charsets).lower() for one in codes}) - {""}


def text_in(dataset: "Dataset") -> str:
    """The texts of a document's findings, then those of its impression; where it has neither section, all its texts.

    Only content items of the kind TEXT count that are contained in it: no codes, numbers, names and observers.
    """
    charsets = charsets_of(dataset)
    found: list[tuple[frozenset[str], str]] = []
    for concepts, text in _texts(dataset, charsets, frozenset(), 0):
        found.append((concepts, text))
        if len(found) >= MOST_ITEMS:
            break
    findings = [text for concepts, text in found if concepts & FINDINGS and not concepts & IMPRESSIONS]
    impression = [text for concepts, text in found if concepts & IMPRESSIONS]
    return " ".join([*findings, *impression] or [text for _, text in found])


def _texts(
    dataset: "Dataset", charsets: Sequence[str], concepts: frozenset[str], depth: int
) -> Iterator[tuple[frozenset[str], str]]:
    """The texts within a container, each with the concepts of the containers that it is in and its own."""
    for one in items_of(dataset, "ContentSequence")[:MOST_ITEMS]:
        own = _concept(one, "ConceptNameCodeSequence", charsets)
        if _flag(one, "RelationshipType") != "CONTAINS" or COMPUTER_AIDED in own:
            continue
        kind, text = _flag(one, "ValueType"), text_of(one, "TextValue", charsets)
        if kind == "TEXT" and text:
            yield concepts | own, text
        elif kind == "CONTAINER" and depth < MOST_DEPTH:
            yield from _texts(one, charsets, concepts | own, depth + 1)
