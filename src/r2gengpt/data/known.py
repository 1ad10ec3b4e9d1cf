"""What is known of a study's films: its labels, or else what its report says. Opens no film."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from r2gengpt.data.labels import Labels
from r2gengpt.data.study import Study
from r2gengpt.metrics.labels.observations import Label
from r2gengpt.metrics.labels.reading import label_report
from r2gengpt.text.observations import ALL_OBSERVATIONS

OF_REPORTS = {Label.POSITIVE: 1.0, Label.NEGATIVE: 0.0, Label.BLANK: 0.0}
"""A report's word on an observation, as a label; a doubt is neither. What it does not mention is absent (CheXpert)."""


def known_labels(study: Study) -> Labels:
    """Observation → how likely the films show it, of those that are known.

    In a report positive is 1, negative 0 and uncertain unknown. An observation that it does not mention counts as
    absent, as in CheXpert; of a study without labels and report nothing is known.
    """
    if study.labels or not study.report.strip():
        return Labels(study.labels)
    said = label_report(study.report)
    return Labels({name: OF_REPORTS[label] for name, label in said.items() if label in OF_REPORTS})


def known_rows(studies: Sequence[Study]) -> npt.NDArray[np.float64]:
    """`known_labels` of studies as rows, (n, O), in the order of the observations; not a number where unknown."""
    known = (known_labels(study) for study in studies)
    rows = [[labels.get(name, np.nan) for name in ALL_OBSERVATIONS] for labels in known]
    return np.array(rows, dtype=np.float64).reshape(-1, len(ALL_OBSERVATIONS))
