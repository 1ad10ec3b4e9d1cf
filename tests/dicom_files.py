"""Small DICOM files made for tests, and what dicom3tools says of ours. No test stands here."""

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, FileDataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498."
CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"


def ramp(rows: int = 40, columns: int = 32, bits: int = 12, signed: bool = False) -> npt.NDArray[Any]:
    """A picture that holds the lowest and the highest value of its depth: (rows, columns)."""
    values = np.linspace(0, 2**bits - 1, rows * columns).round().astype(np.int64)
    values -= 2 ** (bits - 1) if signed else 0
    kind = ("i" if signed else "u") + ("1" if bits <= 8 else "2")
    return values.reshape(rows, columns).astype(kind)


def film(
    pixels: npt.NDArray[Any] | None = None, bits: int = 12, syntax: str = ExplicitVRLittleEndian, **more: Any
) -> FileDataset:
    """A chest film of these pixels, (rows, columns) or (frames, rows, columns), with further elements by keyword."""
    pixels = ramp(bits=bits) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = DX
    meta.MediaStorageSOPInstanceUID = f"{ROOT}3"
    dataset = FileDataset("", Dataset(), preamble=bytes(128), file_meta=meta)
    values: dict[str, Any] = {
        "SOPClassUID": DX,
        "SOPInstanceUID": f"{ROOT}3",
        "StudyInstanceUID": f"{ROOT}1",
        "SeriesInstanceUID": f"{ROOT}2",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientID": "P-1",
        "PatientName": "Muster^Erika",
        "PatientBirthDate": "19500102",
        "PatientSex": "F",
        "AccessionNumber": "A 77",
        "StudyDate": "20260102",
        "StudyTime": "101112",
        "StudyID": "S1",
        "ReferringPhysicianName": "Hay^R",
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if pixels.ndim == 3:
        values["NumberOfFrames"] = len(pixels)
    for key, value in {**values, **more}.items():
        if value is not None:
            setattr(dataset, key, value)
    raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = raw + bytes(len(raw) % 2)
    dataset["PixelData"].VR = "OW"
    return dataset


NEWER = (
    "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID ",
    "Warning - Dicom dataset contains attributes not present in standard DICOM IOD",
    "Warning - Unrecognized defined term <99R2GENGPT> for value 1 of attribute <Coding Scheme Designator>",
    "Warning - Unrecognized defined term <2.25.61063364867404180117325041613148430061> for value 1 of attribute "
    "<Coding Scheme UID>",
)
"""What dciodvfy of 2022 does not know: the Device UID of Contributing Equipment (PS3.3, C.12.1), and private codes."""


def verified(path: Path) -> list[str]:
    """What dciodvfy says of a file: its kind, then what it finds wrong."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(NEWER)]


def data_of(dataset: FileDataset) -> bytes:
    """The file."""
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()
