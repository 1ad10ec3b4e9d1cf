"""The one door to a model that writes reports, whichever runtime it is for. Loads PyTorch only where that is needed.

PyTorch takes longer to import and load than a report to be written. So `generate` and `serve` let OpenVINO graphs in
the cache write the embedded model's reports, where nothing is asked for that they have not. The rest, bulk runs and
training stay with PyTorch.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.checkpoint_files import EMBEDDED
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.edge.record import RECORD, film_side
from r2gengpt.edge.runtime import check_decoding
from r2gengpt.errors import InputError
from r2gengpt.files import cache_dir
from r2gengpt.locate import Located, ModelChoice, check_writer, encoder_side, locate
from r2gengpt.options import Override, nearest
from r2gengpt.settings import GuardConfig, PlacementConfig, WriterConfig

if TYPE_CHECKING:
    from r2gengpt.edge.reporter import EdgeReporter
    from r2gengpt.reporter import Reporter

    AnyReporter = Reporter | EdgeReporter


NAME = "embedded"
PREFIX = "openvino-"
WEIGHTS = "int8"
LAYOUT = 3
"""Goes up when an export's result changes: older graphs are then made anew."""
NVIDIA = Path("/dev/nvidiactl")
"""There where a machine has an NVIDIA GPU, which is asked for without a library."""


def graphs_dir() -> Path:
    """Where the embedded model's graphs lie, or would; the name holds a hash of what the model adds to its parts."""
    digest = hashlib.sha256()
    files = [path for kind in ("*.json", "*.safetensors", "*.npz") for path in sorted(EMBEDDED.glob(kind))]
    for path in files:
        digest.update(path.read_bytes())
    return cache_dir() / NAME / f"{PREFIX}{WEIGHTS}-{digest.hexdigest()[:12]}-v{LAYOUT}"


def quickest(choice: ModelChoice, *, torch: bool = False) -> ModelChoice:
    """The choice, which names the graphs where they can do what it asks for, under the model's own name.

    Args:
        choice: which model.
        torch: maps or a context are asked for, which only PyTorch has.

    Raises:
        InputError: `runtime` openvino is asked for, and the graphs are not there.
    """
    if choice.name != NAME or choice.runtime == "torch":
        return choice
    directory = graphs_dir()
    there = (directory / RECORD).is_file() and find_spec("openvino") is not None
    if choice.runtime == "openvino" and not there:
        words = f"no graphs of the embedded model in {cache_dir()}: install OpenVINO, then run `r2gengpt pull embedded`"
        raise InputError(words, field="runtime", value="openvino")
    if there and (choice.runtime == "openvino" or (not torch and serves(choice))):
        return replace(choice, name=str(directory), alias=NAME)
    return choice


def serves(choice: ModelChoice) -> bool:
    """Whether the graphs have all that a choice asks for, on a machine where PyTorch would run on the CPU too."""
    if choice.model.values or choice.placement.values or choice.retrieves:
        return False
    if choice.accelerator not in ("auto", "cpu") or (choice.accelerator == "auto" and NVIDIA.exists()):
        return False
    try:
        check_decoding(choice.decode.settled())
    except InputError:
        return False
    return True


def found(choice: ModelChoice) -> Located | None:
    """The model of a choice, nothing of it loaded; None for an edge directory.

    Raises:
        InputError: no model there, settings that contradict it, an edge directory for PyTorch, or none for OpenVINO.
    """
    edge = (Path(choice.name) / RECORD).is_file()
    if choice.runtime == "torch" and edge:
        raise InputError(
            f"`model` {choice.name} is an edge directory, which only openvino runs", field="runtime", value="torch"
        )
    if not edge and choice.runtime != "openvino":
        return locate(choice)
    film_side(Path(choice.name))  # what is no edge directory is told before anything is opened
    return None


def found_writer(choice: ModelChoice) -> Located | None:
    """As `found`, of a model that is to write reports.

    Raises:
        InputError: as `found`, or the model writes no reports.
    """
    located = found(choice)
    if located is not None:
        check_writer(located)
    return located


def side_of(choice: ModelChoice, located: Located | None) -> int:
    """The side in pixels that the model's films are resized to; `located` is as `found` gives it.

    Raises:
        InputError: the files that tell it cannot be read.
    """
    return film_side(Path(choice.name)) if located is None else encoder_side(located)


