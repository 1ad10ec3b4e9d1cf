"""A review of verdicts as tables, tiles, plots and lines for a terminal. Counts nothing itself, writes no HTML."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date

from markupsafe import Markup

from r2gengpt.evaluation.page.scores import ShownCell, ShownRow, ShownTable, Tile
from r2gengpt.evaluation.page.timeline import Moment, share_over_time
from r2gengpt.verdicts.review import drift as drifting
from r2gengpt.verdicts.review import groups
from r2gengpt.verdicts.review.drift import Alarm, Drift
from r2gengpt.verdicts.review.groups import Grouping, Subgroup
from r2gengpt.verdicts.review.periods import Period
from r2gengpt.verdicts.review.review import Review
from r2gengpt.verdicts.review.shares import Outcomes, Proportion

KINDS_OF_DRIFT = {
    drifting.INPUTS: "Films: what comes in",
    drifting.OUTPUTS: "Drafts: what the model writes",
    drifting.READERS: "Readers: what becomes of drafts",
}
"""What is compared → the caption of its table."""
NEWEST = 6
"""Weeks or months whose numbers stand beside the plot."""
LOOKS = {Alarm.ALARM: "bad", Alarm.WATCH: "watch", Alarm.TOO_FEW: "none", Alarm.NONE: ""}


def review_lines(review: Review) -> list[str]:
    """What a terminal shows: the first sentence, and each alarm with both periods."""
    lines = [review.headline]
    for one in review.drifts.compared:
        if one.alarm in (Alarm.ALARM, Alarm.WATCH):
            lines.append(f"{one.alarm}: {one.name}: {one.values[0]} before, {one.values[1]} now ({_sure(one)})")
    lines += [line for one in review.groupings if (line := differs(one))]
    return lines


def differs(grouping: Grouping) -> str:
    """Whether acceptance differs between subgroups, where that is so."""
    if grouping.p_holm is None or grouping.p_holm >= drifting.LEVEL:
        return ""
    return f"acceptance differs by {grouping.name} ({chance_words(grouping.p_holm)})"


def chance_words(p: float) -> str:
    """A p as it is read, of Holm's correction."""
    return f"p {p:.3f}" if p >= 0.001 else "p < .001"


def _sure(one: Drift) -> str:
    return f"{_change(one)}, {chance_words(1.0 if one.p_holm is None else one.p_holm)}"


def _change(one: Drift) -> str:
    """How much changed, by its name."""
    assert one.change is not None
    name = "share" if one.test == drifting.REPEATS else "PSI"
    return f"{name} {one.change:+.2f}".replace("-", "−") if name == "share" else f"{name} {one.change:.2f}"


def tiles(review: Review) -> list[Tile]:
    """The numbers that a reader looks for first."""
    found = review.whole.outcomes
    shares = {"accepted unchanged": found.accepted, "edited": found.edited, "rejected": found.rejected}
    made = [
        Tile(name, f"{one.value * 100:.0f} %", f"{drafts_words(one.count)}, {_ends(one)}")
        for name, one in shares.items()
    ]
    if review.whole.distance is not None:
        made.append(Tile("words changed in 100", f"{review.whole.distance:.1f}", "of accepted and edited drafts"))
    low, middle, high = review.seconds
    made.append(Tile("median time to verdict", span_words(middle), f"{span_words(low)} to {span_words(high)}"))
    return made


def _ends(share: Proportion) -> str:
    low, high = share.ends
    return f"{low * 100:.0f} to {high * 100:.0f}\u00a0%"


