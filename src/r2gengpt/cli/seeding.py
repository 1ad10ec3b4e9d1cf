"""Runs of several seeds, one after the other, each in a process of its own, as the command would be typed for each."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.config import RunConfig
from r2gengpt.errors import InputError, Stopped
from r2gengpt.settings import PlacementConfig

if TYPE_CHECKING:
    from r2gengpt.training.seeds import SeedRun

log = logging.getLogger("r2gengpt.training")
PROGRAM = (sys.executable, "-c", "from r2gengpt.cli.main import main; main()")
LAUNCHERS = {"WORLD_SIZE": "torchrun", "SLURM_NTASKS": "srun"}
"""What a launcher says of how many processes it has started → the launcher."""


def train_seeds(config: RunConfig, where: PlacementConfig, seeds: int) -> None:
    """Train with consecutive seeds, go on where this was stopped, and print each score's mean and spread.

    Raises:
        InputError: settings contradict several runs, or each other.
        Stopped: by SIGINT or SIGTERM; the run at work has saved its state.
        SystemExit: a run failed, with its code; it has said why.
    """
    from r2gengpt.training.record import SUMMARY
    from r2gengpt.training.seeds import runs_of, write_summary

    for variable, launcher in LAUNCHERS.items():
        if os.environ.get(variable, "1").strip() not in ("", "1"):
            raise InputError(
                f"starts its runs itself, and {launcher} has started several processes: start a run a seed there",
                field="seeds",
                value=seeds,
            )
    directory = Path(config.train.savedmodel_path)
    runs = runs_of(config, where, seeds)
    for place, run in enumerate(runs, 1):
        if run.is_finished:
            log.info("seed %d (%d of %d): finished before", run.seed, place, len(runs))
            continue
        log.info("seed %d (%d of %d): %s", run.seed, place, len(runs), run.directory)
        run.write_settings()
        _train(run)
    spreads = write_summary(directory, runs)
    for name, spread in spreads.items():
        print(f"{name} {spread}")
    print(directory / SUMMARY)


def _train(run: "SeedRun") -> None:
    """One run in its own process, whose lines go where ours go.

    Raises:
        Stopped, SystemExit: as `train_seeds`.
    """
    stopped = Stopped(f"stopped in the run of seed {run.seed}; the same command goes on with it")
    child = subprocess.Popen([*PROGRAM, "train", "--config", str(run.config_file)])
    try:
        code = child.wait()
    except KeyboardInterrupt:  # SIGTERM too, see `main`
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise stopped from None
    if code == 130:
        raise stopped
    if code:
        raise SystemExit(code if code > 0 else 1)
