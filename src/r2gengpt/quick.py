"""The embedded model as OpenVINO graphs in the cache: where they lie, when they write, how they are made. Runs none.

PyTorch takes longer to import and load than a report to be written. So `generate` and `serve` let these graphs write
the embedded model's reports, where nothing is asked for that they have not. The rest, bulk runs and training stay with
PyTorch.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from r2gengpt.checkpoint_files import EMBEDDED
from r2gengpt.edge.record import COMPILED, RECORD, read_record
from r2gengpt.edge.runtime import check_decoding
from r2gengpt.errors import InputError
from r2gengpt.files import cache_dir
from r2gengpt.locate import ModelChoice
from r2gengpt.options import Override
from r2gengpt.parts.embedded.cache import locked
from r2gengpt.settings import PlacementConfig

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


def make_graphs(say: Callable[[str], None] | None = None) -> Path | None:
    """Make the embedded model's graphs, and compile them once; None without OpenVINO.

    They appear under their name in one rename. Graphs of an older model are removed, damaged ones made anew.

    Raises:
        InputError: the parts are not in the cache, or the cache cannot be written.
    """
    tell = say or (lambda line: print(line, file=sys.stderr, flush=True))
    if find_spec("openvino") is None:
        tell("no graphs for OpenVINO, which is not installed: `generate` takes PyTorch")
        return None
    directory = graphs_dir()
    with locked(directory.parent, tell):
        if (directory / RECORD).is_file():
            try:
                read_record(directory, "model")
                tell(f"graphs for OpenVINO: already in the cache, {directory.name}, verified")
                return directory
            except InputError as error:
                tell(f"graphs for OpenVINO: damaged, made anew ({error})")
        tell("graphs for OpenVINO: exporting the model, its language model in 8 bits; some 20 seconds")
        for old in directory.parent.glob(f"{PREFIX}*"):
            shutil.rmtree(old)
        export_graphs(directory)
    tell("graphs for OpenVINO: ready")
    return directory


def export_graphs(directory: Path) -> None:
    """Write the graphs as a directory of their own, and keep them compiled beside."""
    from r2gengpt.edge.runtime import Edge
    from r2gengpt.exporting import export_edge
    from r2gengpt.locate import locate
    from r2gengpt.reporter import Reporter

    made = directory.with_name(f".pull-{directory.name}")
    shutil.rmtree(made, ignore_errors=True)
    exact = ModelChoice(placement=Override(PlacementConfig, {"dtype": "float32"}), accelerator="cpu")
    export_edge(Reporter.of(locate(exact)), made, weights=WEIGHTS, merge=True)
    (made / COMPILED).mkdir()
    made.rename(directory)
    Edge(directory).compile()
