"""Whether recent films, drafts and verdicts are like those of a reference period, by named tests. Judges no model.

Two things make an alarm: the change is large (population stability index) and chance does not explain it (a two-sample
test, corrected by Holm over all that is compared). The index alone grows as drafts get few; the test alone finds
changes of no matter where drafts are many.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS
from r2gengpt.verdicts.findings import present
from r2gengpt.verdicts.record import HEAD
from r2gengpt.verdicts.review import samples
from r2gengpt.verdicts.review.drafts import GROUPS, JudgedDraft, accepted
from r2gengpt.verdicts.review.shares import Proportion

FEWEST = 30
"""Drafts that each period needs, of those in which the thing is known."""
SOME, LARGE = 0.1, 0.25
"""Limits of the population stability index: below, no change; above, a large one. Of distinct texts: of their share."""
LEVEL = 0.05
"""Of all tests together."""
RARE = 0.05
"""Kinds below this share of both periods are counted together."""
OTHERS = "others"
INPUTS, OUTPUTS, READERS = "films", "drafts", "readers"
SMIRNOV = "Kolmogorov-Smirnov"
CHI_SQUARE = "chi-square by permutation"
REPEATS = "permutation of texts"

Value = float | str | bool | None
Reading = Callable[[JudgedDraft], Value]


class Alarm(StrEnum):
    """What a comparison comes to."""

    ALARM = "alarm"
    WATCH = "watch"
    NONE = "no change"
    TOO_FEW = "too few to tell"


@dataclass(frozen=True)
class Drift:
    """One thing in both periods.

    Attributes:
        name: of the thing.
        of: films, drafts or readers.
        sizes: drafts of either period in which it is known.
        values: what either period has, in words.
        test: the test's name.
        change: the population stability index, or of distinct texts the change of their share; None where too few.
        p: of the test.
        p_holm: corrected over all tests of a review.
        alarm: what it comes to.
    """

    name: str
    of: str
    sizes: tuple[int, int]
    values: tuple[str, str]
    test: str
    change: float | None = None
    p: float | None = None
    p_holm: float | None = None
    alarm: Alarm = Alarm.TOO_FEW

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        rounded = {name: None if value is None else round(value, 6) for name, value in
                   {"change": self.change, "p": self.p, "p_holm": self.p_holm}.items()}  # fmt: skip
        return {"name": self.name, "of": self.of, "sizes": list(self.sizes), "told": list(self.values),
                "test": self.test, **rounded, "alarm": str(self.alarm)}  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """What is compared: a name, what it belongs to, and how it is read of a draft (None where it is not known)."""

    name: str
    of: str
    read: Reading


@dataclass(frozen=True)
class Drifts:
    """What was compared, and the names of what is the same in every draft of both periods."""

    compared: tuple[Drift, ...]
    constant: tuple[str, ...]


def drifts(reference: Sequence[JudgedDraft], recent: Sequence[JudgedDraft]) -> Drifts:
    """All that is known of any draft of both periods, compared; what is not known of any is left out."""
    found, constant = [], []
    for thing in things([*reference, *recent]):
        ours, theirs = ([value for draft in some if (value := thing.read(draft)) is not None]
                        for some in (reference, recent))  # fmt: skip
        is_lost = bool(reference and not ours) or bool(recent and not theirs)
        if len({*ours, *theirs}) == 1 and not is_lost:
            constant.append(thing.name)
        elif ours or theirs:
            found.append(_compare(thing, ours, theirs))
    texts = tuple([draft.text for draft in some] for some in (reference, recent))
    if any(texts):
        found.append(_distinct(*texts))
    return Drifts(judge(found), tuple(constant))


def judge(found: Sequence[Drift]) -> tuple[Drift, ...]:
    """The comparisons with Holm's correction, and what each comes to."""
    tested = [at for at, one in enumerate(found) if one.p is not None]
    corrected = dict(zip(tested, samples.holm([float(found[at].p or 0.0) for at in tested]), strict=True))
    made = []
    for at, one in enumerate(found):
        if at in corrected and one.change is not None:
            sure, size = corrected[at] < LEVEL, abs(one.change)
            alarm = Alarm.ALARM if sure and size >= LARGE else Alarm.WATCH if sure and size >= SOME else Alarm.NONE
            made.append(replace(one, p_holm=corrected[at], alarm=alarm))
        else:
            made.append(one)
    return tuple(made)


