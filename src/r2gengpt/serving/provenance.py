"""What a report was made with and from, by hashes. No report text, no names of files."""

import hashlib
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from r2gengpt import __version__
from r2gengpt.checkpoint import DELTA
from r2gengpt.config import DecodeConfig
from r2gengpt.data.dicom_header import DicomHeader, warnings_of
from r2gengpt.generation.confidence import CALIBRATION


def model_sha256(model: nn.Module) -> str | None:
    """SHA-256 over all tensors as they lie in memory: name, type, shape and bytes, in the order of names.

    None where layers are read from disk when they are needed (`--offload_folder`).
    """
    digest = hashlib.sha256()
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        return None
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def file_sha256(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none (whole models and original files have no delta)."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_name(name: str) -> str:
    """The name of a part as clients may see it: of a directory, only its last component."""
    return Path(name).name if Path(name).exists() else name


def origin_of(model: nn.Module, settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What is the same for all reports of a server: parts, hashes and versions."""
    return {
        "vision_model": part_name(settings["vision_model"]),
        "lm_model": part_name(settings["lm_model"]),
        "model_sha256": model_sha256(model),
        "delta_sha256": file_sha256(directory / DELTA),
        "calibration_sha256": file_sha256(directory / CALIBRATION),
        "versions": {
            "r2gengpt": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


@dataclass(frozen=True)
class Source:
    """An image that a report was made from.

    Attributes:
        sha256: of the file as it was sent.
        format: PNG, JPEG or DICOM.
        size: width and height in pixels, as stored.
        upright: the same as it is seen.
        header: of DICOM. It names the patient: it goes into objects for archives, not into records and logs.
    """

    sha256: str
    format: str
    size: tuple[int, int]
    upright: tuple[int, int]
    header: DicomHeader | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The record, without the patient."""
        width, height = self.size
        record = {"sha256": self.sha256, "format": self.format, "width": width, "height": height}
        if self.header is None:
            return record
        return {**record, "view": self.header.view_name, "warnings": list(warnings_of(self.header))}


def provenance(name: str, origin: dict[str, Any], decode: DecodeConfig, sources: list[Source]) -> dict[str, Any]:
    """What one report was made with and from; only DICOM images have `sop_instance_uids`."""
    return {
        "model": name,
        **origin,
        "decode": asdict(decode),
        "inputs": [source.to_json() for source in sources],
        "sop_instance_uids": [source.header.instance_uid for source in sources if source.header is not None],
    }
