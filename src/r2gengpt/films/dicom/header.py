"""What a DICOM file says of itself: whose, which study, which view. No pixels are decoded here.

Identities of patients stay in the record, out of its repr, of errors and of logs. Needs pydicom (extra `dicom`), which
is imported where it is used.
"""

import io
import logging
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from r2gengpt.errors import InputError, installing
from r2gengpt.films.dicom.values import charsets_of, date_of, items_of, numbers_of, text_of, time_of

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

log = logging.getLogger("r2gengpt.data")
DEFLATED = b"1.2.840.10008.1.2.1.99"
MODALITIES = ("CR", "DX", "DR")
CHEST_WORDS = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "HEART")
"""Parts of the words for the chest in Body Part Examined, as manufacturers spell them, in capitals."""
SPINE_WORDS = ("SPINE", "LUMB", "VERTEBR", "RACHI", "WERVEL", "WIRBEL")
"""The same of what is named after the chest and is none: its spine."""
MOST_READS = 100_000
"""Elements of a file at most, but for a few reads beside: each takes memory for an object, however short it is."""
LARGEST_ELEMENT = 2**19
"""Bytes of the largest element that is kept besides the pixels: sequences in it are taken apart when asked for."""
LARGEST_TABLES = 2**21
"""The same of lookup tables, which only a decoder asks for: 15 of 65,536 entries."""
WHOLE_NUMBER = r"[+-]?[0-9]{1,11}"
"""An IS: at most 12 characters. Source: PS3.5, 6.2."""
_PIXELS = 0x7FE00010
_TABLES = (0x00283000, 0x00283010)
"""Modality LUT Sequence and VOI LUT Sequence."""
NO_ELEMENTS = (0xFFFE,)
"""Groups of what is no element but a mark between items; a stray one says nothing."""
CHEST_CODES = ("816094009", "51185008", "43799004", "39607008", "T-D3000", "T-28000")
"""Anatomic regions: chest, thoracic structure, thoracic cavity, lung (SNOMED CT); chest, lung (SNOMED RT)."""


@dataclass(frozen=True)
class DicomHeader:
    """One image instance: where it belongs and what it shows.

    Texts are empty where the file has none. `view` is the view position (PA, AP, LL, …), `laterality` L or R;
    `frames` at least 1; `size` width and height in pixels, 0 where the file has no such number; dates are YYYYMMDD,
    times HH, HHMM or HHMMSS. `age` is as 063Y, `reason` why the study was asked for. `device` is the manufacturer and
    the model of what took the film. `name` is a person name in DICOM's form (Family^Given). Identifiers and names are
    whole: a backslash stays in them, and no control character does.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    class_uid: str
    modality: str
    body_part: str = ""
    view: str = ""
    laterality: str = ""
    frames: int = 1
    size: tuple[int, int] = (0, 0)
    burned_in: bool = False
    for_processing: bool = False
    series_number: str = ""
    instance_number: str = ""
    study_date: str = ""
    study_time: str = ""
    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    study_id: str = field(default="", repr=False)
    study_description: str = field(default="", repr=False)
    referring: str = field(default="", repr=False)
    device: str = ""
    age: str = field(default="", repr=False)
    reason: str = field(default="", repr=False)

    @property
    def view_name(self) -> str:
        """View position and laterality as `Study.views` has them: "PA", "LATERAL L", or ""."""
        return " ".join(filter(None, (self.view, self.laterality)))


def open_dataset(data: bytes, name: str, *, pixels: bool = True) -> "Dataset":
    """The elements of a DICOM file, with or without preamble; without its pixels on demand.

    For the whole process, pydicom then takes values as they come (real files break its limits) and keeps silent.

    Raises:
        Deflated: it is packed.
        InputError: pydicom is not installed, or the bytes cannot be read. The reason names no value of the file.
    """
    try:
        from pydicom import config, dcmread
    except ImportError:
        raise InputError(f"image {name}: is DICOM, which needs pydicom ({installing('dicom')})") from None
    silence_pydicom()
    config.settings.reading_validation_mode = config.IGNORE
    try:
        dataset = dcmread(_Counted(data), force=True, stop_before_pixels=not pixels)
        for tag in list(dataset.keys()):  # of the dataset itself an iterator takes each element apart
            largest = LARGEST_TABLES if tag in _TABLES else LARGEST_ELEMENT
            if tag.group in NO_ELEMENTS or (tag != _PIXELS and _size(dataset, tag) > largest):
                del dataset[tag]
    except _Packed:
        words = f"image {name}: is deflated DICOM (transfer syntax {DEFLATED.decode()}), which is not read"
        raise Deflated(words) from None
    except _TooMany:
        raise InputError(f"image {name}: has more than {MOST_READS} DICOM elements") from None
    except MemoryError:
        raise
    except Exception as error:  # a parser over bytes of strangers: anything may come
        raise InputError(f"image {name}: its DICOM header cannot be read ({type(error).__name__})") from None
    if not len(dataset):  # what pydicom gives of a file that ends within an element
        raise InputError(f"image {name}: its DICOM elements are cut off")
    return dataset


class Deflated(InputError):
    """The file's transfer syntax says that it is deflated: how large it is shows only when all of it is unpacked."""


