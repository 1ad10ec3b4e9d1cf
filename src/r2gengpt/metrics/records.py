"""What scoring gives: a signature, values with intervals, baseline rows, what a reader must know. Scores nothing."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from r2gengpt.errors import InputError, spelt
from r2gengpt.metrics.families import MetricFamily, family_details, shown_names
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.verdict import Verdict

_FORM = re.compile(r"([^|]*)\|ds:([^|]*)\|tok:([^|]*)\|cut:([^|]*)\|unk:([^|]*)\|v(\d{1,9})")


@dataclass(frozen=True)
class Signature:
    """The choices that move a score.

    `dataset` is whose cleaner was used (none: no cleaner), `tokens` how words are found, `cut` where references end
    and `unknown` which words became `<unk>`. `version` is the protocol's: it rises when a rule changes.
    """

    protocol: str
    dataset: str
    tokens: str
    cut: str
    unknown: str
    version: int

    def __str__(self) -> str:
        return f"{self.protocol}|ds:{self.dataset}|tok:{self.tokens}|cut:{self.cut}|unk:{self.unknown}|v{self.version}"

    @classmethod
    def parse(cls, text: str, source: str) -> "Signature":
        """The signature that a line shows.

        Raises:
            InputError: `source` holds another form of line.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise InputError(f"{source}: {text[:60]!r} is no signature of this program")
        protocol, dataset, tokens, cut, unknown, version = (str(part) for part in found.groups())
        return cls(protocol, dataset, tokens, cut, unknown, int(version))


def check_comparable(first: Signature, second: Signature) -> None:
    """Refuse to compare two scores that were measured differently.

    Raises:
        InputError: the signatures differ; names each choice with both values.
    """
    ours, theirs = asdict(first), asdict(second)
    differ = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differ:
        raise InputError(f"scores {first} and {second} can't be compared: {', '.join(differ)}")


@dataclass(frozen=True)
class Score:
    """A metric's value and its 95 % interval (None: not resampled, or one study)."""

    value: float
    ci95: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"value": …, "ci95": [low, high]}`, without the interval where there is none."""
        return {"value": self.value} | ({} if self.ci95 is None else {"ci95": list(self.ci95)})


@dataclass(frozen=True)
class BaselineScores:
    """A baseline: what its texts are, and its scores by metric."""

    text: str
    metrics: Mapping[str, Score]


@dataclass(frozen=True)
class Scores:
    """The scores of one set of predictions.

    `per_study` holds for each metric an array in the order of `ids`; `columns` (S, C) are the statistics of `families`,
    which comparing needs; `==` leaves these three out. `verdict` is how the model
    stands to the baselines. `distinct` counts different outputs,
    `commonest_share` is the share of the commonest one; `verbatim_in_train` the share of studies whose reference is in
    the train split word for word (None: train split not given). `grounding_gap` is each score minus the score with the
    images shuffled between studies (None: the model did not write for shuffled images); `patients` is how many were
    resampled (None: studies were). `confidence` is what is known of the sentences' confidence, as scores.json has it.
    `findings` holds head and text against what is known of the films (None: nothing is; scores.json has no such entry).
    """

    signature: Signature
    ids: tuple[str, ...]
    metrics: Mapping[str, Score]
    per_study: Mapping[str, Floats] = field(repr=False, compare=False)
    families: tuple[MetricFamily, ...] = field(repr=False, compare=False)
    columns: Floats = field(repr=False, compare=False)
    baselines: Mapping[str, BaselineScores]
    verdict: Verdict
    distinct: int
    commonest_share: float
    collapsed: bool
    verbatim_in_train: float | None
    not_available: Mapping[str, str]
    grounding_gap: Mapping[str, Difference] | None
    notes: tuple[str, ...]
    resamples: int
    seed: int
    patients: int | None = None
    confidence: Mapping[str, Any] | None = None
    findings: Mapping[str, Any] | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that tables show."""
        return shown_names(self.families)

    def spelt(self, spell: Callable[[str], str] = str) -> "Scores":
        """The same, with settings in reasons and notes as an interface names them (`errors.spelt`)."""
        reasons = {name: spelt(reason, spell) for name, reason in self.not_available.items()}
        return replace(self, not_available=reasons, notes=tuple(spelt(note, spell) for note in self.notes))

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "signature": str(self.signature),
            "n": len(self.ids),
            "verdict": self.verdict.to_json(),
            "metrics": _metrics_json(self.metrics),
            "baselines": {
                name: {"text": row.text, "metrics": _metrics_json(row.metrics)} for name, row in self.baselines.items()
            },
            "grounding_gap": (
                None
                if self.grounding_gap is None
                else {name: gap.to_json() for name, gap in self.grounding_gap.items()}
            ),
            **family_details(self.families, self.columns.sum(axis=0)),
            "outputs": {
                "distinct": self.distinct,
                "commonest_share": self.commonest_share,
                "collapsed": self.collapsed,
            },
            "confidence": None if self.confidence is None else dict(self.confidence),
            **({} if self.findings is None else {"findings": dict(self.findings)}),
            "references_verbatim_in_train": self.verbatim_in_train,
            "not_available": dict(self.not_available),
            "notes": list(self.notes),
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "by": "study" if self.patients is None else "patient",
                "patients": self.patients,
            },
        }


def _metrics_json(metrics: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_json() for name, score in metrics.items()}
