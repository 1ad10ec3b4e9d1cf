"""Rows beside a model with a finding head that need labels: nearest labels, true labels in the hint. Scores nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2gengpt.config import DataConfig
from r2gengpt.data.study import Study, known_rows
from r2gengpt.errors import InputError
from r2gengpt.evaluation.nearest import reported_studies
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.metrics.baselines import Baseline, most_frequent
from r2gengpt.processes import Share
from r2gengpt.report import NO_HEAD, Report
from r2gengpt.reporter import Reporter
from r2gengpt.settings import HonestyConfig
from r2gengpt.text.observations import true_hint

NEAREST, ORACLE = "nearest_labels", "oracle_hint"
READ_UNASKED = 5_000
"""Training reports that are read for labels unless asked to: those of IU X-ray, not those of MIMIC-CXR."""
WRITTEN_UNASKED = 1_000
"""Studies that are written a second time unless asked to."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lenders:
    """Training studies that lend their reports by their labels.

    Labels and the head's probabilities are compared by their squared differences, over the observations that the head
    tells from chance. An unknown label counts as the mean of the known ones. Of studies with the same labels, the one
    with the commonest report lends it.

    Attributes:
        studies: how many there are.
        columns: (O,), which observations count.
        kinds: (K, C), the labels that occur, without a repeat.
        reports: K, what is lent for each.
    """

    studies: int
    columns: Bools
    kinds: Floats
    reports: tuple[str, ...]

    @classmethod
    def of(cls, studies: Sequence[Study], assessed: Sequence[bool]) -> "Lenders":
        """The lenders among studies with reports.

        Raises:
            LookupError: no label of theirs is of an observation that the head tells from chance.
        """
        labels = known_rows(studies)
        columns = np.array(assessed) & ~np.isnan(labels).all(axis=0)
        if not columns.any():
            raise LookupError("the finding head tells nothing that training studies have labels of")
        known = labels[:, columns]
        filled = np.where(np.isnan(known), np.nanmean(known, axis=0), known)
        kinds, kind = np.unique(filled, axis=0, return_inverse=True)
        members: list[list[str]] = [[] for _ in kinds]
        for study, one in zip(studies, kind.ravel().tolist(), strict=True):
            members[one].append(study.report)
        return cls(len(studies), columns, kinds, tuple(map(most_frequent, members)))

    def row(self, reports: Sequence[Report]) -> Baseline:
        """A training report for each study, from what the head sees on its films."""
        texts = {}
        for report in reports:
            seen = np.array([finding.probability for finding in report.findings])[self.columns]
            texts[report.id] = self.reports[int(np.square(self.kinds - seen).sum(axis=1).argmin())]
        about = (
            f"the report of the training study, of {self.studies}, whose labels are nearest to the finding head's "
            f"probabilities, by {int(self.columns.sum())} observations; of those with the same labels the commonest"
        )
        return Baseline(about, texts, human=True)


@dataclass(frozen=True)
class LabelRows:
    """Which rows there will be.

    Attributes:
        lenders: what the nearest labels are looked up in; None: no such row.
        hints: the true hint of each study; none: no such row.
        missing: why a row is not there.
    """

    lenders: Lenders | None
    hints: Mapping[str, str]
    missing: Mapping[str, str]


def plan_labels(
    config: HonestyConfig, reporter: Reporter, data: DataConfig, studies: Sequence[Study], split: str
) -> LabelRows:
    """Settle the rows, before anything is predicted; without a finding head there are none, and no reason.

    Raises:
        InputError: what is asked for cannot be, or the train split is wrong.
    """
    lenders, hints, missing = None, {}, {}
    wanted = {NEAREST: config.nearest_labels, ORACLE: config.oracle_hint}
    try:
        lenders = lenders_of(wanted[NEAREST], reporter, data, split)
    except LookupError as reason:
        missing[NEAREST] = str(reason)
    try:
        hints = true_hints(wanted[ORACLE], reporter, studies)
    except LookupError as reason:
        missing[ORACLE] = str(reason)
    for name, why in missing.items():
        if wanted[name] == "True":
            raise InputError(why, field=name, value=True)
    return LabelRows(lenders, hints, missing if reporter.tells_findings else {})


def lenders_of(wanted: str, reporter: Reporter, data: DataConfig, split: str) -> Lenders:
    """The training studies whose reports may be lent by their labels.

    Raises:
        LookupError: there are none, or they are not wanted; says why.
        InputError: the train split is wrong.
    """
    check_row(NEAREST, wanted, reporter)
    studies = reported_studies(data, split)
    unread = sum(not study.labels for study in studies)
    if wanted == "auto" and unread > READ_UNASKED:
        raise LookupError(f"{unread} training reports are to be read for it: `{NEAREST}` True")
    return Lenders.of(studies, reporter.assessed)


def true_hints(wanted: str, reporter: Reporter, studies: Sequence[Study]) -> dict[str, str]:
    """The hint of each study that its labels make, or else its report.

    Raises:
        LookupError: the model takes none, or they are not wanted; says why.
    """
    check_row(ORACLE, wanted, reporter)
    if reporter.composes:
        raise LookupError("`writer` retrieve reads no hint")
    if not reporter.hints:
        raise LookupError("the model was trained without `findings_hint`")
    if wanted == "auto" and len(studies) > WRITTEN_UNASKED:
        raise LookupError(f"{len(studies)} studies are to be written again for it: `{ORACLE}` True")
    labels = known_rows(studies).tolist()
    return {study.id: true_hint(row, reporter.assessed) for study, row in zip(studies, labels, strict=True)}


def check_row(name: str, wanted: str, reporter: Reporter) -> None:
    """Look whether a row can be: it needs a finding head.

    Raises:
        LookupError: the row is not wanted, or there is no head.
    """
    if wanted == "False":
        raise LookupError(f"`{name}` False")
    if not reporter.tells_findings:
        raise LookupError(f"the model {NO_HEAD}")


def with_label_rows(
    rows: Mapping[str, Baseline],
    reporter: Reporter,
    plan: Evaluation,
    planned: LabelRows,
    reports: Sequence[Report],
    share: Share,
) -> dict[str, Baseline]:
    """The rows and those of labels; every process has a part in the second pass.

    Args:
        rows: that there are already.
        reporter: the model.
        plan: what is evaluated.
        planned: which rows there will be.
        reports: that the model wrote, with what its head sees.
        share: of this process.

    Raises:
        InputError: an image cannot be read; in every process.
    """
    found = dict(rows)
    if planned.lenders is not None:
        found[NEAREST] = planned.lenders.row(reports)
    if planned.hints:
        hinted = reporter.with_hints(planned.hints)
        again = predict_studies(hinted, plan, share.rank, share.world, title="true labels in the hint")
        about = "what the model writes where its hint holds the true labels: what a head without errors would give"
        found[ORACLE] = Baseline(about, {report.id: report.text for report in again}, human=False)
    return found
