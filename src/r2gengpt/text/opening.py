"""The words that a report opens with where the finding head leads it: what is likely on the film. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from r2gengpt.text.observations import ABNORMAL, CHILD, LATERAL_VIEW, LIKELY, NO_FINDING, NOT_ASSESSED

SURE = 0.5
"""From this probability on a finding is asserted; below it is possible."""
WORDS = {
    "Enlarged Cardiomediastinum": "a widened mediastinum",
    "Lung Lesion": "a lung lesion",
    "Edema": "pulmonary edema",
    "Pleural Other": "pleural thickening",
    "Fracture": "a fracture",
}
"""Observations whose own name is none within a sentence, or less clear."""
PNEUMONIC = "pneumonic opacity"
"""Pneumonia where opacities were not assessed: what a film shows of it is one."""


class HeadFinding(Protocol):
    """One observation as a finding head sees it; `Finding` is one."""

    @property
    def name(self) -> str:
        """The observation's own name."""

    @property
    def probability(self) -> float:
        """Calibrated."""

    @property
    def verdict(self) -> str:
        """In the words of `observations`."""


def opening_of(findings: Sequence[HeadFinding]) -> str:
    """Sentences that name each likely abnormal finding; empty where none is, or where the film is likely normal.

    A child's film and a lateral one are called so first.

    Args:
        findings: of one study.

    >>> from r2gengpt.report import Finding
    >>> opening_of([Finding("Pneumonia", 0.9, (0.8, 1.0), LIKELY), Finding("Edema", 0.3, (0.2, 0.4), LIKELY)])
    'Findings include pneumonia. Pulmonary edema is possible.'
    """
    return " ".join(opening_sentences(findings))


def opening_sentences(findings: Sequence[HeadFinding]) -> dict[str, float]:
    """The sentences of `opening_of`, each with the probability of the least likely finding that it names."""
    likely = [finding for finding in findings if finding.verdict == LIKELY]
    if any(finding.name == NO_FINDING for finding in likely):
        return {}
    abnormal = [finding for finding in likely if finding.name in ABNORMAL]
    opacity = next((finding.verdict for finding in findings if finding.name == "Lung Opacity"), None)
    words = WORDS | {"Pneumonia": PNEUMONIC} if opacity == NOT_ASSESSED else WORDS
    sure = [finding for finding in abnormal if finding.probability >= SURE]
    unsure = [finding for finding in abnormal if finding.probability < SURE]
    sentences = _kind(likely) if abnormal else {}
    if sure:
        sentences[f"Findings include {_named(sure, words)}."] = _least(sure)
    if unsure:
        named = _named(unsure, words)
        sentences[f"{named[0].upper()}{named[1:]} {'is' if len(unsure) == 1 else 'are'} possible."] = _least(unsure)
    return sentences


def _kind(likely: Sequence[HeadFinding]) -> dict[str, float]:
    """What kind of film it is, where a report would say so, and how probable that is."""
    found = {finding.name: finding.probability for finding in likely if finding.name in (CHILD, LATERAL_VIEW)}
    if not found:
        return {}
    film = "Lateral chest film" if LATERAL_VIEW in found else "Chest film"
    return {f"{film} of a child." if CHILD in found else f"{film}.": min(found.values())}


def _named(findings: Sequence[HeadFinding], words: Mapping[str, str]) -> str:
    return listed([words.get(finding.name, finding.name.lower()) for finding in findings])


def _least(findings: Sequence[HeadFinding]) -> float:
    return min(finding.probability for finding in findings)


def listed(words: Sequence[str]) -> str:
    """Words as a list within a sentence.

    >>> listed(["edema"]), listed(["edema", "fracture", "effusion"])
    ('edema', 'edema, fracture and effusion')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
