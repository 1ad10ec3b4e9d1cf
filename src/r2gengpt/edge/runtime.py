"""An edge directory at work: films in, report out, by OpenVINO, numpy and tokenizers. Never PyTorch or transformers."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.config import DecodeConfig
from r2gengpt.edge.choose import Choice, Chosen, choose
from r2gengpt.edge.library import openvino
from r2gengpt.edge.pixels import view_pixels
from r2gengpt.edge.record import LANGUAGE, TABLE, TOKENIZER, VISION, EdgeRecord, read_record
from r2gengpt.errors import InputError
from r2gengpt.generation.prediction import Prediction
from r2gengpt.generation.sentences import report_sentences, report_text

FLAG = "--runtime openvino"
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
"""Products of whole inputs with the packed weights. By default the library rounds inputs and cache to bytes."""

Floats = npt.NDArray[np.float32]


class Words:
    """The tokenizer as `generation.sentences` asks it."""

    def __init__(self, tokenizer: Any, end_token_id: int) -> None:
        self._tokenizer, self.end_token_id = tokenizer, end_token_id

    @property
    def tokenizer(self) -> "Words":
        """What decodes."""
        return self

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Texts of rows of token ids."""
        return [self.decode(row, skip_special_tokens) for row in rows]


class Edge:
    """A model that writes reports.

    Args:
        directory: made by `r2gengpt export --target openvino`.
        flag: what named it, for errors.
        frugal: forget the vision encoder after each study: less memory for one study, slower for many.

    Raises:
        InputError: OpenVINO is not installed, or the directory is none or damaged.
    """

    def __init__(self, directory: Path, flag: str = "--model", *, frugal: bool = False) -> None:
        ov = openvino(FLAG)
        from tokenizers import Tokenizer

        self.directory, self.frugal = directory, frugal
        self.record: EdgeRecord = read_record(directory, flag)
        self.words = Words(Tokenizer.from_file(str(directory / TOKENIZER)), self.record.end)
        self.table = np.load(directory / TABLE, mmap_mode="r")
        self._core = ov.Core()

    def _compiled(self, name: str) -> Any:
        threads = os.environ.get("OMP_NUM_THREADS", "")
        limit = {"INFERENCE_NUM_THREADS": int(threads)} if threads.isdecimal() and int(threads) else {}
        graph = self._core.compile_model(self.directory / name, "CPU", {**EXACT, **limit})
        return graph.create_infer_request()

    @cached_property
    def _vision(self) -> Any:
        return self._compiled(VISION)

    @cached_property
    def _language(self) -> Any:
        return self._compiled(LANGUAGE)

    def embeddings(self, ids: Sequence[int]) -> Floats:
        """Of token ids, (T, D), float32."""
        return np.asarray(self.table[np.asarray(ids, dtype=np.int64)], dtype=np.float32)

    def prompt(self, films: Sequence[Image.Image]) -> Floats:
        """The prompt of one study with its image tokens, (P, D), float32; films are upright and RGB."""
        tokens = np.array(self._vision.infer({0: view_pixels(films, self.record.film)})[0], dtype=np.float32)
        if self.frugal:
            del self._vision
        return np.concatenate([self.embeddings(self.record.before), tokens, self.embeddings(self.record.after)])

    def choose(self, prompt: Floats, choice: Choice) -> Chosen:
        """Token ids of a report that goes on from a prompt (P, D).

        Raises:
            InputError: prompt and report together have more tokens than the language model has positions.
        """
        if self.record.limit is not None and len(prompt) + choice.max_new_tokens > self.record.limit:
            raise InputError(
                f"--max_new_tokens {choice.max_new_tokens}: with {len(prompt)} prompt tokens that is more than the "
                f"language model's {self.record.limit} positions"
            )
        study = _Study(self, len(prompt))
        return choose(study.begin(prompt), study, choice)

    def report(self, study: str, films: Sequence[Image.Image], decode: DecodeConfig) -> Prediction:
        """The report of one study, as `generation.decode.predict` gives it; lengths must be resolved."""
        chosen = self.choose(self.prompt(films), choice_of(decode, self.record.end))
        return Prediction(
            id=study,
            prediction=report_text(self.words, chosen.ids),
            tokens=len(chosen.ids),
            logprob=sum(chosen.logprobs) / len(chosen.logprobs),
            finish="stop" if chosen.ids[-1] == self.record.end else "length",
            sentences=report_sentences(self.words, chosen.ids, chosen.logprobs, chosen.beams),
        )


class _Study:
    """The passes of one report: which positions there are, and what each row has said last."""

    def __init__(self, edge: Edge, prompt: int) -> None:
        self.edge, self.length = edge, prompt

    def begin(self, prompt: Floats) -> Floats:
        """Logits after the prompt, (vocabulary,)."""
        self.edge._language.reset_state()
        logits: Floats = self._pass(prompt[None], np.arange(self.length), np.array([0]))[0]
        return logits

    def step(self, ids: npt.NDArray[np.int64], origin: npt.NDArray[np.int64]) -> Floats:
        """As `choose.Model` says."""
        self.length += 1
        return self._pass(self.edge.embeddings(ids.tolist())[:, None], np.array([self.length - 1]), origin)

    def _pass(self, embeds: Floats, positions: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Floats:
        inputs = {
            "embeds": embeds,
            "positions": positions[None].astype(np.int64),
            "seen": np.arange(self.length, dtype=np.int64)[None],
            "rows": rows.astype(np.int32),
        }
        logits: Floats = np.array(self.edge._language.infer(inputs)["logits"], dtype=np.float32)
        return logits


def check_decoding(decode: DecodeConfig) -> None:
    """Refuse what is not written here, by name.

    Raises:
        InputError: sampling, speculation, or another engine.
    """
    for name, only in {"do_sample": False, "speculate": False, "engine": "auto"}.items():
        if (value := getattr(decode, name)) != only:
            raise InputError(f"--{name} {value}: {FLAG} writes greedily or by beams only, with --{name} {only}")


def choice_of(decode: DecodeConfig, end: int) -> Choice:
    """Our settings as the search takes them; the lengths must be resolved (`DecodeConfig.for_dataset`)."""
    assert decode.max_new_tokens is not None
    assert decode.min_new_tokens is not None
    return Choice(
        end=end,
        min_new_tokens=decode.min_new_tokens,
        max_new_tokens=decode.max_new_tokens,
        beam_size=decode.beam_size,
        repetition_penalty=decode.repetition_penalty or 1.0,
        no_repeat_ngram_size=decode.no_repeat_ngram_size or 0,
        length_penalty=decode.length_penalty,
        early_stopping=decode.early_stopping,
    )
