"""Whether a reference supports a generated sentence, by labels of both. Rule-based; knows no probability."""

from collections.abc import Mapping

from r2gengpt.metrics.labels.observations import Label
from r2gengpt.metrics.labels.reading import label_report
from r2gengpt.text.observations import NO_FINDING

AGREES: Mapping[Label, tuple[Label, ...]] = {
    Label.POSITIVE: (Label.POSITIVE,),
    Label.NEGATIVE: (Label.NEGATIVE, Label.BLANK),
}
"""What a sentence asserts → the labels of the reference that agree with it; of what is absent reports may be silent."""
DEFINITION = (
    "A sentence is supported where each observation that it asserts (CheXpert's, No Finding left out; labels by rules, "
    "not CheXbert) has a label of the reference that agrees: positive with positive, negative with negative or with "
    "nothing said. A doubt agrees with neither. Sentences that assert no observation are left out."
)


def asserted(sentence: str) -> dict[str, Label]:
    """The observations that a sentence says are there, or are not there."""
    return {name: label for name, label in label_report(sentence).items() if name != NO_FINDING and label in AGREES}


def is_supported(sentence: str, reference: Mapping[str, Label]) -> bool | None:
    """Whether the labels of a reference agree with all that a sentence asserts; None where it asserts nothing."""
    claims = asserted(sentence)
    return all(reference[name] in AGREES[label] for name, label in claims.items()) if claims else None
