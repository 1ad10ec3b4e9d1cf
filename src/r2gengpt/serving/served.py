"""What the server asks of a model, whichever runtime it has. Loads none, and imports no PyTorch by itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from r2gengpt.config import DecodeConfig
from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.generation.beams import Floats
from r2gengpt.generation.sentences import TokenWords
from r2gengpt.provenance import Origin, Source, provenance
from r2gengpt.serving.failures import UNSUPPORTED, ApiError
from r2gengpt.serving.jobs import Job
from r2gengpt.serving.paired import LOADED, PairedModel
from r2gengpt.text.context import Context

if TYPE_CHECKING:
    from r2gengpt.reporter import Reporter

OPENVINO, TORCH = "openvino", "torch"


class ServedModel(Protocol):
    """A model as routes and the writing thread see it: a `Reporter`, an `EdgeReporter`, or both as a `PairedModel`."""

    @property
    def name(self) -> str:
        """As its reports call it."""

    @property
    def directory(self) -> Path:
        """Where its card lies."""

    @property
    def decode(self) -> DecodeConfig:
        """How a whole report is decoded."""

    @property
    def streamed(self) -> DecodeConfig:
        """The same of a report that is streamed."""

    @property
    def side(self) -> int:
        """What films are reduced for, in pixels."""

    @property
    def instruction(self) -> str:
        """What its prompt asks for."""

    @property
    def context_fields(self) -> tuple[str, ...]:
        """What of a study's context it was trained to find in its prompt."""

    @property
    def no_text(self) -> str:
        """Why words beside the films do not reach its reports; empty where they do."""

    @property
    def composes(self) -> bool:
        """Whether its reports are composed of training sentences."""

    @property
    def tells_findings(self) -> bool:
        """Whether it has a finding head."""

    @property
    def refuses(self) -> bool:
        """Whether a film that shows no chest is refused, unless it is asked for."""

    @property
    def origin(self) -> Origin:
        """What all its reports were made with."""

    @property
    def written_by(self) -> Mapping[str, str | None]:
        """Who wrote, where it was not the language model in PyTorch."""

    @property
    def words(self) -> TokenWords:
        """What knows its tokens."""

    @property
    def part_names(self) -> tuple[str, str]:
        """The encoder's name and the language model's, as clients may see them."""

    def instruction_for(self, context: Context, headers: Sequence[DicomHeader | None] = ()) -> str | None:
        """What the prompt of a study asks for; None: the model's own instruction."""

    def pixels(self, pictures: Sequence[Image.Image]) -> Floats:
        """The views of one study, (V, 3, H, W), float32."""


def runs_in_torch(model: ServedModel) -> bool:
    """Whether PyTorch runs a model, or can where the graphs cannot."""
    return not isinstance(model, EdgeReporter)


def runtimes_of(model: ServedModel) -> dict[str, str]:
    """What runs a model, first what writes a plain report, each with whether it is loaded."""
    if isinstance(model, PairedModel):
        return {OPENVINO: LOADED, TORCH: model.state}
    return {TORCH if runs_in_torch(model) else OPENVINO: LOADED}


def writer_of(model: ServedModel, job: Job) -> ServedModel:
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
        in_torch(model).check_explained()
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
