"""What a finding head tells of a film, and the words that are made of it for prompts and reports. No labels, no models.

CheXpert's 14 observations and six more; the hint that they make in a prompt, and the sentences that a report opens with
where the head leads it. Pure functions.

Source: Irvin et al. 2019, "CheXpert" (arXiv 1901.07031), section 3, for the 14 and their order; Wang et al. 2017,
"ChestX-ray8" (arXiv 1705.02315), for three of the others.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"
OBSERVATIONS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    SUPPORT_DEVICES,
)
"""In CheXpert's order."""
ABNORMAL = tuple(name for name in OBSERVATIONS if name not in (NO_FINDING, SUPPORT_DEVICES))
"""Those that make a film abnormal."""
CHILDREN: Mapping[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
    "Lung Opacity": ("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Lung Lesion"),
    "Consolidation": ("Pneumonia",),
}
"""Observation → those that are kinds of it: a text that names one of them has not left it out.

Source: Irvin et al. 2019, "CheXpert" (arXiv 1901.07031), figure 1.
"""
LATERAL_VIEW, AP_VIEW, CHILD = "Lateral View", "AP View", "Child"
OF_THE_FILM = (LATERAL_VIEW, AP_VIEW, CHILD)
"""How a film was taken, and of whom: a head learns it, no hint and no report says it."""
FURTHER = ("Emphysema", "Fibrosis", "Hernia", *OF_THE_FILM)
"""Observations beside CheXpert's: three more of ChestX-ray14's, and those of the film itself."""
ALL_OBSERVATIONS = (*OBSERVATIONS, *FURTHER)
"""All that a label can be of and a finding head tells, in the order of its logits."""
LIKELY, POSSIBLE, UNLIKELY, NOT_ASSESSED = "likely", "possible", "unlikely", "not assessed"
"""What a verdict can be; `not assessed`: on validation films the head did not tell this observation from chance.

A child's film is not assessed either for what validation films showed of adults only.
"""


def hint_of(verdicts: Mapping[str, str]) -> str:
    """Verdicts as words for a prompt, in the order of the observations; empty where there are none to tell.

    >>> hint_of({"Edema": "unlikely", "Consolidation": "likely", "Hernia": "not assessed"})
    'Findings: edema unlikely; consolidation likely.'
    """
    assessed = (LIKELY, POSSIBLE, UNLIKELY)
    names = [name for name in ALL_OBSERVATIONS if name not in OF_THE_FILM]
    words = [f"{name.lower()} {verdicts[name]}" for name in names if verdicts.get(name) in assessed]
    return f"Findings: {'; '.join(words)}." if words else ""


def hinted(instruction: str, hint: str) -> str:
    """An instruction with a hint in front; as it was where there is none.

    >>> hinted("Describe the film.", "Findings: edema likely.")
    'Findings: edema likely. Describe the film.'
    """
    return f"{hint} {instruction}" if hint else instruction


def verdict_of_label(label: float) -> str:
    """The verdict that a label stands for: 1 is likely, 0 unlikely, what lies between possible.

    >>> verdict_of_label(1), verdict_of_label(0.5), verdict_of_label(0.1)
    ('likely', 'possible', 'unlikely')
    """
    return LIKELY if label >= 0.75 else UNLIKELY if label <= 0.25 else POSSIBLE


def true_hint(labels: Sequence[float], assessed: Sequence[bool] = (True,) * len(ALL_OBSERVATIONS)) -> str:
    """The hint that a study's labels make, one an observation; not a number where unknown, which is not told.

    What the head does not assess is not told either: no hint of its own will ever name it.

    >>> true_hint([0.0, *[float("nan")] * 4, 1.0, *[float("nan")] * 14])
    'Findings: no finding unlikely; edema likely.'
    """
    every = zip(ALL_OBSERVATIONS, labels, assessed, strict=True)
    known = {name: label for name, label, is_known in every if is_known and label == label}
    return hint_of({name: verdict_of_label(label) for name, label in known.items()})


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
