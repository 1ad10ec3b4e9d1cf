"""A language model that another program runs: the record of its files, `served.json`, and what writes with it.

llama.cpp gets its file, vLLM its address. Nothing is written here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gengpt.engines.llama_cpp import LlamaCpp
from r2gengpt.engines.vllm import FIELD, VLLM
from r2gengpt.errors import InputError
from r2gengpt.files import sha256_of
from r2gengpt.generation.served import InferenceEngine, engine_of
from r2gengpt.model.served import ServedLanguageModel
from r2gengpt.parts.placement import check_runs_here
from r2gengpt.settings import PlacementConfig

RECORD = "served.json"
FORMAT = "r2gengpt-served-1"
ENGINES: Mapping[str, type[InferenceEngine]] = {"llama.cpp": LlamaCpp, "vllm": VLLM}
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
    except (OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = f"{RECORD} is damaged ({type(error).__name__}: {error}); {AGAIN}"
        raise InputError(words, field="model", value=directory) from None
    for path, size in sizes.items() if record.program == "llama.cpp" else ():
        if not path.is_file() or path.stat().st_size != size:
            raise InputError(f"{path.name} is missing or has changed; {AGAIN}", field="model", value=directory)
    return record


def attach(language_model: object, directory: Path, where: PlacementConfig) -> None:
    """Make a whole model's language model ready to write, where another program runs it.

    Raises:
        InputError: settings that do not go with who runs it, or a program that is not here.
    """
    if not isinstance(language_model, ServedLanguageModel):
        check_runs_here(where)
        return
    record = read_record(directory)
    for name, value in (("quantization", where.quantization), ("dtype", where.dtype)):
        if value != "auto":
            words = f"{record.program} runs the language model, whose weights the export settled; leave it out"
            raise InputError(words, field=name, value=value)
    language_model.writer = writer(language_model, directory, record, where)


def writer(
    language_model: ServedLanguageModel, directory: Path, record: ServedRecord, where: PlacementConfig
) -> InferenceEngine:
    """What writes with the language model of a directory.

    Raises:
        InputError: as `attach`.
    """
    if record.program == VLLM.name:
        if where.lm_endpoint is None:
            words = f"vLLM runs its language model: `{FIELD}` must say where, as http://host:8000/v1"
            raise InputError(words, field="model", value=directory)
        return VLLM(where.lm_endpoint, language_model.embeddings)
    check_runs_here(where)
    return LlamaCpp(directory / LANGUAGE_MODEL[record.program])


def check_scores(language_model: object, abstain_below: float | None) -> None:
    """Refuse marks on unsure sentences where the program does not score the tokens that a report opens with.

    Raises:
        InputError: marks are asked for.
    """
    unscored = isinstance(language_model, ServedLanguageModel) and not engine_of(language_model).scores_opening
    if unscored and abstain_below is not None:
        words = "vLLM gives no probabilities of the tokens that a report opens with; leave it out"
        raise InputError(words, field="abstain_below", value=abstain_below)


def written_elsewhere(language_model: object, directory: Path) -> Mapping[str, str]:
    """Who writes and the hash of what it reads, where another program runs the language model: a part of a record."""
    if not isinstance(language_model, ServedLanguageModel):
        return {}
    record = read_record(directory)
    return {"writer": record.program, "language_model_sha256": record.sha256}
