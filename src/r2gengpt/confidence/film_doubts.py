"""What speaks against a study's films, beside their features: view, age, writing. Refuses what shows no chest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from r2gengpt.confidence.film_guard import AGE, CUT_OFF, LATERAL, NO_CHEST, TILTED, WRITING
from r2gengpt.errors import InputError
from r2gengpt.films.facts import FilmFacts
from r2gengpt.report import Doubt, Finding, Report, chance
from r2gengpt.text.observations import CHILD, LATERAL_VIEW, LIKELY, UNLIKELY

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
