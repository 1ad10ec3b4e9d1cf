"""Gives a served language model what writes: llama.cpp with its file, or vLLM by its address. Writes nothing itself."""

from collections.abc import Mapping
from pathlib import Path

from r2gengpt.engines.llama_cpp import LlamaCpp
from r2gengpt.engines.record import LANGUAGE_MODEL, ServedRecord, read_record
from r2gengpt.engines.vllm import FIELD, VLLM
from r2gengpt.errors import InputError
from r2gengpt.generation.served import InferenceEngine, engine_of
from r2gengpt.model.served import ServedLanguageModel
from r2gengpt.parts.placement import check_runs_here
from r2gengpt.settings import PlacementConfig


def attach(language_model: object, directory: Path, where: PlacementConfig) -> ServedRecord | None:
    """Make a whole model's language model ready to write; None where it is run here.

    Raises:
        InputError: settings that do not go with who runs it, or a program that is not here.
    """
    if not isinstance(language_model, ServedLanguageModel):
        check_runs_here(where)
        return None
    record = read_record(directory)
    for name, value in (("quantization", where.quantization), ("dtype", where.dtype)):
        if value != "auto":
            words = f"{record.program} runs the language model, whose weights the export settled; leave it out"
            raise InputError(words, field=name, value=value)
    language_model.writer = writer(language_model, directory, record, where)
    return record


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