def things(drafts: Sequence[JudgedDraft]) -> Iterator[Compared]:
    """What is compared, as far as any of the drafts has it."""
    yield from (Compared(name, INPUTS, _group(name)) for name in GROUPS)
    features = dict.fromkeys(name for draft in drafts for name in draft.features)
    for name in features:
        shown = f"finding head: {name.removeprefix(HEAD)}" if name.startswith(HEAD) else name
        yield Compared(shown, INPUTS, _feature(name))
    yield Compared("words", OUTPUTS, lambda draft: float(draft.words))
    yield Compared("sentences", OUTPUTS, lambda draft: float(draft.sentences))
    yield Compared("normal drafts", OUTPUTS, _says_normal)
    yield Compared("drafts that need review", OUTPUTS, lambda draft: draft.needs_review)
    yield from (Compared(f"drafts with {name.lower()}", OUTPUTS, _names(name))
                for name in OBSERVATIONS if name != NO_FINDING)  # fmt: skip
    yield Compared("accepted unchanged", READERS, accepted)
    yield Compared("words changed", READERS, _words_changed)
    yield Compared("seconds to the verdict", READERS, lambda draft: draft.seconds)


def _group(name: str) -> Reading:
    return lambda draft: draft.groups[name] or None


def _feature(name: str) -> Reading:
    return lambda draft: None if name not in draft.features else float(draft.features[name])


def _names(name: str) -> Reading:
    return lambda draft: None if draft.before is None else name in present(draft.before)


def _says_normal(draft: JudgedDraft) -> bool | None:
    return None if draft.before is None else NO_FINDING in present(draft.before)


def _words_changed(draft: JudgedDraft) -> float | None:
    return None if draft.words_changed is None else float(draft.words_changed)


def _compare(thing: Compared, ours: Sequence[Any], theirs: Sequence[Any]) -> Drift:
    """The values of one thing in both periods, by their type."""
    sample = (*ours, *theirs)[0]
    if isinstance(sample, float):
        return _numbers(thing, np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64))
    if isinstance(sample, bool):
        counts: list[tuple[int, ...]] = [(sum(values), len(values) - sum(values)) for values in (ours, theirs)]
        words = str(Proportion(counts[0][0], len(ours))), str(Proportion(counts[1][0], len(theirs)))
    else:
        counts, words = _kinds(ours, theirs), (_commonest(ours), _commonest(theirs))
    drift = Drift(thing.name, thing.of, (len(ours), len(theirs)), words, CHI_SQUARE)
    if min(drift.sizes) < FEWEST:
        return drift
    first, second = counts
    return replace(drift, change=samples.stability_index(first, second), p=samples.chi_square_by_draws(first, second))


def _numbers(thing: Compared, ours: samples.Floats, theirs: samples.Floats) -> Drift:
    drift = Drift(thing.name, thing.of, (len(ours), len(theirs)), (_middle(ours), _middle(theirs)), SMIRNOV)
    if min(len(ours), len(theirs)) < FEWEST:
        return drift
    change = samples.stability_index(*samples.binned(ours, theirs))
    return replace(drift, change=change, p=samples.kolmogorov_smirnov(ours, theirs))


def _distinct(ours: Sequence[str], theirs: Sequence[str]) -> Drift:
    """How many distinct texts as many drafts of either period have: a model that collapses writes one text for all."""
    size = min(len(ours), len(theirs))
    counts = [np.asarray(list(Counter(texts).values()), dtype=np.int64) for texts in (ours, theirs)]
    if size < FEWEST:
        words = tuple(f"{len(one)} of {int(one.sum())}" for one in counts)
        return Drift("distinct texts", OUTPUTS, (len(ours), len(theirs)), (words[0], words[1]), REPEATS)
    kinds = [samples.distinct_of(one, size) for one in counts]
    first, second = (f"{kind:.0f} of {size}" for kind in kinds)
    p = samples.repeats_by_draws(ours, theirs)
    change = (kinds[1] - kinds[0]) / size
    return Drift("distinct texts", OUTPUTS, (len(ours), len(theirs)), (first, second), REPEATS, change, p)


def _kinds(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, ...]]:
    """Counts of each kind in both, rare ones together."""
    first, second = Counter(ours), Counter(theirs)
    names = sorted({*first, *second})
    common = [n for n in names if first[n] >= RARE * len(ours) or second[n] >= RARE * len(theirs)]
    rest = [(len(values) - sum(one[n] for n in common)) for one, values in ((first, ours), (second, theirs))]
    return [(*(one[n] for n in common), *([left] if any(rest) else []))
            for one, left in zip((first, second), rest, strict=True)]  # fmt: skip


def _commonest(values: Sequence[str]) -> str:
    """The three commonest kinds with their shares, and the rest together."""
    if not values:
        return "none"
    counts = Counter(values).most_common(3)
    parts = [f"{name} {count / len(values) * 100:.0f} %" for name, count in counts]
    rest = len(values) - sum(count for _, count in counts)
    return ", ".join([*parts, *([f"{OTHERS} {rest / len(values) * 100:.0f} %"] if rest else [])])


def _middle(values: samples.Floats) -> str:
    """Median and quartiles."""
    if not len(values):
        return "none"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]".replace("-", "−")
