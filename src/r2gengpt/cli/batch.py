"""`r2gengpt batch`: reports of many studies, on this machine or a cluster; started again, it goes on where it was."""

import os
from functools import partial
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.config import BatchConfig, CellConfig, DecodeConfig, ModelConfig, PlacementConfig, ReviewConfig
from r2gengpt.errors import InputError

CONFIGS = (BatchConfig, ModelConfig, PlacementConfig, DecodeConfig, ReviewConfig, CellConfig)


def main(argv: list[str]) -> None:
    """Parse and run; prints the path of the manifest."""
    parser = bridge.Parser(prog="r2gengpt batch", allow_abbrev=False, description=__doc__)
    parser.add_argument("--delta", "--model", dest="model", default="embedded", metavar="DIR",
                        help="trained model, or an original .pth (default: embedded)")  # fmt: skip
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "cuda"), help="device")
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.given_values(space, CONFIGS)
    batch, review = bridge.make(BatchConfig, given), bridge.make(ReviewConfig, given)
    limits = bridge.make(CellConfig, given)
    own = {*vars(batch), *vars(review), *vars(limits)}
    given = {name: value for name, value in given.items() if name not in own}
    decode = bridge.make(DecodeConfig, given)
    if decode.speculate:
        raise InputError("--speculate True: a bulk run writes without drafts; leave it out")

    from r2gengpt.batch.cluster import quiet_ray
    from r2gengpt.batch.driver import run_batch
    from r2gengpt.batch.listing import read_listing

    quiet_ray()
    from r2gengpt.cli.console import start_logging

    start_logging()
    model = space.model if space.model == "embedded" else str(Path(space.model).absolute())
    located = Located(model, given, batch, review.abstain_below, space.accelerator, limits)
    source = Path(batch.input)
    manifest = run_batch(
        Path(batch.output),
        lambda: read_listing(source, batch.base_dir, batch.split),
        located.settings,
        located.work,
    )
    print(manifest)


class Located:
    """A model that is known by its settings only: what rows depend on, and how workers load it.

    Raises:
        InputError: no model there, or flags that contradict it.
    """

    def __init__(
        self,
        model: str,
        given: dict[str, Any],
        batch: BatchConfig,
        below: float | None,
        accelerator: str,
        limits: CellConfig | None = None,
    ) -> None:
        from r2gengpt.checkpoint import DELTA
        from r2gengpt.cli.models import locate_model
        from r2gengpt.generation.decoding import decodings
        from r2gengpt.serving.provenance import file_sha256

        self.directory, self.found = locate_model(model, "--delta", given)
        self.limits = limits or CellConfig()
        self.model, self.given, self.batch, self.below, self.accelerator = model, given, batch, below, accelerator
        decode = decodings({**self.found, "speculate": False}, given, self.directory).whole
        self.where = bridge.make(PlacementConfig, given)
        parts = {name: value for name, value in self.found.items() if name in ModelConfig.__dataclass_fields__}
        self.settings: dict[str, Any] = {
            "input": os.path.realpath(batch.input),
            "delta": model,
            "delta_sha256": file_sha256(self.directory / DELTA),
            "split": batch.split,
            "force": batch.force,
            "mixed_patients": batch.mixed_patients,
            "format": batch.format,
            "batch_size": batch.batch_size,
            "shard_size": batch.studies_a_shard,
            "abstain_below": below,
            **vars(decode),
            **parts,
            **vars(self.where),
        }

    def work(self) -> Any:
        """What Ray's workers do, and how many there are."""
        from r2gengpt.batch.cluster import Workers
        from r2gengpt.batch.decode import FilmPixels
        from r2gengpt.batch.driver import Work
        from r2gengpt.build import load_image_processor
        from r2gengpt.cli.models import device_of
        from r2gengpt.data.containers import DicomChoice
        from r2gengpt.model.processing import film_side

        whole = self.found.get("model_type") == "r2gengpt"
        remote = self.where.trust_remote_code
        image_processor = load_image_processor(self.found["vision_model"], trust_remote_code=remote, whole=whole)
        batch, cores = self.batch, os.cpu_count() or 1
        choice = DicomChoice(force=batch.force, mixed_patients=batch.mixed_patients)
        pixels = FilmPixels(image_processor, film_side(image_processor), choice, self.limits)
        gpu = {"auto": None, "cpu": False}.get(self.accelerator, True)
        here = batch.address is None and (gpu is False or device_of("auto") == "cpu")
        threads = batch.threads or (max(1, cores // batch.actors) if here else 1)
        decoders = batch.decode_workers or max(1, cores - batch.actors * threads)
        make = partial(load_writer, self.model, self.given, batch.batch_size, self.below, gpu)
        return Work(pixels, make, Workers(batch.actors, threads, gpu, decoders), batch.address)


def load_writer(model: str, given: dict[str, Any], batch_size: int, below: float | None, gpu: bool | None) -> Any:
    """In an actor: the model, on the GPU that Ray has given the actor, or on the CPU.

    Raises:
        InputError: parts that cannot be loaded, or an engine that cannot serve them.
    """
    from r2gengpt.batch.writer import ModelWriter, row_origin
    from r2gengpt.build import place
    from r2gengpt.cli.console import return_large_blocks, start_logging
    from r2gengpt.cli.models import device_of, load_model
    from r2gengpt.generation.confidence import calibration_beside
    from r2gengpt.generation.decode import use_engine
    from r2gengpt.generation.decoding import decodings
    from r2gengpt.serving.provenance import origin_of

    start_logging()
    return_large_blocks()
    built, settings, directory = load_model(model, "--delta", given)
    decode = decodings({**settings, "speculate": False}, given, directory).whole
    calibration = calibration_beside(directory, decode, below)
    device = device_of("gpu" if gpu else "auto") if gpu is not False else "cpu"
    place(built.model, device, settings.get("quantization", "none"))
    use_engine(built.model, decode)
    origin = row_origin(origin_of(built.model, settings, directory), Path(model).name, decode)
    return ModelWriter(built, decode, batch_size, origin, calibration, below)
