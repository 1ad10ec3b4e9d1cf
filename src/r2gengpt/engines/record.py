"""What a directory of `export` for another program holds beside our part of the model: `served.json`. Runs no model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.files import sha256_of

RECORD = "served.json"
FORMAT = "r2gengpt-served-1"
LANGUAGE_MODEL = {"llama.cpp": "language_model.gguf", "vllm": "language_model"}
"""What the program reads, by its name: a file, or a directory."""
AGAIN = "export the model anew"


@dataclass(frozen=True)
class ServedRecord:
    """Which program runs the language model, and the files that it reads: bytes and SHA-256 of each, by its path."""

    program: str
    files: Mapping[str, Mapping[str, int | str]]

    @property
    def sha256(self) -> str:
        """One hash of all the files' names and hashes."""
        lines = "".join(f"{name} {known['sha256']}\n" for name, known in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def record_of(directory: Path, program: str) -> ServedRecord:
    """The record of a directory that holds all files already."""
    root = directory / LANGUAGE_MODEL[program]
    paths = sorted(root.rglob("*")) if root.is_dir() else [root]
    files: dict[str, Mapping[str, int | str]] = {}
    for path in paths:
        if path.is_file():
            files[path.relative_to(directory).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return ServedRecord(program, files)


def write_record(directory: Path, record: ServedRecord) -> None:
    """Write `served.json`."""
    text = json.dumps({"format": FORMAT, **asdict(record)}, indent=1) + "\n"
    (directory / RECORD).write_text(text, encoding="utf-8")


def read_record(directory: Path) -> ServedRecord:
    """The record of a directory; files are compared by size where llama.cpp reads them here.

    Raises:
        InputError: there is none, it is damaged, or a file is not as it was written.
    """
    try:
        content = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        record = ServedRecord(content["program"], content["files"])
        if content["format"] != FORMAT or record.program not in LANGUAGE_MODEL:
            raise ValueError(f"format {content['format']}, program {record.program}")
        sizes = {directory / name: int(known["bytes"]) for name, known in record.files.items()}
        assert len(record.sha256) == 64
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = f"{RECORD} is damaged ({type(error).__name__}: {error}); {AGAIN}"
        raise InputError(words, field="model", value=directory) from None
    for path, size in sizes.items() if record.program == "llama.cpp" else ():
        if not path.is_file() or path.stat().st_size != size:
            raise InputError(f"{path.name} is missing or has changed; {AGAIN}", field="model", value=directory)
    return record