def span_words(seconds: float) -> str:
    """A time in the unit that it is read in.

    >>> span_words(42), span_words(600), span_words(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def timeline(review: Review) -> Markup:
    """Acceptance by week or month."""
    moments = []
    for span in review.spans:
        share = span.outcomes.accepted
        name = f"{span.first.day} {span.first:%b}" if review.unit == "week" else f"{span.first:%b %y}"
        moments.append(Moment(name, share.value if share.of else None, share.ends, share.of))
    whole = review.whole.outcomes.accepted.value
    return share_over_time(moments, whole, review.unit)


def time_tables(review: Review) -> tuple[ShownTable, ShownTable]:
    """The numbers of the plot, newest first: those that stand beside it, and the older ones."""
    rows = [ShownRow(f"{span.first}", _outcome_cells(span.outcomes)) for span in review.spans if span.outcomes.drafts]
    rows.reverse()
    heads = (f"{review.unit} from", "drafts", "accepted", "edited", "rejected")
    newer = ShownTable(f"Verdicts by {review.unit}", heads, tuple(rows[:NEWEST]), "gap")
    return newer, ShownTable(f"Verdicts by {review.unit}, older", heads, tuple(rows[NEWEST:]), "gap")


def _outcome_cells(found: Outcomes) -> tuple[ShownCell, ...]:
    shares = (found.accepted, found.edited, found.rejected)
    return (ShownCell(str(found.drafts)), *(_share_cell(one) for one in shares))


def _share_cell(share: Proportion) -> ShownCell:
    return ShownCell(f"{share.value * 100:.0f} %", (_ends(share),)) if share.of else ShownCell("none", kind="none")


def corrections_table(review: Review) -> ShownTable:
    """Findings, the most often corrected first."""
    rows = []
    for one in review.corrections:
        counts = (one.share.count, one.added, one.removed, one.certainty, one.share.of)
        rows.append(ShownRow(one.name, (*(ShownCell(str(n)) for n in counts), _share_cell(one.share))))
    heads = ("", "corrected", "added", "removed", "certainty changed", "drafts that have it", "share corrected")
    return ShownTable("Corrections by finding", heads, tuple(rows))


def counts_table(name: str, head: str, counts: Sequence[tuple[str, int]]) -> ShownTable:
    """Names with their counts."""
    return ShownTable(name, ("", head), tuple(ShownRow(one, (ShownCell(str(n)),)) for one, n in counts), "gap")


def drift_tables(review: Review) -> Iterator[ShownTable]:
    """A table for films, drafts and readers each, the alarms first."""
    order = list(LOOKS)
    for kind, name in KINDS_OF_DRIFT.items():
        some = [one for one in review.drifts.compared if one.of == kind]
        sizes = len(review.reference.drafts), len(review.recent.drafts)
        rows = [_drift_row(one, sizes) for one in sorted(some, key=lambda one: order.index(one.alarm))]
        if rows:
            heads = ("", "alarm", "reference", "recent", "change", "p (Holm)", "test")
            yield ShownTable(name, heads, tuple(rows), "drift")


def _drift_row(one: Drift, sizes: tuple[int, int]) -> ShownRow:
    """A row; how many drafts have it stands there where not all have."""
    known = zip(one.values, one.sizes, sizes, strict=True)
    sides = [
        ShownCell(words.replace(" %", "\u00a0%"), (f"{size} drafts",) if size != of else ())
        for words, size, of in known
    ]
    verdict = ShownCell(str(one.alarm), kind=LOOKS[one.alarm])
    if one.change is None or one.p_holm is None:
        return ShownRow(one.name, (verdict, *sides, ShownCell(""), ShownCell(""), ShownCell(one.test)))
    chance = chance_words(one.p_holm).removeprefix("p ")
    return ShownRow(one.name, (verdict, *sides, ShownCell(_change(one)), ShownCell(chance), ShownCell(one.test)))


def group_table(grouping: Grouping) -> ShownTable:
    """The subgroups of one thing."""
    heads = (grouping.name, "drafts", "accepted", "edited", "rejected", "words changed in 100")
    return ShownTable(f"By {grouping.name}", heads, tuple(map(_group_row, grouping.groups)), "groups")


def _group_row(group: Subgroup) -> ShownRow:
    distance = "" if group.distance is None else f"{group.distance:.1f}"
    return ShownRow(group.value, (*_outcome_cells(group.outcomes), ShownCell(distance)))


def group_words(grouping: Grouping) -> str:
    """What the test of a grouping comes to."""
    if grouping.p_holm is None:
        return f"too few to tell: fewer than two groups of {groups.FEWEST} drafts"
    found = "acceptance differs" if grouping.p_holm < drifting.LEVEL else "no difference that chance does not explain"
    return f"{found} ({chance_words(grouping.p_holm)}, chi-square by permutation, Holm)"


def period_words(period: Period) -> str:
    """How many drafts, of which days."""
    days = period.days
    if days is None:
        return "no drafts"
    return f"{drafts_words(len(period.drafts))}, {_days(*days)}"


def drafts_words(count: int) -> str:
    """So many drafts.

    >>> drafts_words(1), drafts_words(20000)
    ('1 draft', '20,000 drafts')
    """
    return f"{count:,} draft{'' if count == 1 else 's'}"


def _days(first: date, last: date) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def lead_words(review: Review) -> str:
    """Which drafts these are."""
    whole = Period(review.judged.drafts)
    of = f" of {review.patients:,} patient{'' if review.patients == 1 else 's'}" if review.patients else ""
    days = whole.days
    assert days is not None  # the page has this line where there are drafts
    words = f"{drafts_words(len(whole.drafts))}{of}, {_days(*days)}."
    return f"{words} Alarms: {len(review.alarms)} of {len(review.compared)} comparisons." if review.compared else words


def models_words(review: Review) -> str:
    """How many drafts of which model either period has, where there are several models."""
    counts = [Counter(draft.model for draft in period.drafts) for period in (review.reference, review.recent)]
    names = dict.fromkeys(name for one in counts for name in one)
    if len(names) < 2:
        return ""
    counted = "; ".join(f"{name}: {counts[0][name]} drafts before, {counts[1][name]} now" for name in names)
    return f"{counted}. A change of drafts may be the model’s."
