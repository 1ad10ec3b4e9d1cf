"""A generated report as a record, its sentences, and its JSON line. No model, no metrics."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Sentence:
    """One sentence of a generated report, and how far it can be relied on.

    `tokens` counts the tokens that its text comes from, and `logprob` is their mean natural-log probability under the
    model's own distribution (before penalties). `agreement` is the share of the reports that beam search ended with
    that say this sentence (None: no beams), `confidence` the calibrated probability that a reference supports it (None:
    not calibrated); `needs_review` marks a sentence below --abstain_below.
    """

    text: str
    tokens: int
    logprob: float
    agreement: float | None = None
    confidence: float | None = None
    needs_review: bool = False


@dataclass(frozen=True)
class Prediction:
    """One generated report.

    `tokens` counts new tokens, the end token included; `logprob` is the mean natural-log probability of those tokens
    under the model's own distribution (before penalties); `finish` is "stop" (end token) or "length"; `patient` is
    whose study it is, empty where that is not known; `sentences` are in the order of the text.
    """

    id: str
    prediction: str
    reference: str = ""
    tokens: int = 0
    logprob: float = 0.0
    finish: str = "stop"
    patient: str = ""
    sentences: tuple[Sentence, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in predictions.jsonl."""
        record = asdict(self)
        record["sentences"] = list(record["sentences"])
        if not self.patient:
            del record["patient"]
        return record
