"""Runs that differ by their seed alone: where each lies, and the mean and spread of their scores. Trains nothing."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from r2gengpt.checkpoint_files import RUN
from r2gengpt.config import RunConfig
from r2gengpt.data.strict import read_json_object
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.metrics.spread import Spread
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.record import SUMMARY, first_change


@dataclass(frozen=True)
class SeedRun:
    """One of the runs: its seed, its directory, and the settings that it is started with, as JSON has them."""

    seed: int
    directory: Path
    settings: Mapping[str, Any]

    @property
    def config_file(self) -> Path:
        """Where its settings lie, beside its directory."""
        return self.directory.with_name(f"{self.directory.name}.json")

    @property
    def is_finished(self) -> bool:
        """Whether it has been run to its end."""
        return (self.directory / SUMMARY).exists()

    def write_settings(self) -> None:
        """Write its settings, whole or not at all."""
        write_whole(self.config_file, json.dumps(self.settings, indent=1) + "\n")

    def check(self) -> None:
        """Refuse to go on with a run of other settings.

        Raises:
            InputError: so it is, or the file of its settings cannot be read.
        """
        if not self.config_file.exists():
            if self.directory.exists():
                raise InputError("is there, and no run of `seeds`", field="savedmodel_path", value=self.directory)
            return
        stored = read_json_object(self.config_file, f"`savedmodel_path` {self.config_file}")
        if name := first_change(stored, self.settings):
            raise InputError(
                f"the run in {self.directory} has {stored.get(name)}; go on with that, or name another "
                "`savedmodel_path`",
                field=name,
                value=self.settings[name],
            )


def runs_of(config: RunConfig, where: PlacementConfig, seeds: int) -> list[SeedRun]:
    """The runs of consecutive seeds, each in `seed-N` of the directory that is named.

    Raises:
        InputError: the settings contradict several runs, the directory holds a run, or one of other settings.
    """
    options, directory = config.train, Path(config.train.savedmodel_path)
    if options.test or options.validate:
        raise InputError("trains; `test` and `validate` score one checkpoint", field="seeds", value=seeds)
    if options.overwrite:
        raise InputError(
            "would begin finished runs of `seeds` anew each time; remove their directories",
            field="overwrite",
            value=True,
        )
    if (directory / RUN).exists() or (directory / "last").exists():
        raise InputError("holds a run of its own; name another directory", field="savedmodel_path", value=directory)
    found = []
    for seed in range(options.seed, options.seed + seeds):
        own = directory / f"seed-{seed}"
        of_seed = replace(config, train=replace(options, seed=seed, savedmodel_path=str(own)))
        settings = json.loads(json.dumps({**of_seed.flat(), **asdict(where)}))
        found.append(SeedRun(seed, own, settings))
    for run in found:
        run.check()
    return found


def write_summary(directory: Path, runs: Sequence[SeedRun]) -> dict[str, Spread]:
    """Write summary.json of finished runs; gives each score's mean and spread.

    It holds each run's seed, steps, scores and checkpoint, mean and sd of the scores that all of them have, and the
    checkpoint with the highest `val_score`, one above its floors before one below them.

    Raises:
        InputError: what a run left cannot be read.
    """
    files = [run.directory / SUMMARY for run in runs]
    ends = [read_json_object(file, f"`savedmodel_path` {file}") for file in files]
    summaries = [
        {
            "seed": run.seed,
            "steps": end["steps"],
            "best": end["best"],
            "checkpoint": f"{run.directory.name}/{'best' if end['best'] else 'last'}",
            **{name: end[name] for name in ("below_floors",) if name in end},
        }
        for run, end in zip(runs, ends, strict=True)
    ]
    names = [name for name in ends[0]["best"] if all(name in end["best"] for end in ends)]
    spreads = {name: Spread.of([end["best"][name] for end in ends]) for name in names}
    content = {
        "finished": True,
        "seeds": [run.seed for run in runs],
        "chosen_by": ends[0]["chosen_by"],
        "checkpoint": _highest(summaries),
        "scores": {name: spread.to_json() for name, spread in spreads.items()},
        "runs": summaries,
    }
    write_whole(directory / SUMMARY, json.dumps(content, indent=1) + "\n")
    return spreads


def _highest(summaries: Sequence[Mapping[str, Any]]) -> str:
    best = max(summaries, key=lambda run: ("below_floors" not in run, run["best"].get("val_score", -math.inf)))
    return str(best["checkpoint"])