def is_deflated(data: bytes) -> bool:
    """Whether a DICOM file of this beginning is deflated; it may be, where that cannot be read."""
    try:
        open_dataset(data, "film", pixels=False)
    except Deflated:
        return True
    except InputError:
        return DEFLATED in data
    return False


class _TooMany(Exception):
    """The file has more elements than are read."""


class _Packed(Exception):
    """The file is about to be unpacked."""


class _Counted(io.BytesIO):
    """A file whose reader takes it apart in at most `MOST_READS` pieces, and does not unpack it."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's, counted. pydicom asks for all that is left only to unpack it."""
        if size is None or size < 0:
            raise _Packed
        self.reads += 1
        if self.reads > MOST_READS:
            raise _TooMany
        return super().read(size)


def _size(dataset: "Dataset", tag: "BaseTag") -> int:
    """Bytes of an element that was not asked for yet; 0 of others, which were taken apart within the count."""
    value = getattr(dataset.get_item(tag), "value", None)
    return len(value) if isinstance(value, bytes) else 0


def silence_pydicom() -> None:
    """Keep pydicom's warnings off stderr: they quote elements, and so names of patients."""
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def read_header(data: bytes, name: str) -> DicomHeader:
    """What a DICOM file says of itself; `name` is what errors call it.

    Raises:
        InputError: it cannot be read.
    """
    return header_of(open_dataset(data, name, pixels=False), name)


def header_of(dataset: "Dataset", name: str) -> DicomHeader:
    """The header of a dataset that was opened.

    Raises:
        InputError: an element cannot be read.
    """
    try:
        return _header(dataset)
    except MemoryError:
        raise
    except Exception as error:  # each element is parsed when it is asked for
        raise InputError(f"image {name}: its DICOM header cannot be read ({type(error).__name__})") from None


