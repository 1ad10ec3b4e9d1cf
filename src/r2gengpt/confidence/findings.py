"""What the films of a study show, and what speaks against them: findings by the head's logits, doubts. Runs no model.

Findings are calibrated probabilities, intervals and verdicts. `training.scales` fits the scales on the validation
split; they lie beside the weights. Doubts are of the film guard, of view, age and writing.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from r2gengpt.confidence.film_guard import AGE, CUT_OFF, LATERAL, NO_CHEST, TILTED, WRITING
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import write_whole
from r2gengpt.films.facts import FilmFacts
from r2gengpt.report import Doubt, Finding, Report, chance
from r2gengpt.text.observations import (
    ALL_OBSERVATIONS,
    CHILD,
    LATERAL_VIEW,
    LIKELY,
    NO_FINDING,
    NOT_ASSESSED,
    OF_THE_FILM,
    POSSIBLE,
    SUPPORT_DEVICES,
    UNLIKELY,
)

FINDINGS = "findings.json"
SPREAD = 1.96
"""Standard deviations of a 95 % interval."""


@dataclass(frozen=True)
class Scale:
    """How the logit z of one observation is read.

    Attributes:
        name: the observation's.
        slope: a of the probability 1 / (1 + exp(-(a z + b))).
        intercept: b.
        variance: of a and b, (a, a), (a, b), (b, b).
        likely: logits of at least this are `LIKELY`.
        unlikely: logits below this are `UNLIKELY`.
        positives: how many validation studies showed it.
        negatives: how many did not.
        auc: area under the ROC curve there.
        auc_ci95: its 95 % interval, studies drawn anew; patients where they are known.
        assessed: whether the head tells it from chance.
        children: how many of the positives were children's; None where nothing told whose films they were.
    """

    name: str
    slope: float = 1.0
    intercept: float = 0.0
    variance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    likely: float = 0.0
    unlikely: float = 0.0
    positives: int = 0
    negatives: int = 0
    auc: float = 0.5
    auc_ci95: tuple[float, float] = (0.0, 1.0)
    assessed: bool = False
    children: int | None = None

    @property
    def adults_only(self) -> bool:
        """Whether all films that showed it were adults'; False where that is unknown."""
        return self.children == 0 and self.name not in OF_THE_FILM

    def finding(self, logit: float) -> Finding:
        """What a logit says."""
        middle = self.slope * logit + self.intercept
        aa, ab, bb = self.variance
        half = SPREAD * math.sqrt(max(0.0, aa * logit * logit + 2 * ab * logit + bb))
        verdict = LIKELY if logit >= self.likely else UNLIKELY if logit < self.unlikely else POSSIBLE
        return Finding(
            self.name,
            sigmoid(middle),
            (sigmoid(middle - half), sigmoid(middle + half)),
            verdict if self.assessed else NOT_ASSESSED,
        )


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


BESIDE = (SUPPORT_DEVICES, *OF_THE_FILM)
"""What a film that shows no finding may show."""
UNFITTED = tuple(Scale(name, assessed=True) for name in ALL_OBSERVATIONS)
"""Before anything was fitted: logits as they are, likely from a half on."""


def findings_of(logits: Sequence[float], scales: Sequence[Scale]) -> tuple[Finding, ...]:
    """The findings of one study, in the order of the observations.

    A child's film is not assessed for what no child of the validation split had: its scale was fitted to adults.
    No film is likely to be both normal and abnormal.

    Raises:
        RunError: a logit is no number, which no verdict can be made of.
    """
    if any(map(math.isnan, logits)):
        raise RunError("the finding head's logits are no numbers: weights of the encoder or the head are damaged")
    findings = tuple(scale.finding(float(logit)) for scale, logit in zip(scales, logits, strict=True))
    if any(finding.name == CHILD and finding.verdict == LIKELY for finding in findings):
        findings = tuple(
            replace(finding, verdict=NOT_ASSESSED) if scale.adults_only else finding
            for finding, scale in zip(findings, scales, strict=True)
        )
    return coherent(findings)


def coherent(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings without a verdict against another: a film is not likely normal and likely abnormal at once.

    Each threshold is fitted alone, so that a film can be above both. What is less probable is then possible.
    """
    likely = [finding for finding in findings if finding.verdict == LIKELY and finding.name not in BESIDE]
    normal = [finding for finding in likely if finding.name == NO_FINDING]
    abnormal = [finding for finding in likely if finding.name != NO_FINDING]
    if not normal or not abnormal:
        return tuple(findings)
    is_normal = normal[0].probability >= max(finding.probability for finding in abnormal)
    demoted = abnormal if is_normal else normal
    return tuple(replace(finding, verdict=POSSIBLE) if finding in demoted else finding for finding in findings)


def write_scales(directory: Path, scales: Sequence[Scale]) -> None:
    """Put the scales beside the weights."""
    content = {"version": 1, "scales": [asdict(scale) for scale in scales]}
    write_whole(directory / FINDINGS, json.dumps(content, indent=1) + "\n")


def read_scales(directory: Path, field: str) -> tuple[Scale, ...]:
    """The scales beside a head's weights.

    Raises:
        InputError: there are none, or the file is damaged.
    """
    path = directory / FINDINGS
    try:
        records: Sequence[Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))["scales"]
        scales = tuple(scale_of(record) for record in records)
    except FileNotFoundError:
        raise InputError(f"its finding head has no {FINDINGS}", field=field, value=directory) from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError) as error:
        raise InputError(f"{FINDINGS} is damaged: {error}", field=field, value=directory) from None
    if tuple(scale.name for scale in scales) != ALL_OBSERVATIONS:
        raise InputError(f"{FINDINGS} is not of this program's observations", field=field, value=directory)
    return scales


def scale_of(record: Mapping[str, object]) -> Scale:
    """A scale as `write_scales` keeps it.

    Raises:
        TypeError: other fields.
        ValueError: no numbers.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    scale = Scale(**values)  # type: ignore[arg-type]  # looked at below
    numbers = (scale.slope, scale.intercept, *scale.variance, scale.likely, scale.unlikely, scale.children or 0)
    if not isinstance(scale.name, str) or len(scale.variance) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"scale of {scale.name}")
    return scale


