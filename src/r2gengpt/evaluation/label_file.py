"""What reports say of the 14 observations, as a file of labels in CheXpert's form. No model of ours."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from r2gengpt.files import write_whole
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.text.observations import OBSERVATIONS

VALUES: Mapping[Label, str] = {Label.POSITIVE: "1", Label.NEGATIVE: "0", Label.UNCERTAIN: "-1", Label.BLANK: ""}
"""As CheXpert's labeler writes them."""


def labels_of(reports: Mapping[str, str], labeler: str) -> dict[str, dict[str, str]]:
    """Study id → observation → 1 present, 0 absent, -1 uncertain, "" not mentioned.

    Args:
        reports: study id → text.
        labeler: `rules`, ours; `chexbert`, RadEval's, which does not tell absent from not mentioned: both are "".

    Raises:
        RunError: RadEval or its weights cannot be loaded.
    """
    if labeler == "rules":
        found = {study: label_report(text) for study, text in reports.items()}
        return {study: {name: VALUES[label] for name, label in labels.items()} for study, labels in found.items()}
    from r2gengpt.metrics.clinical_models import chexbert_labels

    rows = chexbert_labels(list(reports.values()))
    return {
        study: {name: str(value) if value else "" for name, value in row.items()}
        for study, row in zip(reports, rows, strict=True)
    }


def write_labels(path: Path, labels: Mapping[str, Mapping[str, str]]) -> None:
    """A CSV with a row a study, whole or not at all: `id`, then the 14 observations in CheXpert's order.

    Raises:
        InputError: the file can't be written.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", *OBSERVATIONS])
    rows.writerows([study, *(found[name] for name in OBSERVATIONS)] for study, found in labels.items())
    write_whole(path, text.getvalue(), "output")