def _header(dataset: "Dataset") -> DicomHeader:
    charsets = charsets_of(dataset)

    def whole(key: str) -> str:
        return text_of(dataset, key, charsets)

    def text(key: str) -> str:
        return whole(key).split("\\")[0].strip()

    def fitting(key: str, form: str) -> str:
        return found if re.fullmatch(form, found := text(key)) else ""

    def number(key: str) -> int:
        found = numbers_of(dataset, key)
        return int(found[0]) if found and math.isfinite(found[0]) else 0

    side = text("ImageLaterality") or text("Laterality")
    return DicomHeader(
        study_uid=whole("StudyInstanceUID"),
        series_uid=whole("SeriesInstanceUID"),
        instance_uid=whole("SOPInstanceUID"),
        class_uid=whole("SOPClassUID"),
        modality=text("Modality").upper(),
        body_part=_body_part(dataset, text("BodyPartExamined"), charsets),
        view=text("ViewPosition").upper() or _meaning(dataset, "ViewCodeSequence", charsets),
        laterality=side if side in ("L", "R") else "",
        frames=max(1, number("NumberOfFrames")),
        size=(number("Columns"), number("Rows")),
        burned_in=text("BurnedInAnnotation").upper() == "YES",
        for_processing=text("PresentationIntentType").upper() == "FOR PROCESSING",
        series_number=fitting("SeriesNumber", WHOLE_NUMBER),
        instance_number=fitting("InstanceNumber", WHOLE_NUMBER),
        study_date=date_of(text("StudyDate")),
        study_time=time_of(text("StudyTime")),
        patient_id=whole("PatientID"),
        issuer=whole("IssuerOfPatientID"),
        name=whole("PatientName"),
        birth_date=date_of(text("PatientBirthDate")),
        sex=fitting("PatientSex", "[MFO]"),
        accession=whole("AccessionNumber"),
        study_id=whole("StudyID"),
        study_description=whole("StudyDescription"),
        referring=whole("ReferringPhysicianName"),
        device=" ".join(filter(None, (text("Manufacturer"), text("ManufacturerModelName")))),
        age=fitting("PatientAge", "[0-9]{3}[DWMY]"),
        reason=_reason(dataset, charsets),
    )


def _reason(dataset: "Dataset", charsets: Sequence[str]) -> str:
    """Why the study was asked for: the first of these elements that the dataset, or its request, has."""
    keys = ("ReasonForTheRequestedProcedure", "ReasonForStudy", "AdmittingDiagnosesDescription")
    places = (dataset, *items_of(dataset, "RequestAttributesSequence")[:1])
    found = (text_of(place, key, charsets).strip() for key in keys for place in places)
    return next(filter(None, found), "")


def _meaning(dataset: "Dataset", key: str, charsets: Sequence[str]) -> str:
    """The words of the first code of a sequence, in capitals."""
    codes = items_of(dataset, key)
    return text_of(codes[0], "CodeMeaning", charsets).upper() if codes else ""


def _body_part(dataset: "Dataset", examined: str, charsets: Sequence[str]) -> str:
    """What was examined: the element's word, or else the anatomic region's ("CHEST" where its code means that)."""
    regions = items_of(dataset, "AnatomicRegionSequence")
    if examined or not regions:
        return examined.upper()
    known = text_of(regions[0], "CodeValue", charsets) in CHEST_CODES
    return "CHEST" if known else _meaning(dataset, "AnatomicRegionSequence", charsets) or "ANOTHER REGION"


def check_is_chest_film(header: DicomHeader, name: str) -> None:
    """Refuse what says of itself that it is not a projection radiograph of the chest; a body part may be missing.

    Raises:
        InputError: another modality than `MODALITIES`, none, or another body part.
    """
    if header.modality not in MODALITIES:
        said = f"modality is {header.modality[:40]}" if header.modality else "modality is not named"
        allowed = ", ".join(MODALITIES)
        raise InputError(f"image {name}: its {said}, must be {allowed} (`force` reads it all the same)", field="force")
    part = header.body_part
    is_chest = any(word in part for word in CHEST_WORDS) and not any(word in part for word in SPINE_WORDS)
    if part and not is_chest:
        words = f"image {name}: shows {part[:40]}, must be a chest film (`force` reads it all the same)"
        raise InputError(words, field="force")


def warnings_of(header: DicomHeader) -> tuple[str, ...]:
    """What may mislead in a file, in words that follow its name."""
    found = {
        "says that it has burned-in annotation: it may show the patient's identity": header.burned_in,
        "is raw (FOR PROCESSING), not the picture that is meant for reading": header.for_processing,
    }
    return tuple(words for words, there in found.items() if there)


@lru_cache(maxsize=10_000)
def warn_of(words: tuple[str, ...], name: str) -> None:
    """Say once for each file what `warnings_of` found; nothing of the file itself is kept."""
    for said in words:
        log.warning("image %s: %s", name, said)
