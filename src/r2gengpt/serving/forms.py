"""The forms that a draft can leave in: which there are, what they need, their bytes. Nothing is written or sent."""

import logging
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec

from r2gengpt.data.dicom_header import DicomHeader
from r2gengpt.errors import InputError, RunError, place_of
from r2gengpt.serving.draft import Draft, draft_of, patient_of

NEEDS = {"sr": ("pydicom", "dicom"), "pdf": ("pydicom", "dicom"), "fhir": ("fhir", "fhir"), "hl7": ("hl7apy", "fhir")}
"""Form → the package that makes it, and the extra that installs that."""
FORMS = tuple(NEEDS)
BINARY = ("sr", "pdf")
log = logging.getLogger("r2gengpt.serving")


def check_form(form: str, flag: str) -> None:
    """Refuse a form whose package is missing.

    Raises:
        InputError: it is not installed.
    """
    package, extra = NEEDS[form]
    if find_spec(package) is None:
        raise InputError(f"{flag} {form}: needs {package} (pip install 'r2gengpt[{extra}]')")


def check_patient(form: str, images: Sequence[DicomHeader], flag: str) -> None:
    """Refuse a form that must name a patient where the images name none.

    Raises:
        InputError: so it is.
    """
    if form == "hl7" and not patient_of(images).patient_id:
        raise InputError(f"{flag} hl7: a message needs a patient, and the images have no Patient ID")


def formed(
    form: str, report: str, labelled: str, headers: Sequence[DicomHeader | None], model: str, digest: str
) -> bytes:
    """A report of DICOM images in one of `FORMS`, as of now.

    Args:
        form: which.
        report: its text.
        labelled: its text without marks, which labels are read from.
        headers: of its images.
        model: the model's name.
        digest: of its weights.
    """
    images = [header for header in headers if header is not None]
    labels = labels_of(labelled) if form == "fhir" else {}
    return bytes_of(draft_of(report, images, model, digest, datetime.now().astimezone(), labels), form)


def labels_of(report: str) -> dict[str, str]:
    """What the text says of CheXpert's observations, without those it does not mention."""
    from r2gengpt.metrics.labels import Label, is_available, label_report

    if not is_available():
        log.info("no Observations: labels are not installed (pip install 'r2gengpt[labels]')")
        return {}
    return {name: label.value for name, label in label_report(report).items() if label != Label.BLANK}


def bytes_of(draft: Draft, form: str) -> bytes:
    """The draft in one of `FORMS`: sr and pdf are DICOM files, fhir JSON, hl7 a message.

    Raises:
        RunError: a fault of ours, by its kind and place: the packages' own words quote what they refuse.
    """
    try:
        return _made(draft, form)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise RunError(f"the draft cannot be made as {form}: {place_of(error)}") from None


def _made(draft: Draft, form: str) -> bytes:
    if form in BINARY:
        from pydicom.config import disable_value_validation

        with disable_value_validation():  # identifiers are passed on as they came, also those that are too long
            return _object_of(draft, form)
    if form == "fhir":
        from r2gengpt.serving.fhir import fhir_bundle

        return fhir_bundle(draft)
    from r2gengpt.serving.hl7 import hl7_message

    return hl7_message(draft)


def _object_of(draft: Draft, form: str) -> bytes:
    if form == "sr":
        from r2gengpt.serving.structured_report import structured_report

        return structured_report(draft)
    from r2gengpt.serving.encapsulated_pdf import encapsulated_pdf

    return encapsulated_pdf(draft)
