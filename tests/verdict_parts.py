"""Drafts and verdicts as readers would give them, drawn from a seed. No test stands here."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from r2gengpt.metrics.labels.reading import asserted
from r2gengpt.verdicts.edits import sentence_edits
from r2gengpt.verdicts.findings import labeler_name
from r2gengpt.verdicts.record import DraftFacts, KeptVerdict, ReaderVerdict

MONDAY = datetime(2026, 1, 5, 8, tzinfo=UTC)
NORMAL = "The lungs are clear. The heart is normal in size. No pleural effusion."
TEXTS = (
    NORMAL,
    "Bilateral pleural effusions. The heart is enlarged.",
    "Right lower lobe consolidation. No pneumothorax.",
    "The heart size is normal. Mild pulmonary edema.",
)


@dataclass(frozen=True)
class Clinic:
    """What is drawn: shares of verdicts and views, brightness of the films, and the texts."""

    accepted: float = 0.6
    rejected: float = 0.1
    lateral: float = 0.2
    brightness: float = 0.0
    devices: tuple[str, ...] = ("Maker One", "Maker Two")
    texts: tuple[str, ...] = TEXTS
    model: str = "ours"
    marked: float = 0.2
    named: bool = True
    """Whether films tell view, device, sex and age."""


@dataclass
class Desk:
    """Draws one draft and its verdict after the other, an hour apart."""

    seed: int = 0
    first: datetime = MONDAY
    count: int = 0
    source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)

    def drawn(self, count: int, clinic: Clinic = Clinic()) -> Iterator[tuple[DraftFacts, ReaderVerdict, datetime]]:
        """So many drafts, each with its verdict and when it came."""
        for _ in range(count):
            self.count += 1
            yield self._one(clinic)

    def _one(self, clinic: Clinic) -> tuple[DraftFacts, ReaderVerdict, datetime]:
        draw, number = self.source, self.count
        then = self.first + timedelta(hours=2 * number)
        text = draw.choice(clinic.texts).replace("heart", draw.choice(("heart", "cardiac silhouette")))
        facts = DraftFacts(
            id=f"report-{number}",
            created=int(then.timestamp()) - draw.randrange(20, 600),
            text=text,
            model=clinic.model,
            model_sha256="a" * 64,
            delta_sha256=None,
            version="0.1.0",
            films=(f"{number:064x}",),
            patient=f"{number // 2:032x}",
            features={"brightness": clinic.brightness + draw.gauss(0, 1), "films": 1.0, "head: Edema": draw.random()},
            needs_review=draw.random() < clinic.marked,
        )
        if clinic.named:
            facts = replace(
                facts,
                age=draw.choice(("18 to 39", "40 to 64", "65 and over")),
                sex=draw.choice("FM"),
                view="LATERAL" if draw.random() < clinic.lateral else "PA",
                device=draw.choice(clinic.devices),
            )
        return facts, self._verdict(clinic, text, number), then

    def _verdict(self, clinic: Clinic, text: str, number: int) -> ReaderVerdict:
        key, at = f"key-{number:016}", self.source.random()
        if at < clinic.accepted:
            return ReaderVerdict("accept", key)
        if at > 1 - clinic.rejected:
            return ReaderVerdict("reject", key, reason=self.source.choice(("missed", "invented", "")))
        changed = self.source.choice((f"{text} There is a right pneumothorax.", text.split(". ")[0] + "."))
        return ReaderVerdict("edit", key, changed, reason="wording")


def kept(*parts: tuple[int, Clinic], seed: int = 0) -> list[KeptVerdict]:
    """Verdicts as a store has them, of one clinic after the other."""
    desk, found = Desk(seed), []
    for count, clinic in parts:
        found += [kept_of(*one, number=desk.count) for one in desk.drawn(count, clinic)]
    return found


def kept_of(facts: DraftFacts, given: ReaderVerdict, when: datetime, number: int) -> KeptVerdict:
    """One verdict as a store has it."""
    texts = {"accept": facts.text, "edit": given.text}
    text = texts.get(given.verdict, "")
    return KeptVerdict(
        number=number,
        facts=facts,
        judgement=replace(given, text=text),
        decided=when,
        seconds=when.timestamp() - facts.created,
        edits=sentence_edits(facts.text, text) if text else (),
        before=asserted(facts.text),
        after=asserted(text) if text else None,
        labeler=labeler_name(),
    )
