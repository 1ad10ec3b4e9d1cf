"""An edge directory at work: films in, report out, by OpenVINO, numpy and tokenizers. Never PyTorch or transformers."""

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2gengpt.confidence.film_guard import GUARD, put_right, read_guard
from r2gengpt.confidence.findings import FINDINGS, Sight, findings_of, read_scales, verdicts_of
from r2gengpt.config import NO_OPENING, DecodeConfig
from r2gengpt.edge.record import COMPILED, LANGUAGE, TABLE, TOKENIZER, VISION, EdgeRecord, read_record, view_pixels
from r2gengpt.errors import InputError, installing
from r2gengpt.generation.beams import Candidates, Floats, Ints, Row, Rules, Written
from r2gengpt.generation.sentences import report_of
from r2gengpt.report import Finding, Report
from r2gengpt.text.observations import hint_of, opening_of

RUNTIME = "`runtime` openvino"
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
"""Everything but the inputs of packed products is in 32 bits. By default the library rounds the cache to bytes."""
INPUTS = {"float32": "0", "int8": "32"}
"""Activations → how many inputs of a product with packed weights share a scale; 0: they are not rounded."""
Watch = Callable[[int], bool]
REPORTER = "openvino_telemetry"
"""The package that tells OpenVINO's makers of every import; where it cannot be imported they put a silent stub."""
_MAKING = threading.Lock()  # of two threads that make a core each, one would lose its own


def openvino(*, field: str, value: str) -> Any:
    """The library, its usage reports switched off: nothing of a hospital's machine is told to anybody.

    Args:
        field: what asked for it, for the error.
        value: its value.

    Raises:
        InputError: it is not installed.
    """
    if "openvino" not in sys.modules and importlib.util.find_spec("openvino") is None:
        raise InputError(f"needs openvino ({installing('openvino')})", field=field, value=value)
    sys.modules.setdefault(REPORTER, None)  # type: ignore[arg-type]  # None: an import of it fails
    return importlib.import_module("openvino")


def core() -> Any:
    """What compiles graphs, one for all models and threads until the process ends.

    OpenVINO's plugin for CPUs gives the thread that loads it a signal stack, and unmaps that stack when its core goes,
    in whichever thread. The next signal that Python handles, as Ctrl-C, would then end the process by a fault.
    """
    with _MAKING:
        return _core()


@cache
def _core() -> Any:
    return openvino(field="runtime", value="openvino").Core()


def arithmetic(activations: str) -> dict[str, object]:
    """OpenVINO's settings of a graph whose products take inputs in a form; `OMP_NUM_THREADS` limits the threads."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    limit = {"INFERENCE_NUM_THREADS": int(threads)} if threads.isdecimal() and int(threads) else {}
    return {**EXACT, "DYNAMIC_QUANTIZATION_GROUP_SIZE": INPUTS[activations], **limit}


class EdgeTokenizer:
    """The tokenizer as `generation.sentences` asks it."""

    def __init__(self, tokenizer: Any, end_token_id: int) -> None:
        self._tokenizer, self.end_token_id = tokenizer, end_token_id
        self._lock = threading.Lock()  # how it encodes is kept in it, for all threads

    @property
    def tokenizer(self) -> "EdgeTokenizer":
        """What decodes."""
        return self

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def encode(self, text: str, symbols: bool = False) -> list[int]:
        """Text to ids. Special tokens written out in it stay ordinary text, or with `symbols` are what they name."""
        with self._lock:
            self._tokenizer.encode_special_tokens = not symbols
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Texts of rows of token ids."""
        return [self.decode(row, skip_special_tokens) for row in rows]