def verdicts_of(findings: Sequence[Finding]) -> dict[str, str]:
    """The verdicts by observation, as a hint takes them."""
    return {finding.name: finding.verdict for finding in findings}


MANY = 10
"""Characters of writing that may name somebody; PORTABLE, SUPINE and the like are fewer."""
AS_LATERAL = (NO_CHEST, TILTED, CUT_OFF)
"""What a lateral film may look like to the guard."""
ADULT, YOUNG = 18.0, 6.0
"""Years: a film of somebody as old looks like no child's, and of somebody younger than `YOUNG` it does."""

Check = Callable[[Sequence[Doubt]], None]
"""Gets the doubts about a study's films before its report is written; may refuse them by an `InputError`."""


@dataclass(frozen=True)
class Sight:
    """What the films of one study show, and what speaks against them."""

    findings: tuple[Finding, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    compared: bool = False
    """Whether its report is written beside an earlier study."""
    logits: tuple[float, ...] = ()
    """Of the finding head, one an observation; empty without a head."""

    def on(self, report: Report) -> Report:
        """A report with it."""
        return replace(report, findings=self.findings, doubts=self.doubts, compared=self.compared)

    def with_facts(self, facts: Sequence[FilmFacts]) -> "Sight":
        """With the doubts that the films' facts raise."""
        return replace(self, doubts=all_doubts(self.findings, self.doubts, facts))


def all_doubts(findings: Sequence[Finding], doubts: Sequence[Doubt], facts: Sequence[FilmFacts]) -> tuple[Doubt, ...]:
    """Doubts with those that findings and facts raise; nobody's age is read off a film that shows no chest.

    A lateral film may be strange, tilted or cut off to a model that knows frontal ones, and is called lateral.
    """
    lateral = {doubt.film: doubt for doubt in _of_view(findings, facts)}
    doubts = tuple(
        lateral.pop(doubt.film, doubt) if doubt.kind in AS_LATERAL and not doubt.refused else doubt for doubt in doubts
    )
    strange = {doubt.film for doubt in doubts if doubt.kind == NO_CHEST}
    further = (doubt for doubt in (*lateral.values(), *_of_age(findings, facts)) if doubt.film not in strange)
    return tuple(dict.fromkeys((*doubts, *further, *_of_writing(facts))))


def _of_view(findings: Sequence[Finding], facts: Sequence[FilmFacts]) -> Iterator[Doubt]:
    """Where the only film of a study is lateral."""
    lateral = next((finding for finding in findings if finding.name == LATERAL_VIEW), None)
    if lateral is not None and lateral.verdict == LIKELY and len(facts) == 1:
        yield Doubt(1, LATERAL, f"looks lateral ({chance(lateral.probability)}): a report needs a frontal one")


def _of_age(findings: Sequence[Finding], facts: Sequence[FilmFacts]) -> Iterator[Doubt]:
    """Where the patient's age as the head sees it is not what the header says."""
    child = next((finding for finding in findings if finding.name == CHILD), None)
    for film, one in enumerate(facts, 1):
        if child is None or one.years is None:
            continue
        if one.years >= ADULT and child.verdict == LIKELY:
            known = f"({chance(child.probability)}), and its header tells an age of {one.years:.0f} years"
            yield Doubt(film, AGE, f"looks like a child's {known}")
        if one.years < YOUNG and child.verdict == UNLIKELY:
            known = f"({chance(1 - child.probability)}), and its header tells an age of {one.years:.0f} years"
            yield Doubt(film, AGE, f"looks like an adult's {known}")


def _of_writing(facts: Sequence[FilmFacts]) -> Iterator[Doubt]:
    for film, one in enumerate(facts, 1):
        if one.characters >= MANY:
            words = f"has writing in its picture, {one.characters} characters or so: it may name the patient"
            yield Doubt(film, WRITING, words)


def check_shows_chest(doubts: Sequence[Doubt], facts: Sequence[FilmFacts]) -> None:
    """Refuse a study with a film that is far from all chest films.

    Args:
        doubts: about its films.
        facts: of the films.

    Raises:
        InputError: names the first such film.
    """
    for doubt in doubts:
        if doubt.refused:
            words = f"image {facts[doubt.film - 1].name}: {doubt.words} (`force` reads it all the same)"
            raise InputError(words, field="force")
