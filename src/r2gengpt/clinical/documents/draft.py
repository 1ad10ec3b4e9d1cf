"""A draft on its way to an archive: its text, the images that it is of, who wrote it. Not its forms (see `forms`).

Everything is decided by images, model and text: a draft that is sent twice has the same identifiers both times.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import note_of
from r2gengpt.films.regions import Region
from r2gengpt.report import Finding, by_verdict
from r2gengpt.text.observations import NOT_ASSESSED
from r2gengpt.text.sections import split_sections
from r2gengpt.text.written import NOTICE, writable
from r2gengpt.version import __version__

MANUFACTURER = "r2gengpt"
FILM_BLOCK, REVIEW_BLOCK = "Findings of the film (AI)", "Needs review"
NO_TEXT = "No text was generated."
EDITED = "Its text was edited by its reader."
_UID = re.compile(r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


@dataclass(frozen=True)
class Draft:
    """One drafted report.

    Attributes:
        images: the headers of its images, all of one study.
        findings: text, or "".
        impression: text, or ""; not both are empty.
        model: its name.
        digest: of its weights, hexadecimal.
        created: when, with its time zone.
        labels: observation → positive, uncertain or negative; empty where none were read.
        film: what the films show, by the model's finding head; empty where it has none.
        review: why the draft needs review, a line each.
        regions: of the films, what its sentences rest on; empty where that was not asked for, or nothing is evidence.
        version: of this program.
        edited: whether its reader changed the text.
        placer: the number of the order that it answers, by who placed it, its components with `^` between them.
    """

    images: tuple[DicomHeader, ...] = field(repr=False)
    findings: str
    impression: str
    model: str
    digest: str
    created: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    film: tuple[Finding, ...] = ()
    review: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    version: str = __version__
    edited: bool = False
    placer: str = field(default="", repr=False)

    @property
    def patient(self) -> DicomHeader:
        """The header that patient and study are taken from: the first that names a patient, else the first."""
        return patient_of(self.images)

    @property
    def note(self) -> str:
        """What is doubtful about whose images these are; or ""."""
        return note_of(self.images)

    @property
    def studies(self) -> Mapping[str, tuple[DicomHeader, ...]]:
        """The images by Study Instance UID: one study, unless a mixture was asked for."""
        found: dict[str, list[DicomHeader]] = {}
        for image in self.images:
            found.setdefault(image.study_uid, []).append(image)
        return {uid: tuple(images) for uid, images in found.items()}

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Name and text of each section that has one."""
        return tuple(
            (name, text) for name, text in (("Findings", self.findings), ("Impression", self.impression)) if text
        )

    @property
    def assessed(self) -> tuple[Finding, ...]:
        """The findings that the head tells from chance, the likely ones first."""
        return tuple(finding for finding in by_verdict(self.film) if finding.verdict != NOT_ASSESSED)

    @property
    def unassessed(self) -> str:
        """The observations that the head does not tell from chance, in a line; or ""."""
        names = [finding.name for finding in self.film if finding.verdict == NOT_ASSESSED]
        return f"Not assessed: {', '.join(names)}" if names else ""

    @property
    def blocks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What stands below the sections: name and lines of each block that has lines."""
        shown = (*(finding.in_full for finding in self.assessed), *([self.unassessed] if self.unassessed else []))
        return tuple((name, lines) for name, lines in ((FILM_BLOCK, shown), (REVIEW_BLOCK, self.review)) if lines)

    @property
    def comments(self) -> tuple[str, ...]:
        """The lines of a form that holds findings one by one: what was not assessed, why it needs review."""
        return (*([self.unassessed] if self.unassessed else []), *(f"{REVIEW_BLOCK}: {line}" for line in self.review))

    @property
    def origin(self) -> str:
        """Who wrote it and what it is worth, in one sentence or two."""
        origin = origin_of(len(self.images), self.model, self.version, self.note)
        return f"{origin} {EDITED}" if self.edited else origin

    def uuid(self, kind: str, *, study_only: bool = False) -> uuid.UUID:
        """The identifier of a part of the draft; with `study_only` one that all drafts of a model and study share."""
        words = [kind, self.version, self.digest, self.patient.study_uid]
        if not study_only:
            words += sorted(image.instance_uid for image in self.images)
            words += [f"{name}: {text}" for name, text in self.sections]
            words += [f"{name}: {line}" for name, lines in self.blocks for line in lines]
            words += [f"{one.finding or one.sentence} {one.view} {one.frame} {one.outline}" for one in self.regions]
        return uuid_of(*words)

    def uid(self, kind: str, *, study_only: bool = False) -> str:
        """`uuid` as a DICOM UID. Source: PS3.5, B.2."""
        return f"2.25.{self.uuid(kind, study_only=study_only).int}"


def patient_of(images: Sequence[DicomHeader]) -> DicomHeader:
    """The header that says whose a study is: the first that names a patient, else the first."""
    return next((image for image in images if image.patient_id), images[0])


def origin_of(count: int, model: str, version: str = __version__, note: str = "") -> str:
    """Who wrote a draft of so many images and what it is worth, in a few sentences."""
    many = "1 image" if count == 1 else f"{count} images"
    doubt = f" {note}." if note else ""
    return f"{NOTICE}.{doubt} Drafted from {many} by {MANUFACTURER} {version}, model {model}."


def uuid_of(*words: str) -> uuid.UUID:
    """A UUID that depends on the words alone (of the form of version 5, by SHA-256)."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return uuid.UUID(bytes=digest[:16], version=5)


