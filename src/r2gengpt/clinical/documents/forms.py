"""The forms that a draft can leave in: which there are, what they need, their bytes. Nothing is written or sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec

from r2gengpt.clinical.documents.draft import Draft, draft_of, images_to_send, patient_of
from r2gengpt.errors import InputError, RunError, installing, place_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import FilmStudy
from r2gengpt.films.regions import Region
from r2gengpt.report import Report, review_lines


@dataclass(frozen=True)
class Form:
    """One form of a draft.

    Attributes:
        what: it is, for the help text.
        maker: the module of this room and the function in it that gives a draft's bytes, with `:` between them.
        package: what must be installed; empty: nothing.
        extra: what installs that.
        binary: whether it is no text, a DICOM object.
        patient: whether it must name a patient.
        labels: whether it holds what the text says of each observation.
        regions: whether it holds areas of the films.
        part: of a draft, that a DICOM object's UID is made from (see `dicom_objects.new_object`).
    """

    what: str
    maker: str
    package: str = ""
    extra: str = ""
    binary: bool = False
    patient: bool = False
    labels: bool = False
    regions: bool = False
    part: str = ""

    def make(self, draft: Draft) -> bytes:
        """The draft's bytes; what makes them is imported now, with its package."""
        module, function = self.maker.split(":")
        made: bytes = getattr(import_module(f"r2gengpt.clinical.documents.{module}"), function)(draft)
        return made


DICOM = ("pydicom", "dicom")
"""A package that a form needs, and the extra that installs it."""
FORMS: Mapping[str, Form] = {
    "sr": Form("a structured report", "structured_report:structured_report", *DICOM, binary=True, part="SR"),
    "measurement-sr": Form(
        "a measurement report, TID 1500",
        "measurement_report:measurement_report",
        "highdicom",
        "dicom",
        binary=True,
        regions=True,
        part="MSR",
    ),
    "pdf": Form("an encapsulated PDF", "encapsulated_pdf:encapsulated_pdf", *DICOM, binary=True, part="PDF"),
    "secondary-capture": Form(
        "a picture of the text", "secondary_capture:secondary_capture", *DICOM, binary=True, part="SC"
    ),
    "fhir": Form("a FHIR bundle", "fhir:fhir_bundle", "fhir", "fhir", labels=True),
    "hl7": Form("an HL7 message", "hl7:hl7_message", "hl7apy", "fhir", patient=True),
}
"""All forms by name. A new one is a row here and a module that makes its bytes."""


def check_form(form: str, *, field: str, value: str) -> None:
    """Refuse a form whose package is missing; `field` and `value` are how it was asked for.

    Raises:
        InputError: it is not installed.
    """
    wanted = FORMS[form]
    if wanted.package and find_spec(wanted.package) is None:
        raise InputError(f"needs {wanted.package} ({installing(wanted.extra)})", field=field, value=value)


def check_films(form: str, study: FilmStudy) -> None:
    """Refuse films that a form cannot refer to.

    Raises:
        InputError: they are no DICOM, lack an identifier, or name no patient where the form must.
    """
    images = images_to_send([film.name for film in study.films], study.headers, field="format", value=form)
    if FORMS[form].patient and not patient_of(images).patient_id:
        raise InputError("a message needs a patient, and the images have no Patient ID", field="format", value=form)


def formed(
    form: str,
    report: Report,
    marked: str,
    headers: Sequence[DicomHeader | None],
    model: str,
    digest: str,
    regions: Sequence[Region] = (),
) -> bytes:
    """A report of DICOM images in one of `FORMS`, as of now.

    Args:
        form: which.
        report: the report; labels are read from its text.
        marked: its text with marks.
        headers: of its images.
        model: the model's name.
        digest: of its weights.
        regions: of the films, for a form that holds them.
    """
    images = [header for header in headers if header is not None]
    labels = report.asserted if FORMS[form].labels else {}
    now = datetime.now().astimezone()
    film, review = report.findings, review_lines(report)
    draft = draft_of(marked, images, model, digest, now, labels, film=film, review=review, regions=regions)
    return bytes_of(draft, form)


def bytes_of(draft: Draft, form: str) -> bytes:
    """The draft in one of `FORMS`: as `Form.what` has it.

    Raises:
        InputError: the form cannot hold so long a text.
        RunError: a fault of ours, by its kind and place: the packages' own words quote what they refuse.
    """
    wanted = FORMS[form]
    try:
        return _unvalidated(wanted, draft) if wanted.binary else wanted.make(draft)
    except (ModuleNotFoundError, InputError):
        raise
    except Exception as error:
        raise RunError(f"the draft cannot be made as {form}: {place_of(error)}") from None


def _unvalidated(form: Form, draft: Draft) -> bytes:
    """A DICOM object whose identifiers are passed on as they came, also those that are too long."""
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        return form.make(draft)
