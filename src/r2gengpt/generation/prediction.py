"""A generated report as a record, and its JSON line. No model, no metrics."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """One generated report.

    `tokens` counts new tokens, the end token included; `logprob` is the mean natural-log probability of those tokens
    under the model's own distribution (before penalties); `finish` is "stop" (end token) or "length"; `patient` is
    whose study it is, empty where that is not known.
    """

    id: str
    prediction: str
    reference: str = ""
    tokens: int = 0
    logprob: float = 0.0
    finish: str = "stop"
    patient: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in predictions.jsonl."""
        record = asdict(self)
        if not self.patient:
            del record["patient"]
        return record
