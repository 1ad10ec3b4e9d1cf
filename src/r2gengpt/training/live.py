"""What of a run can be watched while it goes: curves on disk, and sample reports in TensorBoard. Measures nothing."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from r2gengpt.report import Report
from r2gengpt.text.written import shown


class LiveLogs(Callback):  # type: ignore[misc]  # the library is untyped
    """After each validation, puts its curves on disk and its sample reports into TensorBoard's files, nowhere else.

    Reports may hold what patients' reports hold: they stay in the directory of the run.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write what this validation gave."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                add_samples(logger, pl_module.samples, trainer.global_step)
            logger.save()


def add_samples(logger: TensorBoardLogger, samples: Sequence[Report], step: int) -> None:
    """Reports beside their references, as TensorBoard's texts; and all that waits, to disk."""
    for report in samples:
        logger.experiment.add_text(f"reports/{shown(report.id)}", beside_reference(report), step)
    logger.experiment.flush()


def beside_reference(report: Report) -> str:
    """A report and its reference in Markdown, word for word.

    >>> print(beside_reference(Report("7", "No effusion.", "Clear lungs.", 3, -1.0, "stop")))
    **reference**
    <BLANKLINE>
        Clear lungs.
    <BLANKLINE>
    **written**
    <BLANKLINE>
        No effusion.
    """
    blocks = []
    for title, text in (("reference", report.reference), ("written", report.text)):
        lines = (f"    {line}" for line in shown(text).splitlines())
        blocks.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join(blocks)