@dataclass(frozen=True)
class SeenStudy:
    """What the films of one study are to the model: image tokens (N, D), float32, findings and doubts."""

    tokens: Floats
    sight: Sight

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the finding head; empty without one."""
        return self.sight.findings


class Edge:
    """A model that writes reports, one at a time: threads that ask for several wait for each other.

    Args:
        directory: made by an export to OpenVINO.
        frugal: forget the vision encoder after each study: less memory for one study, slower for many.

    Raises:
        InputError: OpenVINO is not installed, or the directory is none or damaged.
    """

    def __init__(self, directory: Path, *, frugal: bool = False) -> None:
        ov = openvino(field="runtime", value="openvino")
        from tokenizers import Tokenizer

        self.directory, self.frugal = directory, frugal
        self.record: EdgeRecord = read_record(directory, "model")
        self.scales = read_scales(directory, "model") if FINDINGS in self.record.files else ()
        self.guard = read_guard(directory, "model") if GUARD in self.record.files else None
        self.words = EdgeTokenizer(Tokenizer.from_file(str(directory / TOKENIZER)), self.record.end)
        self.table = np.load(directory / TABLE, mmap_mode="r")
        self.version = str(ov.__version__)
        self._at_work, self._worker = threading.Lock(), 0  # the graphs keep the state of one study

    def _compiled(self, name: str) -> Any:
        settings, kept = arithmetic(self.record.activations), self.directory / COMPILED
        if kept.is_dir():
            try:
                return self._request(name, {**settings, "CACHE_DIR": str(kept)})
            except RuntimeError:  # kept by another version, damaged, or the disk is full: compiled anew
                pass
        return self._request(name, settings)

    def _request(self, name: str, settings: Mapping[str, object]) -> Any:
        return core().compile_model(self.directory / name, "CPU", dict(settings)).create_infer_request()

    @cached_property
    def _vision(self) -> Any:
        return self._compiled(VISION)

    @cached_property
    def _language(self) -> Any:
        return self._compiled(LANGUAGE)

    def embeddings(self, ids: Sequence[int]) -> Floats:
        """Of token ids, (T, D), float32."""
        return np.asarray(self.table[np.asarray(ids, dtype=np.int64)], dtype=np.float32)

    def compile(self) -> None:
        """Make both graphs ready, so that the first study does not wait for it."""
        _ = self._vision, self._language

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The graphs for one thread. One that has them already would wait for itself, and is refused.

        Raises:
            InputError: so it is.
        """
        if self._worker == threading.get_ident():
            words = "is writing a report in this thread: what gets its text cannot ask it for another"
            raise InputError(words, field="model", value=self.directory.name)
        with self._at_work:
            self._worker = threading.get_ident()
            try:
                yield
            finally:
                self._worker = 0

    def look(self, films: Sequence[Image.Image]) -> SeenStudy:
        """The films of one study, upright and RGB, as the model sees them; without a head there are no findings."""
        return self.see(view_pixels(films, self.record.film))

    def see(self, pixels: Floats) -> SeenStudy:
        """`look`, of films that are pixels already, (V, 3, H, W), float32."""
        with self._alone():
            found = self._vision.infer({0: pixels})
            tokens = np.array(found[0], dtype=np.float32)
            findings = findings_of(found[1].tolist(), self.scales) if self.scales else ()
            doubts = () if self.guard is None else self.guard.doubts(np.array(found[2]), partial(self._relook, pixels))
            if self.frugal:
                del self._vision
        return SeenStudy(tokens, Sight(findings, doubts))

    def _relook(self, pixels: Floats, place: int, kind: str) -> Floats:
        """What the film guard asks of one of the views (V, 3, H, W)."""
        film = self.record.film
        return np.array(self._vision.infer({0: put_right(pixels[place], kind, film.mean, film.std)[None]})[2][0])

    def prompt(self, seen: SeenStudy) -> Floats:
        """The prompt of one study with its image tokens, and its hint where the model has hints: (P, D), float32."""
        before, after = self.record.before, self.record.after
        hint = hint_of(verdicts_of(seen.findings)) if self.record.hint else ""
        if self.record.hint and hint:
            ids = self.record.hint.ids(self.words.encode, hint)
            before, after = (*ids.bos, *ids.before), ids.after
        return np.concatenate([self.embeddings(before), seen.tokens, self.embeddings(after)])

    def choose(self, prompt: Floats, rules: Rules, watch: Watch | None = None, opening: Sequence[int] = ()) -> Written:
        """A report in token ids that goes on from a prompt (P, D); `watch` and `opening` as in `choose`.

        Raises:
            InputError: prompt and report together have more tokens than the language model has positions.
        """
        if self.record.limit is not None and len(prompt) + rules.max_new_tokens > self.record.limit:
            raise InputError(
                f"with {len(prompt)} prompt tokens that is more than the "
                f"language model's {self.record.limit} positions",
                field="max_new_tokens",
                value=rules.max_new_tokens,
            )
        with self._alone():
            passes = Passes(self._language, self.embeddings, len(prompt))
            return choose(passes.begin(prompt), passes.step, rules, watch, opening)

    def written(self, seen: SeenStudy, decode: DecodeConfig, watch: Watch | None = None) -> tuple[Report, int]:
        """The report of a study that was looked at, and how many tokens its prompt had.

        Args:
            seen: the study.
            decode: how, lengths resolved.
            watch: as in `choose`.
        """
        prompt = self.prompt(seen)
        opening = self.words.encode(opening_of(seen.findings)) if decode.opening != NO_OPENING else []
        written = self.choose(prompt, Rules.of(decode, self.record.end), watch, opening[: decode.max_new_tokens])
        return seen.sight.on(report_of(self.words, written, study="study")), len(prompt)


