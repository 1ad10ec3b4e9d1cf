"""What the server asks of a model, whichever runtime it has. Loads none, and imports no PyTorch by itself."""

from typing import TYPE_CHECKING, Any, TypeAlias

from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.errors import InputError
from r2gengpt.provenance import Source, provenance
from r2gengpt.serving.failures import UNSUPPORTED, ApiError
from r2gengpt.serving.jobs import Job
from r2gengpt.serving.paired import LOADED, PairedModel

if TYPE_CHECKING:
    from r2gengpt.reporter import Reporter

OPENVINO, TORCH = "openvino", "torch"
ServedModel: TypeAlias = "Reporter | EdgeReporter | PairedModel"
"""A model as routes and the writing thread see it."""


def runs_in_torch(model: ServedModel) -> bool:
    """Whether PyTorch runs a model, or can where the graphs cannot."""
    return not isinstance(model, EdgeReporter)


def runtimes_of(model: ServedModel) -> dict[str, str]:
    """What runs a model, first what writes a plain report, each with whether it is loaded."""
    if isinstance(model, PairedModel):
        return {OPENVINO: LOADED, TORCH: model.state}
    return {TORCH if runs_in_torch(model) else OPENVINO: LOADED}


def writer_of(model: ServedModel, job: Job) -> "Reporter | EdgeReporter":
    """What writes the report of a job that is settled: the model, or one of its two runtimes."""
    return model.writer(job) if isinstance(model, PairedModel) else model


def made_with(model: ServedModel, job: Job, sources: list[Source]) -> dict[str, Any]:
    """What a job's report was made with and from, for its answer."""
    writer = writer_of(model, job)
    made = provenance(writer.name, writer.origin, job.decode, sources, job.earlier_sources)
    return {**made, "runtime": TORCH if runs_in_torch(writer) else OPENVINO, **writer.written_by}


def check_torch(model: ServedModel, param: str, what: str) -> None:
    """Refuse what only PyTorch does.

    Args:
        model: which.
        param: the field of the request that asks for it.
        what: it does, in the plural.

    Raises:
        ApiError: 400, the model runs without.
    """
    if not runs_in_torch(model):
        words = f"{param}: {what} need PyTorch, and this server runs its model by OpenVINO"
        raise ApiError(400, words, UNSUPPORTED, param=param)


def maps_of(model: ServedModel) -> bool:
    """Whether a model has maps of what its sentences rest on."""
    if not runs_in_torch(model):
        return False
    if isinstance(model, PairedModel):
        return model.tells_findings  # its head's; they are made when PyTorch is loaded
    try:
        in_torch(model).maps.check()
    except InputError:
        return False
    return True


def in_torch(model: ServedModel) -> "Reporter":
    """A model that `check_torch` has passed, with all that it has in PyTorch; of both runtimes, once it is loaded."""
    if isinstance(model, PairedModel):
        return model.loaded
    from r2gengpt.reporter import Reporter

    assert isinstance(model, Reporter)
    return model
