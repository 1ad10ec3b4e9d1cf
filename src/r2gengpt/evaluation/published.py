"""Figures that others published, each with its source and what is known of how it was measured. Scores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from r2gengpt.data.labels import is_number
from r2gengpt.data.strict import parsed_json, read_json
from r2gengpt.errors import InputError
from r2gengpt.metrics.records import Signature

TEXTS = ("name", "source", "read_from", "dataset", "split", "protocol")


@dataclass(frozen=True)
class Published:
    """One system's published scores.

    Attributes:
        name: of the system.
        source: who published them, and where.
        read_from: where the figures were read.
        dataset: they are of.
        split: of the data set.
        n: studies; None: not told.
        signature: ours, where what is known of the measuring equals it; None: it is not known, or is another.
        protocol: what the signature rests on, or why there is none.
        metrics: score by name.
    """

    name: str
    source: str
    read_from: str
    dataset: str
    split: str
    protocol: str
    n: int | None
    signature: Signature | None
    metrics: Mapping[str, float]


def read_published(path: Path | None = None) -> tuple[Published, ...]:
    """The figures of a file, or those that come with the program.

    Raises:
        InputError: it cannot be read, or an entry is wrong; names the entry and the field.
    """
    if path is None:
        text = resources.files("r2gengpt.evaluation").joinpath("published.json").read_text(encoding="utf-8")
        content, where = parsed_json(text, "published.json"), "published.json"
    else:
        where = f"`published` {path}"
        content = read_json(path, where)
    if not isinstance(content, list):
        raise InputError(f"{where}: must hold a list of figures")
    return tuple(_figure(value, f"{where}: figure {number}") for number, value in enumerate(content, 1))


def _figure(value: Any, where: str) -> Published:
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be an object")
    for key in TEXTS:
        if not isinstance(value.get(key), str) or not value[key].strip():
            raise InputError(f"{where}: {key} is {str(value.get(key))[:60]}: must be a text")
    n, signature, metrics = value.get("n"), value.get("signature"), value.get("metrics")
    if n is not None and (type(n) is not int or n < 1):
        raise InputError(f"{where}: n is {str(n)[:60]}: must be a number of studies or null")
    if not isinstance(metrics, dict) or not metrics or not all(map(is_number, metrics.values())):
        raise InputError(f"{where}: metrics is {str(metrics)[:60]}: must be numbers by name")
    if signature is not None and not isinstance(signature, str):
        raise InputError(f"{where}: signature is {str(signature)[:60]}: must be a text or null")
    return Published(
        **{key: value[key] for key in TEXTS},
        n=n,
        signature=None if signature is None else Signature.parse(signature, where),
        metrics={name: float(score) for name, score in metrics.items()},
    )
