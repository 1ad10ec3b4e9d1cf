"""A model that has both runtimes: OpenVINO's graphs write, and PyTorch does what they have not. Writes nothing itself.

Which of them writes a report depends on what is asked for alone, never on what is loaded or busy. So the same request
gets the same text. PyTorch is loaded when it is first needed, in a thread of its own, while the graphs go on writing.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.errors import InputError, place_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import Pixels
from r2gengpt.serving.failures import ApiError, unavailable
from r2gengpt.serving.jobs import Job
from r2gengpt.text.context import Context, instruction_for

if TYPE_CHECKING:
    from r2gengpt.reporter import Reporter

log = logging.getLogger("r2gengpt.serving")
LOADED, LOADING, NOT_LOADED, FAILED = "loaded", "loading", "not loaded", "failed"


class PairedModel:
    """A model that graphs write for, and that PyTorch loads at the first request that needs it.

    Args:
        graphs: the model as graphs, ready.
        load: loads the same model in PyTorch, under the same name.
        directory: where its card lies.
        instruction: what its prompt asks for; graphs keep nothing of it but token ids.
    """

    def __init__(self, graphs: EdgeReporter, load: Callable[[], "Reporter"], directory: Path, instruction: str) -> None:
        self.graphs, self.directory = graphs, directory
        self.name, self.decode, self.streamed, self.side = graphs.name, graphs.decode, graphs.streamed, graphs.side
        self.instruction, self.context_fields = instruction, graphs.context_fields
        self.composes, self.tells_findings, self.words = False, graphs.tells_findings, graphs.words
        self.refuses = graphs.refuses
        self.part_names, self.origin, self.written_by = graphs.part_names, graphs.origin, graphs.written_by
        self.no_text = ""  # words beside the films reach the reports that PyTorch writes
        self._load = load
        self._lock = threading.Lock()
        self._torch: Future[Reporter] | None = None

    def instruction_for(self, context: Context, headers: Sequence[DicomHeader | None] = ()) -> str | None:
        """What the prompt of a study asks for; None: the model's own instruction."""
        return instruction_for(context, self.instruction)

    def pixels(self, pictures: Sequence[Image.Image]) -> Pixels:
        """The views of one study, (V, 3, H, W), float32; the same for both runtimes."""
        return self.graphs.pixels(pictures)

    def drafts(self, job: Job) -> bool:
        """Whether the graphs write a job's report: of its films alone, by the model's own prompt, no token drawn."""
        own = job.instruction in (None, self.instruction) and job.earlier is None
        return own and job.report_text is None and not job.decode.do_sample and not job.likeliest

    def writer(self, job: Job) -> "EdgeReporter | Reporter":
        """What writes a job that is settled."""
        return self.graphs if job.by_graphs else self.loaded

    @property
    def loaded(self) -> "Reporter":
        """The model in PyTorch, once `torch` has it."""
        assert self._torch is not None
        return self._torch.result(0)

    @property
    def state(self) -> str:
        """Whether PyTorch's side is loaded, in a word or two."""
        torch = self._torch
        if torch is None:
            return NOT_LOADED
        if not torch.done():
            return LOADING
        return LOADED if torch.exception() is None else FAILED

    def torch(self) -> "Future[Reporter]":
        """The model in PyTorch, which is loaded from the first call on; what failed is tried again.

        Its failure is an `ApiError`: 503 in one line.
        """
        with self._lock:
            if self._torch is None or self.state == FAILED:
                self._torch = Future()
                self._torch.set_running_or_notify_cancel()  # one request that waits no longer stops nobody else's wait
                threading.Thread(target=self._fill, args=(self._torch,), name="loader", daemon=True).start()
            return self._torch

    def _fill(self, torch: "Future[Reporter]") -> None:
        log.info("loading PyTorch, for what the graphs have not")
        try:
            reporter = self._load()
        except BaseException as error:  # of a thread, kept for those who wait; an exit is a failure too
            torch.set_exception(_failure(error))
            return
        log.info("PyTorch is loaded")
        torch.set_result(reporter)


def _failure(error: BaseException) -> ApiError:
    """What requests get that need PyTorch; the log has it too."""
    why = error.line if isinstance(error, InputError) else place_of(error)
    log.error("PyTorch could not be loaded: %s", why)
    return unavailable("what this request asks for needs PyTorch, which could not be loaded")