def _line(text: str) -> str:
    """A text in one line that any form may hold."""
    return " ".join(writable(text).split())


def _findings_and_impression(report: str) -> tuple[str, str]:
    """A text's impression, and before it all else: what stands under other headers stands under them still.

    >>> _findings_and_impression("Clear lungs. IMPRESSION: Normal. RECOMMENDATION: None.")
    ('Clear lungs. RECOMMENDATION: None.', 'Normal.')
    """
    findings, impression, is_cut = list[str](), list[str](), False
    for one in split_sections(report):
        is_own = one.part == "final" and one.name in ("findings", "impression", "preamble")
        is_cut |= is_own and one.name != "preamble"
        texts = impression if is_own and one.name == "impression" else findings
        texts.append(one.text if is_own else f"{one.header}: {one.text}")
    return (" ".join(findings), " ".join(impression)) if is_cut else (" ".join(report.split()), "")


def draft_of(
    report: str,
    images: Sequence[DicomHeader],
    model: str,
    digest: str,
    created: datetime,
    labels: Mapping[str, str] | None = None,
    *,
    film: Sequence[Finding] = (),
    review: Sequence[str] = (),
    regions: Sequence[Region] = (),
    edited: bool = False,
    placer: str = "",
) -> Draft:
    """A draft from a report's text, cut into findings and impression where it names them. No word of it is left out.

    Texts are kept without signs that a form may not hold, and the model's name without backslashes.
    """
    findings, impression = _findings_and_impression(writable(report))
    return Draft(
        images=tuple(images),
        findings=findings if findings or impression else NO_TEXT,
        impression=impression,
        model=_line(model).replace("\\", " "),
        digest=digest,
        created=created,
        labels=labels or {},
        film=tuple(film),
        review=tuple(map(_line, review)),
        regions=tuple(replace(one, sentence=_line(one.sentence)) for one in regions),
        edited=edited,
        placer=placer,
    )


def images_to_send(
    names: Sequence[Path | str], headers: Sequence[DicomHeader | None], *, field: str, value: str
) -> tuple[DicomHeader, ...]:
    """The headers, if a draft can refer to each image and to the study.

    Raises:
        InputError: an image is not DICOM, or lacks an identifier.
    """
    for name, header in zip(names, headers, strict=True):
        if header is None:
            raise InputError(f"needs DICOM images, {name} is none", field=field, value=value)
        for kind in ("study_uid", "series_uid", "instance_uid", "class_uid"):
            if not _UID.fullmatch(getattr(header, kind)):
                words = f"image {name} has no valid {kind.replace('_uid', '')} UID to refer to"
                raise InputError(words, field=field, value=value)
    return tuple(header for header in headers if header is not None)
