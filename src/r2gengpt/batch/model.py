"""The model of a bulk run: what its rows depend on, how workers load it and write with it. Starts no worker."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gengpt.batch.cluster import Workers
from r2gengpt.batch.driver import BulkWork
from r2gengpt.batch.workers import Decoded, FilmPixels
from r2gengpt.checkpoint_files import DELTA, SENTENCES
from r2gengpt.confidence.film_guard import GUARD
from r2gengpt.confidence.findings import FINDINGS
from r2gengpt.confidence.review import CALIBRATION
from r2gengpt.films.containers import DicomChoice
from r2gengpt.locate import Located, ModelChoice
from r2gengpt.provenance import file_sha256
from r2gengpt.report import Report
from r2gengpt.settings import BatchConfig, CellConfig

if TYPE_CHECKING:
    from r2gengpt.reporter import Reporter

BESIDE = (FINDINGS, GUARD, CALIBRATION)
"""Files beside the weights that rows depend on, too."""


@dataclass(frozen=True)
class BulkModel:
    """A model that is known by its settings only, and what a bulk run does with it."""

    located: Located
    config: BatchConfig
    limits: CellConfig = CellConfig()
    begin: Callable[[], None] = lambda: None
    """Called first in each actor: how its log lines look."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that rows depend on, by flag."""
        config, choice, stored = self.config, self.located.choice, self.located.stored
        directory, decode = self.located.directory, self.located.decodings(stored).whole
        return {
            "input": os.path.realpath(config.input),
            "delta": choice.name,
            "delta_sha256": file_sha256(directory / DELTA),
            **{f"{Path(name).stem}_sha256": file_sha256(directory / name) for name in BESIDE},
            "split": config.split,
            "force": config.force,
            "mixed_patients": config.mixed_patients,
            "format": config.format,
            "batch_size": config.batch_size,
            "shard_size": config.studies_a_shard,
            "abstain_below": choice.abstain_below,
            **self._writer,
            **vars(decode),
            **stored.model.values,
            **vars(choice.where),
        }

    @property
    def _writer(self) -> Mapping[str, Any]:
        """The writer and what it takes sentences from, where it is not the language model."""
        if not self.located.choice.retrieves:
            return {}
        return {"writer": "retrieve", "sentences_sha256": file_sha256(self.located.directory / SENTENCES)}

    def work(self) -> BulkWork:
        """What Ray's workers do, and how many there are; loads PyTorch."""
        from r2gengpt.reporter import Reporter

        config, choice, located = self.config, self.located.choice, self.located
        films = DicomChoice(force=config.force, mixed_patients=config.mixed_patients)
        pixels = FilmPixels(Reporter.view_maker(located), films, self.limits)
        cores, gpu = os.cpu_count() or 1, {"auto": None, "cpu": False}.get(choice.accelerator, True)
        here = config.address is None and (gpu is False or ModelChoice().device() == "cpu")
        threads = config.threads or (max(1, cores // config.actors) if here else 1)
        decoders = config.decode_workers or max(1, cores - config.actors * threads)
        make = partial(load_writer, located, config.batch_size, gpu, self.begin)
        return BulkWork(pixels, make, Workers(config.actors, threads, gpu, decoders), config.address)


def load_writer(located: Located, batch_size: int, gpu: bool | None, begin: Callable[[], None]) -> "ModelWriter":
    """In an actor: the model, on the GPU that Ray has given the actor, or on the CPU.

    Raises:
        InputError: parts that cannot be loaded, or an engine that cannot serve them.
    """
    from r2gengpt.reporter import Reporter

    begin()
    accelerator = "cpu" if gpu is False else "gpu" if gpu else "auto"
    reporter = Reporter.of(replace(located, choice=replace(located.choice, accelerator=accelerator)))
    return ModelWriter(reporter.named(Path(located.choice.name).name), batch_size)


@dataclass
class ModelWriter:
    """A model and how it writes. Batches are of equal numbers of views, as far as a shard allows."""

    reporter: "Reporter"
    batch_size: int

    @property
    def origin(self) -> Mapping[str, Any]:
        """The provenance that all rows share."""
        reporter = self.reporter
        origin = {"model": reporter.name, **asdict(reporter.origin), "decode": asdict(reporter.decode)}
        return {**origin, **reporter.written_by}

    def write(self, studies: Sequence[Decoded], first: int) -> list[Report]:
        """One run of the engine: as studies end, the next of the shard take their places."""
        order, decode = by_views(studies), self.reporter.decode
        decode = replace(decode, decode_seed=decode.decode_seed + first)
        batches = self._batches([studies[place] for place in order])
        back = dict(zip(order, self.reporter.predict(batches, decode), strict=True))
        return [back[place] for place in range(len(studies))]

    def _batches(self, studies: Sequence[Decoded]) -> Iterator[Any]:
        import torch

        from r2gengpt.data.batches import Example

        for at in range(0, len(studies), self.batch_size):
            some = studies[at : at + self.batch_size]
            examples = [Example(study.id, torch.from_numpy(study.pixels.copy()), "", "") for study in some]  # type: ignore[union-attr]  # those with pixels
            yield self.reporter.prompts(examples)


def by_views(studies: Sequence[Decoded]) -> list[int]:
    """Places of the studies by their number of views, else as they stand: batches then pad least."""
    views = [0 if study.pixels is None else len(study.pixels) for study in studies]
    return sorted(range(len(studies)), key=views.__getitem__)
