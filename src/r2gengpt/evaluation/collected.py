"""Scores of several tests side by side, and published figures beside those measured alike. Scores nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gengpt.data.labels import is_number
from r2gengpt.data.strict import read_json_object
from r2gengpt.errors import InputError
from r2gengpt.evaluation.published import Published
from r2gengpt.evaluation.results import scores_in
from r2gengpt.metrics.labels.family import LABEL_F1
from r2gengpt.metrics.records import Signature, check_comparable
from r2gengpt.metrics.spread import Spread

SUMMARY = "summary.json"
"""In the directory of runs of several seeds."""
COLUMNS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider", LABEL_F1)
"""The scores that stand beside each other."""


@dataclass(frozen=True)
class Ours:
    """Scores of one system of ours: of one test, or of the tests of several seeds."""

    name: str
    signature: Signature
    n: int
    metrics: dict[str, Spread]
    seeds: int = 1


@dataclass(frozen=True)
class Group:
    """Systems that were measured alike, on as many studies: ours, and those published figures that may stand beside."""

    signature: Signature
    n: int
    ours: tuple[Ours, ...]
    published: tuple[Published, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores that one of the systems has."""
        there = {name for one in self.ours for name in one.metrics}
        there |= {name for one in self.published for name in one.metrics}
        return tuple(name for name in COLUMNS if name in there)


@dataclass(frozen=True)
class SetApart:
    """A published figure that may not stand beside ours, and why."""

    figure: Published
    reason: str


@dataclass(frozen=True)
class Collected:
    """All of it."""

    groups: tuple[Group, ...]
    apart: tuple[SetApart, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "groups": [
                {
                    "signature": str(group.signature),
                    "n": group.n,
                    "ours": [
                        {"name": one.name, "seeds": one.seeds, "metrics": _spreads(one)} for one in group.ours
                    ],
                    "published": [
                        {"name": one.name, "source": one.source, "metrics": dict(one.metrics)}
                        for one in group.published
                    ],
                }
                for group in self.groups
            ],
            "apart": [
                {"name": one.figure.name, "source": one.figure.source, "reason": one.reason,
                 "metrics": dict(one.figure.metrics)}
                for one in self.apart
            ],
        }  # fmt: skip


def _spreads(one: Ours) -> dict[str, Any]:
    return {name: spread.to_json() for name, spread in one.metrics.items()}


def read_ours(path: Path, split: str) -> Ours:
    """What a path names: a scores.json, the directory of one, a run with results of the split, or runs of seeds.

    Raises:
        InputError: there are no such scores, or seeds were measured differently.
    """
    seeds = _seeds_of(path)
    if seeds is None:
        return _one(_scores_file(path, split), str(path))
    found = [_one(_scores_file(run, split), str(run)) for run in seeds]
    first = found[0]
    for other in found[1:]:
        check_comparable(first.signature, other.signature)
        if other.n != first.n:
            raise InputError(f"`results` {path}: {first.name} has {first.n} studies, {other.name} {other.n}")
    shared = [name for name in first.metrics if all(name in one.metrics for one in found)]
    spreads = {name: Spread.of([one.metrics[name].mean for one in found]) for name in shared}
    return Ours(str(path), first.signature, first.n, spreads, len(found))


def files_of(path: Path, split: str) -> list[Path]:
    """The files that `read_ours` reads.

    Raises:
        InputError: there are no such scores.
    """
    seeds = _seeds_of(path)
    return (
        [_scores_file(path, split)] if seeds is None else [path / SUMMARY, *(_scores_file(run, split) for run in seeds)]
    )


def _seeds_of(path: Path) -> list[Path] | None:
    """The runs of a directory of seeds, None where it is none."""
    summary = path / SUMMARY
    if not summary.is_file():
        return None
    seeds = read_json_object(summary, f"`results` {summary}").get("seeds")
    return [path / f"seed-{seed}" for seed in seeds] if isinstance(seeds, list) and seeds else None


def _scores_file(path: Path, split: str) -> Path:
    found = scores_in(path, split)
    if found is None:
        words = f"has no scores.json, nor has results-{split} in it: run r2gengpt test on it first"
        raise InputError(words, field="results", value=path)
    return found


def _one(file: Path, name: str) -> Ours:
    where = f"`results` {file}"
    content = read_json_object(file, where)
    n, metrics = content.get("n"), content.get("metrics")
    if type(n) is not int or n < 1 or not isinstance(metrics, dict) or not isinstance(content.get("signature"), str):
        raise InputError(f"{where}: holds no scores (signature, n, metrics)")
    values = {key: _value(score, f"{where}: {key}") for key, score in metrics.items()}
    return Ours(name, Signature.parse(content["signature"], where), n, values)


def _value(score: Any, where: str) -> Spread:
    value = score.get("value") if isinstance(score, dict) else None
    if not is_number(value):
        raise InputError(f"{where}: value is {str(value)[:60]}: must be a number")
    return Spread.of([float(value)])


def collected(ours: Sequence[Ours], published: Sequence[Published]) -> Collected:
    """Ours in groups of equal signature and number of studies, each with the published figures that fit."""
    keys = dict.fromkeys((one.signature, one.n) for one in ours)
    groups = tuple(
        Group(
            signature,
            n,
            tuple(one for one in ours if (one.signature, one.n) == (signature, n)),
            tuple(one for one in published if (one.signature, one.n) == (signature, n)),
        )
        for signature, n in keys
    )
    beside = {id(one) for group in groups for one in group.published}
    apart = tuple(SetApart(one, _why(one, ours)) for one in published if id(one) not in beside)
    return Collected(groups, apart)


def _why(figure: Published, ours: Sequence[Ours]) -> str:
    """Why a figure may not stand beside ours."""
    if figure.signature is None:
        return f"not known to be measured as ours: {figure.protocol}"
    same = [one.n for one in ours if one.signature == figure.signature]
    if same:
        studies = "not told" if figure.n is None else str(figure.n)
        return f"other studies: {studies}, ours {', '.join(map(str, dict.fromkeys(same)))}"
    return f"measured as {figure.signature}, ours as {', '.join(dict.fromkeys(str(one.signature) for one in ours))}"
