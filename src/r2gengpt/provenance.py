"""What a report was made with and from, by hashes. No report text, no names of files; PyTorch only where it runs."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gengpt.checkpoint_files import DELTA
from r2gengpt.confidence.findings import FINDINGS
from r2gengpt.confidence.review import CALIBRATION
from r2gengpt.config import DecodeConfig, Stored
from r2gengpt.files import sha256_of
from r2gengpt.films.dicom.header import DicomHeader, warnings_of
from r2gengpt.version import __version__

if TYPE_CHECKING:
    from torch import nn


def model_sha256(model: "nn.Module", beside: bytes = b"", left_out: tuple[str, ...] = ()) -> str | None:
    """SHA-256 over all tensors as they lie in memory: name, type, shape and bytes, in the order of names.

    None where layers are read from disk when they are needed (`offload_folder`).

    Args:
        model: whose tensors.
        beside: what else its reports depend on.
        left_out: how names begin that do not count, of parts that have no weights of their own.
    """
    import torch

    digest = hashlib.sha256()
    state = {name: it for name, it in model.state_dict().items() if not name.startswith(left_out)}
    if any(tensor.is_meta for tensor in state.values()):
        return None
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(beside)
    return digest.hexdigest()


def head_settings(model: Any, directory: Path) -> bytes:
    """How the logits of a model's finding head are read, and whether prompts hold it; empty without a head."""
    if getattr(model, "finding_head", None) is None:
        return b""
    return f"{FINDINGS} {file_sha256(directory / FINDINGS)} hint {model.config.findings_hint}\n".encode()


def file_sha256(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none (whole models and original files have no delta)."""
    return sha256_of(path) if path.is_file() else None


def part_name(name: str) -> str:
    """The name of a part as clients may see it: of a directory, only its last component."""
    return Path(name).name if Path(name).exists() else name


@dataclass(frozen=True)
class Origin:
    """What all reports of a model have in common: parts, hashes and versions.

    `model_sha256` is None where weights are read from disk when they are needed, the other hashes where there is no
    such file.
    """

    vision_model: str
    lm_model: str
    model_sha256: str | None
    delta_sha256: str | None
    calibration_sha256: str | None
    versions: dict[str, str]


def origin_of(
    model: "nn.Module", stored: Stored, directory: Path, *, beside: bytes = b"", left_out: tuple[str, ...] = ()
) -> Origin:
    """The origin of the reports of a model in PyTorch; `beside` and `left_out` as for `model_sha256`."""
    import torch
    import transformers

    return Origin(
        vision_model=part_name(stored.model.values["vision_model"]),
        lm_model=part_name(stored.model.values["lm_model"]),
        model_sha256=model_sha256(model, head_settings(model, directory) + beside, left_out),
        delta_sha256=file_sha256(directory / DELTA),
        calibration_sha256=file_sha256(directory / CALIBRATION),
        versions={
            "r2gengpt": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    )


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


def provenance(
    name: str, origin: Origin, decode: DecodeConfig, sources: list[Source], prior: Sequence[Source] = ()
) -> dict[str, Any]:
    """What one report was made with and from; only DICOM images have `sop_instance_uids`.

    `prior_inputs` are the images of the patient's study before; the record has them where the model read such.
    """
    before = {"prior_inputs": [source.to_json() for source in prior]} if prior else {}
    return {
        "model": name,
        **asdict(origin),
        "decode": asdict(decode),
        "inputs": [source.to_json() for source in sources],
        **before,
        "sop_instance_uids": [source.header.instance_uid for source in sources if source.header is not None],
    }
