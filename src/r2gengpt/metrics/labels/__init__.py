"""CheXpert's observations from report text by rules. Not CheXbert: no model, no download."""

from r2gengpt.metrics.labels.observations import FIVE, NO_FINDING, OBSERVATIONS, Label
from r2gengpt.metrics.labels.reading import is_available, label_report

__all__ = ["FIVE", "NO_FINDING", "OBSERVATIONS", "Label", "is_available", "label_report"]
