"""One study of a bulk run as a row, in JSON lines or Parquet. No time of day: a row depends on its input alone."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from r2gengpt.errors import InputError, RunError
from r2gengpt.generation.prediction import Prediction
from r2gengpt.text.written import json_text

if TYPE_CHECKING:
    import pyarrow

KINDS = ("file", "image", "report")
"""What fails: reading a file, decoding it as a chest film, writing the report."""


@dataclass(frozen=True)
class Failure:
    """Why a study has no report: one of `KINDS`, and one line."""

    kind: str
    message: str

    @classmethod
    def of(cls, kind: str, error: Exception) -> "Failure":
        """An exception as one line; its type's name is told unless it is the user's input that is wrong."""
        text = " ".join(str(error).split())
        return cls(kind, text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"[:300])


def stopped(error: InputError | RunError) -> str:
    """An error of ours as a worker hands it to the driver."""
    return json.dumps([type(error).__name__, str(error)])


def raised(stop: str) -> None:
    """Raise what `stopped` was made of; nothing where it is empty."""
    if stop:
        kind, message = json.loads(stop)
        raise {"InputError": InputError, "RunError": RunError}[kind](message)


@dataclass(frozen=True)
class Input:
    """An image that a report was made from: its path below the root, SHA-256 of the file (None: it was not read)."""

    path: str
    sha256: str | None


@dataclass(frozen=True)
class Row:
    """A study's report, or why there is none.

    `confidence` is the mean calibrated confidence of its sentences (None: no calibration, or no sentence), `logprob`
    the mean log-probability of its tokens. `provenance` is what it was made with: model, hashes, versions, decoding.
    `note` is what is doubtful about whose images these are.
    """

    id: str
    prediction: Prediction | None
    inputs: tuple[Input, ...]
    provenance: Mapping[str, Any]
    error: Failure | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in a shard."""
        made = self.prediction
        sentences = [] if made is None else [asdict(sentence) for sentence in made.sentences]
        known = [sentence["confidence"] for sentence in sentences if sentence["confidence"] is not None]
        return {
            "id": self.id,
            "note": self.note or None,
            "report": None if made is None else made.prediction,
            "confidence": sum(known) / len(known) if known else None,
            "tokens": None if made is None else made.tokens,
            "logprob": None if made is None else made.logprob,
            "finish": None if made is None else made.finish,
            "sentences": sentences,
            "provenance": {**self.provenance, "inputs": [asdict(one) for one in self.inputs]},
            "error": None if self.error is None else asdict(self.error),
        }


def json_lines(rows: Iterable[Row]) -> bytes:
    """Rows as JSON lines in UTF-8, in order."""
    lines = (json_text(row.to_json()) + "\n" for row in rows)
    return "".join(lines).encode()


@dataclass(frozen=True)
class Told:
    """What a shard's file says of itself: the ids of its rows in order, and the kind of error of those that failed."""

    ids: tuple[str, ...]
    failed: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]


MOST_EXAMPLES = 20


def told_by(records: Iterable[Mapping[str, Any]]) -> Told:
    """The contents of a shard in short."""
    ids: list[str] = []
    failed: list[str] = []
    examples: list[tuple[str, str]] = []
    for record in records:
        ids.append(record["id"])
        if (error := record["error"]) is not None:
            failed.append(error["kind"])
            if len(examples) < MOST_EXAMPLES:
                examples.append((record["id"], error["message"]))
    return Told(tuple(ids), tuple(failed), tuple(examples))


def encoded(lines: bytes, form: str) -> bytes:
    """JSON lines as the bytes of a shard's file; the same lines always give the same bytes."""
    if form == "jsonl":
        return lines
    import pyarrow.parquet

    records = [in_columns(json.loads(line)) for line in lines.splitlines()]
    held = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records, schema=schema()), held)
    return held.getvalue()


def decoded(data: bytes, form: str) -> Iterator[Mapping[str, Any]]:
    """The records of a shard's file, one by one.

    Raises:
        ValueError: the bytes are damaged (pyarrow's errors are ValueErrors or OSErrors).
    """
    if form == "jsonl":
        if data and not data.endswith(b"\n"):
            raise ValueError("its last line has no end")
        yield from (json.loads(line) for line in data.split(b"\n")[:-1])
        return
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()


def in_columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON record as Parquet has it: the decode settings and versions, whose names may change, as JSON texts."""
    provenance = record["provenance"]
    texts = {name: json.dumps(provenance.get(name), sort_keys=True) for name in ("decode", "versions")}
    return {**record, "provenance": {**provenance, **texts}}


def schema() -> "pyarrow.Schema":
    """The columns of a Parquet shard, the same in each, also where all values of one are empty."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    sentence = {"text": text, "tokens": pa.int64(), "logprob": number, "agreement": number, "confidence": number,
                "needs_review": pa.bool_()}  # fmt: skip
    parts, hashes = ("model", "vision_model", "lm_model"), ("model_sha256", "delta_sha256", "calibration_sha256")
    names = (*parts, *hashes, "decode", "versions")
    inputs = pa.list_(pa.struct({"path": text, "sha256": text}))
    return pa.schema(
        {
            "id": text,
            "note": text,
            "report": text,
            "confidence": number,
            "tokens": pa.int64(),
            "logprob": number,
            "finish": text,
            "sentences": pa.list_(pa.struct(sentence)),
            "provenance": pa.struct({**dict.fromkeys(names, text), "inputs": inputs}),
            "error": pa.struct({"kind": text, "message": text}),
        }
    )


def failed_row(row: Row, failure: Failure) -> Row:
    """The row without a report, and why."""
    return replace(row, prediction=None, error=failure)