@dataclass(frozen=True)
class Served:
    """What a server is to have: the model that writes, found, and the same model in PyTorch for what that has not.

    Attributes:
        choice: the model that writes; it may name graphs of the one that was asked for.
        located: as `found` gives it.
        rest: the model in PyTorch, for what the graphs have not; None: PyTorch writes, or is not there.
    """

    choice: ModelChoice
    located: Located | None
    rest: Located | None = None

    @classmethod
    def of(cls, choice: ModelChoice) -> "Served":
        """What a choice means: graphs of the embedded model where they have what it asks for, and PyTorch beside them.

        Raises:
            InputError: as `found`, or the model writes no reports.
        """
        drafts = quickest(choice)
        located, rest = found_writer(drafts), None
        if drafts is not choice and choice.runtime == "auto" and find_spec("torch") is not None:
            rest = found_writer(choice)
        return cls(drafts, located, rest)


def opened(choice: ModelChoice, located: Located | None, *, frugal: bool = True) -> "AnyReporter":
    """The model, ready to write.

    Args:
        choice: which one.
        located: as `found` gives it.
        frugal: an edge directory keeps its encoder only as long as a study needs it; False: for many studies.

    Raises:
        InputError: parts that cannot be loaded.
    """
    if located is None:
        from r2gengpt.edge.reporter import EdgeReporter

        return EdgeReporter.load(choice, frugal=frugal)
    from r2gengpt.reporter import Reporter

    return Reporter.of(located)


def load(
    model: str | Path = "embedded",
    *,
    accelerator: str = "auto",
    runtime: str = "auto",
    abstain_below: float | None = None,
    **settings: object,
) -> "AnyReporter":
    """A model that writes reports.

    Of the embedded model OpenVINO's graphs write where they are in the cache and have what is asked for: they are ready
    in a second. PyTorch is then loaded by the first call that needs it, for maps, a context or an earlier study.

    >>> import r2gengpt
    >>> reporter = r2gengpt.load("embedded")  # doctest: +SKIP
    >>> report = reporter.report(["frontal.png"])  # doctest: +SKIP
    >>> report.text, report.sentences[0].confidence, report.asserted  # doctest: +SKIP

    Args:
        model: embedded, a checkpoint or run directory, an exported directory, or an original `.pth` file.
        accelerator: auto, cpu, gpu, cuda or mps.
        runtime: torch, openvino, or auto: what the directory was made for; of the embedded model both, see above.
        abstain_below: sentences less sure than this are marked for review.
        **settings: of the model, its decoding and its place, by the names of the flags: `beam_size=1`,
            `dtype="float32"`, `quantization="w8a8"`, `writer="retrieve"`, `film_guard="refuse"`.

    Raises:
        InputError: no model there, an unknown setting, or one that is refused.
    """
    if not isinstance(model, str | Path):
        raise InputError("must be a name or a path", field="model", value=repr(model))
    try:
        Path(model).exists()
    except OSError as error:  # a name longer than any file's, or a directory that is closed
        raise InputError(str(error.strerror), field="model", value=model) from None
    kinds = (ModelConfig, DecodeConfig, PlacementConfig, WriterConfig, GuardConfig)
    known = [f.name for kind in kinds for f in fields(kind)]
    for name in settings:
        if name not in known:
            raise InputError(f"unknown setting {name}{nearest(name, known)}")
    choice = ModelChoice(
        name=str(model),
        model=Override.of(ModelConfig, settings),
        decode=Override.of(DecodeConfig, settings),
        placement=Override.of(PlacementConfig, settings),
        accelerator=accelerator,
        runtime=runtime,
        abstain_below=abstain_below,
        writer=Override.of(WriterConfig, settings).settled().writer,
        film_guard=Override.of(GuardConfig, settings).settled().film_guard,
    )
    drafts = quickest(choice)
    if drafts is not choice:
        from r2gengpt.edge.reporter import EdgeReporter

        graphs = EdgeReporter.load(drafts, frugal=False)
        return replace(graphs, torch=in_torch(choice)) if runtime == "auto" and find_spec("torch") else graphs
    if (located := found(choice)) is None:
        return opened(choice, None)
    with quiet_libraries():
        return opened(choice, located)


def in_torch(choice: ModelChoice) -> "Callable[[], Reporter]":
    """Loads a choice in PyTorch when it is first called; then it gives the same model."""

    @cache
    def load_once() -> "Reporter":
        from r2gengpt.reporter import Reporter

        with quiet_libraries():
            return Reporter.load(replace(choice, runtime="torch"))

    return load_once


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No bars of loaded weights and no advice on kernels while a model opens; then all is as the caller had it."""
    from transformers.utils import logging as library

    bitsandbytes = logging.getLogger("bitsandbytes")
    bars, level = library.is_progress_bar_enabled(), bitsandbytes.level
    library.disable_progress_bar()
    bitsandbytes.setLevel(logging.ERROR)
    try:
        yield
    finally:
        bitsandbytes.setLevel(level)
        if bars:
            library.enable_progress_bar()
