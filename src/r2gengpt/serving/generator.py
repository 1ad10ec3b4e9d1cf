"""One thread that writes all reports, by the runtime that the model has. No HTTP."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.errors import place_of
from r2gengpt.report import Report
from r2gengpt.serving.jobs import Answer, Job, Queue
from r2gengpt.serving.paired import LOADING, PairedModel
from r2gengpt.serving.served import ServedModel, in_torch, writer_of

if TYPE_CHECKING:
    from r2gengpt.serving.run import Run

log = logging.getLogger("r2gengpt.serving")


class Generator:
    """The model and the thread that writes with it.

    Args:
        slots: studies written at once.
        places: requests in work or waiting.
    """

    def __init__(self, slots: int, places: int) -> None:
        self.line = Queue(places, slots)
        self.failure: BaseException | None = None
        self.draining = False
        self._reporter: ServedModel | None = None
        self._running: Run | None = None
        self._alone = 0
        self._thread: threading.Thread | None = None

    @property
    def reporter(self) -> "ServedModel | None":
        """The model, once it is loaded."""
        return self._reporter

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._reporter is not None and not self.draining

    @property
    def running(self) -> int:
        """How many studies are being written."""
        run = self._running
        return self._alone if run is None else len(run.prompt_tokens)

    def start(self, load: Callable[[], ServedModel], on_loaded: Callable[[], None] = lambda: None) -> None:
        """Load the model and serve, in the thread; `failure` is why it could not."""
        self._thread = threading.Thread(target=self._work, args=(load, on_loaded), name="writer", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Take nobody any more: who waits gets 503, who is being written is finished."""
        self.draining = True
        self.line.close("the server is shutting down")

    def stop(self, seconds: float) -> bool:
        """Drain, and wait for the thread to end; whether it did, and no other one loads anything."""
        self.drain()
        if self._thread is not None:
            self._thread.join(seconds)
        loading = isinstance(self._reporter, PairedModel) and self._reporter.state == LOADING
        return not loading and (self._thread is None or not self._thread.is_alive())

    def _work(self, load: Callable[[], ServedModel], on_loaded: Callable[[], None]) -> None:
        try:
            self._reporter = load()
        except BaseException as error:  # of a thread, kept for the one that started it; an exit is a failure too
            self.failure = error
            self.line.close("the model could not be loaded")
            return
        on_loaded()
        while (job := self.line.first()) is not None:
            try:
                self._write(self._reporter, job)
            except Exception as error:  # of a run; the next one is another
                job.fail(error)
                log.error("a run ended with %s", place_of(error))

    def _write(self, model: ServedModel, job: Job) -> None:
        writer = writer_of(model, job)
        if isinstance(writer, EdgeReporter):
            self._write_by_graphs(model, writer, job)
            return
        from r2gengpt.serving.run import Run
        from r2gengpt.serving.writing import complete, write_alone

        reporter = in_torch(writer)
        if job.report_text is not None:
            complete(reporter, job, Answer(Report("study", job.report_text), 0))
            return
        if not reporter.turns.possible(job.decode):
            self._write_alone(lambda: write_alone(reporter, job))
            return
        self._running = Run(reporter, self.line, job)
        try:
            self._running.write()
        finally:
            self._running = None

    def _write_by_graphs(self, model: ServedModel, graphs: EdgeReporter, job: Job) -> None:
        deliver = hand_out
        if job.needs_model:  # the text is the graphs', its maps are PyTorch's
            from r2gengpt.serving.writing import complete

            deliver = partial(complete, in_torch(model))
        self._write_alone(lambda: write_by_openvino(graphs, job, deliver))

    def _write_alone(self, write: Callable[[], None]) -> None:
        self._alone = 1
        try:
            write()
        finally:
            self._alone = 0


def hand_out(job: Job, answer: Answer) -> None:
    """Give a report to who waits for it."""
    job.future.set_result(answer)


def write_by_openvino(model: EdgeReporter, job: Job, deliver: Callable[[Job, Answer], None] = hand_out) -> None:
    """Write a job's report, and hand it to who waits, or to `deliver`, which adds to it and hands it on."""
    listener = model.listener(job.stop, job.on_text) if job.is_heard else None

    def watch(token: int) -> bool:
        job.check_wanted()
        return listener is not None and listener.show(token)

    with job.failing_alone():
        report, prompt_tokens = model.draft(job.pixels, job.decode, watch, job.check)
        if listener is not None:
            listener.end()
        deliver(job, Answer(model.judged(model.stopped(report, job.stop), job.facts), prompt_tokens))