class Passes:
    """The passes of one report: which positions there are, and what each row has said last.

    Args:
        language: an infer request of the language model's graph.
        embeddings: of token ids, (T, D), float32.
        prompt: positions of the prompt.
    """

    def __init__(self, language: Any, embeddings: Callable[[Sequence[int]], Floats], prompt: int) -> None:
        self.language, self.embeddings, self.length = language, embeddings, prompt

    def begin(self, prompt: Floats) -> Floats:
        """Logits after the prompt, (vocabulary,)."""
        self.language.reset_state()
        logits: Floats = self._pass(prompt[None], np.arange(self.length), np.array([0]))[0]
        return logits

    def step(self, ids: Sequence[int], origins: Sequence[int]) -> Floats:
        """Logits (K, vocabulary) after a token more: row k continues row `origins[k]` of the last pass by `ids[k]`."""
        self.length += 1
        return self._pass(self.embeddings(ids)[:, None], np.array([self.length - 1]), np.array(origins))

    def _pass(self, embeds: Floats, positions: Ints, rows: Ints) -> Floats:
        inputs = {
            "embeds": embeds,
            "positions": positions[None].astype(np.int64),
            "seen": np.arange(self.length, dtype=np.int64)[None],
            "rows": rows.astype(np.int32),
        }
        logits: Floats = np.array(self.language.infer(inputs)["logits"], dtype=np.float32)
        return logits


def check_decoding(decode: DecodeConfig) -> None:
    """Refuse what is not written here, by name.

    Raises:
        InputError: sampling, speculation, or another engine.
    """
    for name, only in {"do_sample": False, "speculate": False, "engine": "auto"}.items():
        if (value := getattr(decode, name)) != only:
            raise InputError(
                f"{RUNTIME} writes greedily or by beams only, with `{name}` {only}", field=name, value=value
            )


def choose(
    first: Floats,
    step: Callable[[Sequence[int], Sequence[int]], Floats],
    rules: Rules,
    watch: Watch | None = None,
    opening: Sequence[int] = (),
) -> Written:
    """One report, greedily or by beams.

    Args:
        first: (vocabulary,), logits after the prompt, which is row 0 of the model's last pass.
        step: the logits (K, vocabulary) after one token more: of the tokens, and of the row that each continues.
        rules: how, without sampling.
        watch: gets the newest token of the first beam; True ends a report of one beam there.
        opening: the tokens that it begins with.
    """
    row = Row(rules, opening)
    logits, origins = np.broadcast_to(first, (rules.beam_size, len(first))), [0]
    while True:
        own = log_softmax(logits)
        if rules.beam_size == 1:
            settled = row.settled
            token = int(ruled(logits[0], row.running[0].ids, rules).argmax()) if settled is None else settled
            row.add(token, float(own[0, token]))
        else:
            chosen = row.advance(candidates(own, row))
            origins = [0] * len(chosen) if row.step == 1 else chosen  # the prompt was one row
        ended = watch is not None and watch(row.running[0].ids[-1])
        if row.through or (ended and rules.beam_size == 1):
            return row.written()
        logits = step([beam.ids[-1] for beam in row.running], origins)


def candidates(own: Floats, row: Row) -> Candidates:
    """The 2 K best continuations of all beams by their log-probabilities (K, vocabulary), as `generation.scores`."""
    pairs = zip(own, row.running, strict=True)
    scores = np.stack([ruled(scores, beam.ids, row.rules) for scores, beam in pairs])
    if row.settled is not None:
        kept = np.nan_to_num(scores[:, row.settled], neginf=0.0)
        scores[:] = -np.inf
        scores[:, row.settled] = kept
    scores = (scores + np.stack([beam.score for beam in row.running])[:, None]).reshape(-1)
    count, vocabulary = 2 * row.rules.beam_size, own.shape[1]
    places = np.argpartition(-scores, count - 1)[:count]
    places = places[np.lexsort((places, -scores[places]))]
    return Candidates(
        sums=scores[places],
        origins=places // vocabulary,
        tokens=places % vocabulary,
        logprobs=own.reshape(-1)[places],
    )


def log_softmax(logits: Floats) -> Floats:
    """Natural-log probabilities along the last axis, float32."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def ruled(scores: Floats, written: Sequence[int], rules: Rules) -> Floats:
    """Scores (vocabulary,) of the token after `written`, with what may not come taken out."""
    scores = scores.copy()
    if len(written) < rules.min_new_tokens:
        scores[rules.end] = -np.inf
    if written and rules.repetition_penalty != 1.0:
        ids, penalty = np.unique(written), np.float32(rules.repetition_penalty)
        found = scores[ids]
        scores[ids] = np.where(found < 0, found * penalty, found / penalty)
    scores[repeated(written, rules.no_repeat_ngram_size)] = -np.inf
    return scores


def repeated(written: Sequence[int], size: int) -> list[int]:
    """The tokens that would end an n-gram of `written` a second time; none where `size` is 0.

    >>> repeated([5, 6, 7, 5, 6], 3)
    [7]
    """
    if size == 0 or len(written) < size:
        return []
    last = list(written[len(written) - size + 1 :])
    starts = range(len(written) - size + 1)
    return [written[at + size - 1] for at in starts if list(written[at : at + size - 1]) == last]
