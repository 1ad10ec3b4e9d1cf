"""An audit as lines of a terminal, at most 100 columns, the verdict of each finding first. Measures nothing."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from r2gengpt.evaluation.audit.measure import Reading

Json = Mapping[str, Any]
WIDTH = 100
ORDER = tuple(Reading)
WHO = {"text": "The text", "head": "The finding head"}


def headline(audit: Json, who: str) -> str:
    """How many findings the film is read for, of those that could be judged."""
    verdicts = [found["verdict"] for found in audit["verdicts"][who].values()]
    judged = [one for one in verdicts if one not in (Reading.TOO_FEW, Reading.NOT_ASSESSED)]
    reads = judged.count(Reading.READS)
    about = f"{audit['n']} studies of {audit['patients']} patients"
    if not judged:
        return f"{WHO[who]}: no verdict, {about} are too few for any finding."
    findings = "finding" if len(judged) == 1 else "findings"
    return f"{WHO[who]} reads the film for {reads} of {len(judged)} {findings} that {about} could tell."


def short(measure: Json | None) -> str:
    """A value with its interval, two decimals.

    >>> short({"value": 0.914, "ci95": [0.87, 0.96]}), short(None)
    ('0.91 [0.87, 0.96]', 'none')
    """
    if measure is None:
        return "none"
    ends = f" [{measure['ci95'][0]:.2f}, {measure['ci95'][1]:.2f}]" if "ci95" in measure else ""
    return f"{measure['value']:.2f}{ends}"


def ordered(verdicts: Json) -> list[tuple[str, Json]]:
    """Findings by verdict: those that are read first."""
    return sorted(verdicts.items(), key=lambda item: ORDER.index(Reading(item[1]["verdict"])))


def verdict_words(found: Json) -> str:
    """The verdict of one finding, with how few its films are where they are too few.

    >>> verdict_words({"verdict": "too few films", "with": 3, "without": 20})
    'too few films (patients: 3 with it, 20 without)'
    """
    if found["verdict"] == Reading.TOO_FEW:
        return f"{found['verdict']} (patients: {found['with']} with it, {found['without']} without)"
    return str(found["verdict"])


def sides_line(audit: Json) -> str:
    """Whether the sides of texts change with the film's."""
    sides = audit["sides"]
    if "swapped" not in sides:
        return f"Sides: {sides['verdict']} ({sides['n']})."
    shares = f"{short(sides['swapped'])} swapped, {short(sides['kept'])} kept"
    return f"Sides {sides['verdict']}: of {sides['n']} texts with a side, on flipped films {shares}."


def claims_line(audit: Json) -> str:
    """How often a wrong claim beside the film is taken over."""
    claims = audit["claims"]
    if "followed" not in claims:
        why = audit["conditions"]["contradicted"].get("missing", "no claim differs from the text")
        return f"Contradicting text: not available: {why}."
    return f"Contradicting text: {short(claims['followed'])} of {claims['n']} wrong claims are taken over."


def boxes_line(audit: Json) -> str:
    """What covering a finding does to its name."""
    here, there = audit["boxes"]["occluded"], audit["boxes"]["occluded_elsewhere"]
    if "lost" not in here:
        why = audit["conditions"]["occluded"].get("missing", "no text names a finding that has a box")
        return f"Covered findings: not available: {why}."
    beside = f"; the other side covered: {short(there['lost'])} of {there['n']}" if "lost" in there else ""
    return f"Covered findings: {short(here['lost'])} of {here['n']} are no longer named{beside}."


def terminal_lines(audit: Json) -> Iterator[str]:
    """The lines, the verdicts first."""
    for who, verdicts in audit["verdicts"].items():
        yield from textwrap.wrap(headline(audit, who), WIDTH)
        width = max(map(len, verdicts), default=0)
        unseen = [name for name, found in verdicts.items() if found["verdict"] == Reading.NOT_ASSESSED]
        for name, found in ordered({name: found for name, found in verdicts.items() if name not in unseen}):
            gaps = ", ".join(f"{name.replace('_', ' ')} {short(gap)}" for name, gap in found.get("above", {}).items())
            line = f"  {name:<{width}}  {verdict_words(found)}" + (f"; above {gaps}" if gaps else "")
            yield from textwrap.wrap(line, WIDTH, subsequent_indent=" " * (width + 4))
        if unseen:
            line = f"  {Reading.NOT_ASSESSED.value}: {', '.join(unseen)}"
            yield from textwrap.wrap(line, WIDTH, subsequent_indent=" " * 4)
        yield ""
    for line in (sides_line(audit), claims_line(audit), boxes_line(audit)):
        yield from textwrap.wrap(line, WIDTH)
    yield ""
    yield f"{'condition':<19} {'n':>4}  {'findings changed':<18}  {'agreement with labels':<21}"
    for name, found in audit["conditions"].items():
        if "missing" in found:
            yield from textwrap.wrap(f"{name:<19} not available: {found['missing']}", WIDTH, subsequent_indent=" " * 20)
        else:
            changed = short(found["findings_changed"]) if "findings_changed" in found else ""
            refused = f"  {found['refused']} refused" if found["refused"] else ""
            yield f"{name:<19} {found['n']:>4}  {changed:<18}  {short(found['agreement'])}{refused}"
