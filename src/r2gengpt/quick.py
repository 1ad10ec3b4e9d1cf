"""The embedded model as OpenVINO graphs in the cache: how they are made. `opening` tells when they write."""

import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from r2gengpt.edge.record import COMPILED, RECORD, read_record
from r2gengpt.errors import InputError
from r2gengpt.locate import ModelChoice
from r2gengpt.opening import PREFIX, WEIGHTS, graphs_dir
from r2gengpt.options import Override
from r2gengpt.parts.embedded.cache import locked
from r2gengpt.settings import PlacementConfig


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
