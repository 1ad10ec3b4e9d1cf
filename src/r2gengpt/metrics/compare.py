"""Two systems' texts for the same studies to differences of scores that say what chance would do. Reads no file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r2gengpt.errors import spelt
from r2gengpt.metrics.bootstrap import patient_numbers
from r2gengpt.metrics.families import shown_names
from r2gengpt.metrics.measure import MetricChoice, choose, measure, metric_names, scores_of
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.paired import Difference, Resampling, differences
from r2gengpt.metrics.protocols import BoundProtocol
from r2gengpt.metrics.records import Signature
from r2gengpt.metrics.score import check_ids, edited_references, unknown_patients


@dataclass(frozen=True)
class Comparison:
    """Scores of two systems by metric, and the second's minus the first's.

    `shown` are the metrics that tables have room for; `patients` is how many were drawn and swapped (None: studies
    were).
    """

    signature: Signature
    studies: int
    first: Mapping[str, float]
    second: Mapping[str, float]
    differences: Mapping[str, Difference]
    shown: tuple[str, ...]
    patients: int | None
    not_available: Mapping[str, str]
    notes: tuple[str, ...]
    resamples: int
    swaps: int
    seed: int

    def spelt(self, spell: Callable[[str], str] = str) -> "Comparison":
        """The same, with settings in reasons and notes as an interface names them (`errors.spelt`)."""
        reasons = {name: spelt(reason, spell) for name, reason in self.not_available.items()}
        return replace(self, not_available=reasons, notes=tuple(spelt(note, spell) for note in self.notes))

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return {
            "signature": str(self.signature),
            "n": self.studies,
            "metrics": {
                name: {"first": self.first[name], "second": self.second[name], "difference": difference.to_json()}
                for name, difference in self.differences.items()
            },
            "not_available": dict(self.not_available),
            "notes": list(self.notes),
            "bootstrap": {
                "resamples": self.resamples,
                "swaps": self.swaps,
                "seed": self.seed,
                "by": "study" if self.patients is None else "patient",
                "patients": self.patients,
            },
        }


def compare(
    first: Mapping[str, str],
    second: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    rules: BoundProtocol,
    *,
    choice: MetricChoice | None = None,
    patients: Mapping[str, str] | None = None,
    resamples: int = 1000,
    swaps: int = 1000,
    seed: int = 0,
    names: tuple[str, str, str] = ("first", "second", "references"),
) -> Comparison:
    """Compare two systems by every corpus metric.

    Args:
        first: study id → text of one system.
        second: of the other one.
        references: study id → its reference texts.
        rules: of a protocol (`protocols.bind`).
        choice: what is measured; None: all that can be measured here.
        patients: study id → patient; where all are known, patients are drawn and swapped instead of studies.
        resamples: of the paired bootstrap; 0: none.
        swaps: of the approximate randomisation; 0: none.
        seed: of both.
        names: what error messages call the three sets of texts.

    Raises:
        InputError: the three are not of the same studies, there are none, or a reference is empty.
    """
    check_ids(first, second, (names[0], names[1]))
    check_ids(first, references, (names[0], names[2]))
    chosen, ids = choose() if choice is None else choice, tuple(references)
    wanted = [edited_references(study, references[study], rules, names[2]) for study in ids]
    originals = [references[study] for study in ids]

    def measured(texts: Mapping[str, str]) -> Floats:
        written = [texts[study] for study in ids]
        edited = [rules.hypothesis(text) for text in written]
        return measure(edited, wanted, chosen.families, written=written, wanted=originals)

    ours, theirs = measured(first), measured(second)
    draws = Resampling(resamples, swaps, seed, patient_numbers(ids, patients or {}))
    labels = metric_names(chosen.families)
    one, other = (scores_of(part.sum(axis=0), len(ids), chosen.families) for part in (ours, theirs))
    return Comparison(
        signature=rules.signature,
        studies=len(ids),
        first=dict(zip(labels, map(float, one), strict=True)),
        second=dict(zip(labels, map(float, other), strict=True)),
        differences=differences(ours, theirs, chosen.families, draws),
        shown=shown_names(chosen.families),
        patients=draws.patients_drawn,
        not_available=chosen.not_available,
        notes=(
            *_notes(first, second, names, len(ids)),
            *unknown_patients(ids, patients or {}),
            *(family.note for family in chosen.families if family.note),
        ),
        resamples=resamples,
        swaps=swaps,
        seed=seed,
    )


def _notes(
    first: Mapping[str, str], second: Mapping[str, str], names: tuple[str, str, str], studies: int
) -> tuple[str, ...]:
    """What a reader of the differences must know, in words."""
    notes = []
    if studies == 1:
        notes.append("one study: nothing can be resampled or swapped, and cider is 0 by its definition")
    if all(first[study] == second[study] for study in first):
        notes.append("both systems wrote the same texts")
    for texts, name in ((first, names[0]), (second, names[1])):
        if empty := sum(not text.strip() for text in texts.values()):
            notes.append(f"empty outputs in {name}, which score 0: {empty} of {studies}")
    return tuple(notes)
