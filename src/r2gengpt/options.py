"""How a setting is declared, checked and overridden, as a field of a frozen dataclass. Names no setting."""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import ge, gt, le
from typing import Any, Generic, TypeVar

from r2gengpt.errors import InputError

T = TypeVar("T")
LARGEST = 2**63 - 1
"""The largest whole number that PyTorch takes."""


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    here: bool = False,
    unit: str | None = None,
) -> Any:
    """A dataclass field with its help text, its allowed words, or its range (`low`/`high` inclusive, `above` not).

    `here` marks what belongs to this machine or its user: a checkpoint never holds it (`kept_names`).
    `unit` is what a value counts or names, as help shows it: SECONDS, TOKENS, DIR.
    """
    limits = {"choices": choices, "low": low, "above": above, "high": high}
    return field(default=default, metadata={"help": help, "here": here, "unit": unit, **limits})


def _is_of(value: Any, hint: Any) -> bool:
    """True where a value has the type of a field's annotation; a whole number is a float too, True is no number."""
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(item, typing.get_args(hint)[0]) for item in value)
    wanted = (int, float) if hint is float else hint
    return isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))


def check_fields(config: Any) -> None:
    """Check each field of a dataclass instance against its type and its metadata.

    Raises:
        InputError: the first value of another type or out of its range or words, with the flag's name and the limit.
    """
    hints = typing.get_type_hints(type(config))
    for f in fields(config):
        value, meta, hint = getattr(config, f.name), f.metadata, hints[f.name]
        if not _is_of(value, hint):
            kind = hint if typing.get_args(hint) else hint.__name__
            raise InputError(f"must be of type {kind}", field=f.name, value=repr(value))
        if value is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            if meta.get("choices"):
                check_choice(one, meta["choices"], f.name)
            if isinstance(one, float) and not math.isfinite(one):
                raise InputError("must be a finite number", field=f.name, value=one)
            if isinstance(one, int) and abs(one) > LARGEST:
                raise InputError(f"must be at most {LARGEST}", field=f.name, value=one, limit=LARGEST)
            if isinstance(one, str) and "\0" in one:
                raise InputError("holds a zero byte, which no path or text may", field=f.name, value=repr(one))
        for bound, compare, words in (("low", ge, "at least"), ("above", gt, "above"), ("high", le, "at most")):
            if meta.get(bound) is not None and not compare(value, meta[bound]):
                raise InputError(f"must be {words} {meta[bound]}", field=f.name, value=value, limit=meta[bound])


@dataclass(frozen=True)
class Checked:
    """Settings whose fields are checked as they are made; one with more rules calls `check_fields` first itself."""

    def __post_init__(self) -> None:
        check_fields(self)


def check_choice(value: object, words: Sequence[str], field: str) -> None:
    """Refuse what is none of some words.

    Raises:
        InputError: so it is.
    """
    if value not in words:
        limit = ", ".join(word or "''" for word in words)
        raise InputError(f"choose from {limit}", field=field, value=str(value), limit=limit)


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the most similar known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


@dataclass(frozen=True)
class Override(Generic[T]):
    """Those fields of a settings class that somebody has set; the others are open.

    Attributes:
        kind: the settings class.
        values: field → value.
    """

    kind: type[T]
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: type[T], values: Mapping[str, Any]) -> "Override[T]":
        """The share of a class in values of several classes."""
        names = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # a dataclass
        return cls(kind, {name: values[name] for name in names if name in values})

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def under(self, other: "Override[T]") -> "Override[T]":
        """Both together; where both have a field, the other one's value counts."""
        return Override(self.kind, {**self.values, **other.values})

    def settled(self) -> T:
        """The settings, open fields by default.

        Raises:
            InputError: a value is refused, or another value overrules it (`alignment` does so).
        """
        made = self.kind(**self.values)
        for name, value in self.values.items():
            if getattr(made, name) != value:
                raise InputError(f"another setting makes it {getattr(made, name)}", field=name, value=value)
        return made
