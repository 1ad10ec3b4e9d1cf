"""What a bulk run writes: rows as JSON lines or Parquet, in files that are whole or not there, and their manifest.

No time of day: a row depends on its input alone.
"""

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gengpt.errors import InputError, RunError
from r2gengpt.files import sync
from r2gengpt.report import Report, film_json
from r2gengpt.text.written import json_text

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger("r2gengpt.batch")
FOLDER, MANIFEST, ORIGIN = "shards", "manifest.json", "origin.json"
MOST_EXAMPLES = 20
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


@dataclass(frozen=True)
class Input:
    """An image that a report was made from: its path below the root, SHA-256 of the file (None: it was not read)."""

    path: str
    sha256: str | None


@dataclass(frozen=True)
class BatchRow:
    """A study's report, or why there is none.

    `confidence` is the mean calibrated confidence of its sentences (None: no calibration, or no sentence), `logprob`
    the mean log-probability of its tokens. `provenance` is what it was made with: model, hashes, versions, decoding.
    `note` is what is doubtful about whose images these are.
    """

    id: str
    report: Report | None
    inputs: tuple[Input, ...]
    provenance: Mapping[str, Any]
    error: Failure | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in a shard."""
        made = self.report
        sentences = [] if made is None else [sentence.to_json() for sentence in made.sentences]
        known = [sentence["confidence"] for sentence in sentences if sentence["confidence"] is not None]
        return {
            "id": self.id,
            "note": self.note or None,
            "report": None if made is None else made.text,
            "confidence": sum(known) / len(known) if known else None,
            "tokens": None if made is None else made.tokens,
            "logprob": None if made is None else made.logprob,
            "finish": None if made is None else made.finish,
            "sentences": sentences,
            **({} if made is None else film_json(made)),
            "provenance": {**self.provenance, "inputs": [asdict(one) for one in self.inputs]},
            "error": None if self.error is None else asdict(self.error),
        }


def json_lines(rows: Iterable[BatchRow]) -> bytes:
    """Rows as JSON lines in UTF-8, in order."""
    lines = (json_text(row.to_json()) + "\n" for row in rows)
    return "".join(lines).encode()


def encoded(lines: bytes, form: str) -> bytes:
    """JSON lines as the bytes of a shard's file; the same lines always give the same bytes."""
    if form == "jsonl":
        return lines
    import pyarrow.parquet

    records = [in_columns(json.loads(line)) for line in lines.splitlines()]
    held = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records, schema=schema(records)), held)
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


def has_film(record: Mapping[str, Any]) -> bool:
    """Whether a row says what the films show, why it needs review, or where a sentence comes from."""
    return not {"findings", "doubts", "review"}.isdisjoint(record) or any(
        "reason" in one or "source" in one for one in record["sentences"]
    )


def schema(records: Sequence[Mapping[str, Any]]) -> "pyarrow.Schema":
    """The columns of a Parquet shard, also where all values of one are empty.

    Those of `has_film` and further members of the provenance are there where a record has them. A model with a finding
    head has the first in every shard that has a report.
    """
    import pyarrow as pa

    film = any(map(has_film, records))
    text, number = pa.string(), pa.float64()
    sentence = {"text": text, "tokens": pa.int64(), "logprob": number, "agreement": number, "confidence": number,
                "needs_review": pa.bool_()}  # fmt: skip
    finding = {"name": text, "probability": number, "interval": pa.list_(number), "verdict": text}
    doubt = {"film": pa.int64(), "kind": text, "reason": text}
    shown = {"findings": pa.list_(pa.struct(finding)), "doubts": pa.list_(pa.struct(doubt)), "review": pa.list_(text)}
    sentence |= {"reason": text, "source": text} if film else {}
    parts, hashes = ("model", "vision_model", "lm_model"), ("model_sha256", "delta_sha256", "calibration_sha256")
    further = (name for record in records for name in record["provenance"] if name != "inputs")
    names = dict.fromkeys((*parts, *hashes, "decode", "versions", *further), text)
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
            **(shown if film else {}),
            "provenance": pa.struct({**names, "inputs": inputs}),
            "error": pa.struct({"kind": text, "message": text}),
        }
    )


