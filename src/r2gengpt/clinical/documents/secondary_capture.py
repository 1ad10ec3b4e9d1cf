"""A draft as a DICOM secondary capture image of its text: the last resort, for viewers that show neither SR nor PDF.

Modules: SC Equipment (PS3.3, C.8.6.1), General Image (C.7.6.1), Image Pixel (C.7.6.3). The picture names no patient:
who it is of stands in the object's own elements. Needs pydicom (extra `dicom`).
"""

import re

from pydicom.sequence import Sequence as Items

from r2gengpt.clinical.documents.dicom_objects import code, file_of, new_object, reference
from r2gengpt.clinical.documents.draft import Draft
from r2gengpt.clinical.documents.picture_page import report_picture
from r2gengpt.text.written import NOTICE

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LONGEST = 10_240
"""Characters of Image Comments (LT)."""


def secondary_capture(draft: Draft) -> bytes:
    """The draft as a DICOM file; its text stands in Image Comments too, as far as there is room."""
    pixels = report_picture(draft.origin, draft.sections, draft.blocks)
    dataset = new_object(draft, SECONDARY_CAPTURE, "SC", "OT", 9104)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""
    region = draft.patient.body_part
    dataset.BodyPartExamined = region if re.fullmatch("[A-Z0-9_ ]{1,16}", region) else "CHEST"
    dataset.BurnedInAnnotation = "YES"  # its text is burned in, and a text may say whose it is
    dataset.DerivationDescription = f"Picture of a drafted text. {NOTICE}"
    dataset.ImageComments = text_of(draft)[:LONGEST]
    sources = {image.instance_uid: reference(image) for image in draft.images}
    for source in sources.values():
        source.PurposeOfReferenceCodeSequence = code("121322", "DCM", "Source image for image processing operation")
    dataset.SourceImageSequence = Items(sources.values())
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = pixels.tobytes() + bytes(pixels.size % 2)
    dataset["PixelData"].VR = "OB"
    return file_of(dataset)


def text_of(draft: Draft) -> str:
    """What the picture shows, as lines."""
    parts = [*draft.sections, *((name, "\n".join(lines)) for name, lines in draft.blocks)]
    return "\n\n".join([draft.origin, *(f"{name.upper()}\n{text}" for name, text in parts)])
