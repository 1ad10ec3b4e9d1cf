"""The actor that holds the model: a decoded shard in, its rows out. Loads the model once; writes no file."""

import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from r2gengpt.batch.decode import Decoded
from r2gengpt.batch.rows import Failure, Row, failed_row, json_lines, stopped
from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError, RunError
from r2gengpt.generation.prediction import Prediction
from r2gengpt.text.written import json_text

log = logging.getLogger("r2gengpt.batch")


class Writer(Protocol):
    """What writes reports; a stand-in in tests."""

    origin: Mapping[str, Any]
    """What all its rows were made with."""

    def write(self, studies: Sequence[Decoded], first: int) -> list[Prediction]:
        """Reports of studies that have pixels, in their order; `first` is the shard's place in the listing."""
        ...


@dataclass
class ModelWriter:
    """A model and how it writes. Batches are of equal numbers of views, as far as a shard allows."""

    built: Any
    decode: DecodeConfig
    batch_size: int
    origin: Mapping[str, Any]
    calibration: Any = None
    abstain_below: float | None = None

    def write(self, studies: Sequence[Decoded], first: int) -> list[Prediction]:
        """One run of the engine: as studies end, the next of the shard take their places."""
        from r2gengpt.generation.confidence import with_confidence
        from r2gengpt.generation.decode import predict

        order = by_views(studies)
        decode = replace(self.decode, decode_seed=self.decode.decode_seed + first)
        batches = self._batches([studies[place] for place in order])
        found = predict(self.built.model, self.built.processor, batches, decode)
        known = [with_confidence(prediction, self.calibration, self.abstain_below) for prediction in found]
        back = dict(zip(order, known, strict=True))
        return [back[place] for place in range(len(studies))]

    def _batches(self, studies: Sequence[Decoded]) -> Iterator[Any]:
        import torch

        from r2gengpt.data.loading import Example, prompt_batch

        for at in range(0, len(studies), self.batch_size):
            some = studies[at : at + self.batch_size]
            examples = [Example(study.id, torch.from_numpy(study.pixels.copy()), "", "") for study in some]  # type: ignore[union-attr]  # those with pixels
            yield prompt_batch(examples, self.built.processor)


def by_views(studies: Sequence[Decoded]) -> list[int]:
    """Places of the studies by their number of views, else as they stand: batches then pad least."""
    views = [0 if study.pixels is None else len(study.pixels) for study in studies]
    return sorted(range(len(studies)), key=views.__getitem__)


def shard_rows(writer: Writer, studies: Sequence[Decoded], first: int) -> list[Row]:
    """The rows of a shard, in its order; a study that has no report has its failure.

    Raises:
        RunError: no study of several gets a report by this model, so that no study is to blame.
    """
    rows = [Row(study.id, None, study.inputs, writer.origin, study.failure, study.note) for study in studies]
    good = [place for place, study in enumerate(studies) if study.failure is None]
    found = reports_of(writer, [studies[place] for place in good], first)
    for place, one in zip(good, found, strict=True):
        row = rows[place]
        rows[place] = failed_row(row, one) if isinstance(one, Failure) else replace(row, prediction=one)
    return rows


def reports_of(writer: Writer, studies: Sequence[Decoded], first: int) -> list[Prediction | Failure]:
    """Reports, together where that works; else each by itself, so that one study's failure is its own.

    Raises:
        RunError: it works for none of several.
    """
    if not studies:
        return []
    try:
        return list(writer.write(studies, first))
    except Exception as error:  # any: what a model raises over a study is told in the study's row
        log.warning("a shard failed together and is written study by study: %s", type(error).__name__)
    found: list[Prediction | Failure] = []
    for place, study in enumerate(studies):
        try:
            found += writer.write([study], first + place)
        except Exception as error:
            found.append(Failure.of("report", error))
    lost = [one for one in found if isinstance(one, Failure)]
    if len(lost) == len(found) > 1:
        raise RunError(f"the model writes no report of any of {len(found)} studies, first: {lost[0].message}")
    return found


class ShardActor:
    """Ray's actor: holds a writer for its life.

    Args:
        make: makes the writer; called once.
    """

    def __init__(self, make: Callable[[], Writer]) -> None:
        self.writer: Writer | None = None
        self.stop = ""
        try:
            self.writer = make()
        except (InputError, RunError) as error:
            self.stop = stopped(error)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of one shard as JSON lines; or, in `stop`, why the run cannot go on.

        Errors of ours travel as values: what Ray makes of an exception has lost its type.
        """
        answer = {"shard": row["shard"], "lines": b"", "origin": "", "stop": row["stop"] or self.stop}
        if answer["stop"] or self.writer is None:
            return answer
        studies: list[Decoded] = pickle.loads(row["decoded"])
        try:
            lines = json_lines(shard_rows(self.writer, studies, int(row["first"])))
        except (InputError, RunError) as error:
            return {**answer, "stop": stopped(error)}
        return {**answer, "lines": lines, "origin": json_text(dict(self.writer.origin))}


def row_origin(origin: Mapping[str, Any], name: str, decode: DecodeConfig) -> dict[str, Any]:
    """The provenance that all rows share."""
    return {"model": name, **origin, "decode": asdict(decode)}