@dataclass(frozen=True)
class ShardSummary:
    """What a shard holds in short: the ids of its rows in order, kinds of failures, and the first failed studies."""

    ids: tuple[str, ...]
    failed: Counter[str]
    examples: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "ShardSummary":
        """The summary of a shard's records."""
        found = [(record["id"], record["error"]) for record in records]
        failed = [(name, error) for name, error in found if error is not None]
        examples = tuple((name, error["message"]) for name, error in failed[:MOST_EXAMPLES])
        return cls(tuple(name for name, _ in found), Counter(error["kind"] for _, error in failed), examples)


@dataclass
class Totals:
    """What the shards hold so far: rows, failures by kind, some failed studies with their messages."""

    rows: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, shard: ShardSummary) -> None:
        """Count a shard."""
        self.rows += len(shard.ids)
        self.failed += shard.failed
        self.examples += shard.examples[: MOST_EXAMPLES - len(self.examples)]


def read_shard(path: Path, form: str) -> tuple[ShardSummary, str]:
    """What a shard's file holds, and its SHA-256.

    Raises:
        ValueError: it is damaged.
    """
    try:
        data = path.read_bytes()
        return ShardSummary.of(decoded(data, form)), hashlib.sha256(data).hexdigest()
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise ValueError(f"{path.name}: {type(error).__name__}") from None


def shard_path(output: Path, number: int, form: str) -> Path:
    """Where a shard lies, or will."""
    return output / FOLDER / f"part-{number:06d}.{form}"


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that survives the machine's end: temporary name, fsync, rename, fsync of the directory.

    Raises:
        RunError: it cannot be written (a full disk); nothing is left of it then.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # where its folder is none there is nothing to remove
            temporary.unlink()
        hint = ": free some space, then start the same command again" if error.errno == errno.ENOSPC else ""
        raise RunError(f"`output` {path}: {error.strerror or error}{hint}") from None


def missing_shards(output: Path, form: str, wanted: Iterable[Sequence[str]], totals: Totals) -> Iterator[int]:
    """The numbers of shards that are not there, or are not whole; the others are counted into `totals`.

    Args:
        output: the run's directory.
        form: of its shards.
        wanted: the ids of each shard's studies in order.
        totals: changed.
    """
    for number, ids in enumerate(wanted):
        path = shard_path(output, number, form)
        if path.exists():
            try:
                found, _ = read_shard(path, form)
            except ValueError as error:
                log.info("%s is damaged and is written anew", error)
            else:
                if found.ids == tuple(ids):
                    totals.add(found)
                    continue
                log.info("%s holds other studies and is written anew", path.name)
        yield number


def sweep(output: Path, form: str, shards: int) -> None:
    """Remove what killed writers left, and shards that the plan has not."""
    keep = {shard_path(output, number, form).name for number in range(shards)}
    others = (path for path in (output / FOLDER).glob("part-*") if path.name not in keep)
    for path in (*output.glob(".*.part"), *(output / FOLDER).glob(".*.part"), *others):
        if not path.is_dir():  # no run makes one
            path.unlink(missing_ok=True)


def read_origin(output: Path) -> dict[str, Any]:
    """What the first shard was made with, from origin.json.

    Raises:
        InputError: it is missing, or cannot be read.
    """
    try:
        return dict(json.loads((output / ORIGIN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        words = f"{ORIGIN} cannot be read ({getattr(error, 'strerror', None) or error}): start anew elsewhere"
        raise InputError(words, field="output", value=output) from None


def write_manifest(output: Path, form: str, shards: int) -> Totals:
    """Write manifest.json over all shards, which says that the run is complete; gives what they hold.

    It has the plan (settings, hash of the listing) and each shard's hash and counts, and no time of day.

    Raises:
        RunError: a shard has gone, or was changed, since it was written.
    """
    plan, origin = json.loads((output / "plan.json").read_text(encoding="utf-8")), read_origin(output)
    totals, records = Totals(), []
    for number in range(shards):
        path = shard_path(output, number, form)
        try:
            found, sha256 = read_shard(path, form)
        except ValueError:
            words = f"{path.name} was taken away or changed since it was written"
            raise RunError(f"`output` {output}: {words}: start the same command again to go on") from None
        totals.add(found)
        failed = dict(sorted(found.failed.items()))
        records.append({"file": f"{FOLDER}/{path.name}", "sha256": sha256, "rows": len(found.ids), "failed": failed})
    counts = {"rows": totals.rows, "failed": dict(sorted(totals.failed.items()))}
    content = {**plan, "origin": origin, **counts, "shards": records}
    write_whole(output / MANIFEST, [json_text(content, indent=1, ascii_only=True).encode() + b"\n"])
    return totals
