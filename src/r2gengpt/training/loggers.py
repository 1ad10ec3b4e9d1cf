"""Where a run's numbers go: CSV, TensorBoard, on request W&B and MLflow. Sample reports go to TensorBoard alone."""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from r2gengpt.config import LOGGERS, RunConfig
from r2gengpt.errors import InputError, installing, one_line
from r2gengpt.report import Report
from r2gengpt.text.written import shown

MOVABLE = ("vision_model", "lm_model")
"""Settings that may be directories of this machine."""
UNASKED = ("disable_git", "disable_code", "x_disable_meta", "x_disable_machine_info", "x_disable_stats")
"""What W&B would send besides: the command line, paths, the host's name and its load."""
PROJECT = "r2gengpt"
"""The name under which runs stand together, where the services' own variables give none."""


def check_loggers(names: tuple[str, ...]) -> None:
    """Refuse loggers whose packages are missing.

    Raises:
        InputError: so it is.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a directory of that name, as W&B leaves one, is no package
            raise InputError(f"needs {name}: {installing(name)}", field="loggers", value=name)


def make_loggers(config: RunConfig) -> list[Logger]:
    """The loggers of a run. What leaves the machine has the settings that a checkpoint holds, so no path and no text.

    Raises:
        InputError: a service cannot be reached, or does not know the user.
    """
    directory = Path(config.train.savedmodel_path)
    logs = directory / "logs"
    loggers = [CSVLogger(logs, name="csv"), TensorBoardLogger(logs, name="tensorboard")]
    for name in config.train.loggers:
        logger = SERVICES[name](directory.absolute().name, logs)
        if rank_zero_only.rank == 0:
            begin(logger, name, without_paths(config.stored.flat()))
        loggers.append(logger)
    return loggers


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as others may see them: of a part that is a directory here, its name alone."""
    return {name: named(value) if name in MOVABLE else value for name, value in settings.items()}


def named(part: str) -> str:
    """A hub name as it is, of a directory the last part."""
    return Path(part).name if Path(part).is_dir() else part


def begin(logger: Logger, name: str, settings: dict[str, Any]) -> None:
    """Start the run of a service, before the work.

    Raises:
        InputError: the service refuses, or is out of reach.
    """
    try:
        logger.log_hyperparams(settings)
    except refusals(name) as error:
        raise InputError(f"cannot be started: {one_line(str(error))[:300]}", field="loggers", value=name) from None


def refusals(name: str) -> tuple[type[Exception], ...]:
    """The errors by which a service refuses."""
    if name == "wandb":
        import wandb

        return (wandb.errors.Error, OSError)
    import mlflow

    return (mlflow.exceptions.MlflowException, OSError)


def _wandb(name: str, logs: Path) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    logs.mkdir(parents=True, exist_ok=True)
    unasked = dict.fromkeys(UNASKED, True)
    quiet = wandb.Settings(console="off", silent=True, x_save_requirements=False, **unasked)
    return WandbLogger(name=name, save_dir=logs, project=os.environ.get("WANDB_PROJECT", PROJECT), settings=quiet)


def _mlflow(name: str, logs: Path) -> Logger:
    import mlflow  # noqa: F401  # it sets the levels of its own logs when it is imported
    from lightning.pytorch.loggers import MLFlowLogger

    for noisy, level in (("mlflow", logging.WARNING), ("lightning.pytorch.loggers.mlflow", logging.ERROR)):
        logging.getLogger(noisy).setLevel(level)  # they tell of new tables and of a new experiment
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(logs / 'mlflow.db').absolute()}"
    return MLFlowLogger(experiment, name, tracking_uri=address, tags={"mlflow.source.name": "r2gengpt train"})


SERVICES: Mapping[str, Callable[[str, Path], Logger]] = {"wandb": _wandb, "mlflow": _mlflow}
assert tuple(SERVICES) == LOGGERS


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
