"""One thread that writes all reports: studies join the engine's run while others are being written. No HTTP."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from r2gengpt.errors import InputError, place_of
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.decode import prompts_of
from r2gengpt.generation.engine import Engine, Prompt, use_engine
from r2gengpt.generation.sentences import report_of
from r2gengpt.generation.stopping import stopped
from r2gengpt.report import Finding, Report
from r2gengpt.reporter import Reporter
from r2gengpt.serving.jobs import Answer, Job, Queue
from r2gengpt.serving.writing import Listener, complete, write_alone

log = logging.getLogger("r2gengpt.serving")


class Run:
    """One run of the engine over jobs of equal settings, those that come while it goes on included."""

    def __init__(self, reporter: Reporter, line: Queue, first: Job) -> None:
        self.reporter = reporter
        self.line = line
        self.settings = first.settings
        self.began = first
        self.first: Job | None = first
        self.unfinished: list[tuple[Job, Answer]] = []
        self.so_far = 0
        self.prompt_tokens: dict[Job, int] = {}
        self.findings: dict[Job, tuple[Finding, ...]] = {}
        self.listeners: dict[Job, Listener] = {}

    def prompts(self) -> Iterator[Prompt | None]:
        """For the engine: the next study, None while nobody waits; it ends when all are through and nobody waits."""
        while True:
            job = self.first or self.line.next_of(self.began, self.so_far)
            self.first = None
            if job is None:
                if not self.prompt_tokens:
                    return
                yield None
                continue
            self.so_far += 1
            prompt = self._prompt(job)
            if prompt is not None:
                yield prompt

    def _prompt(self, job: Job) -> Prompt | None:
        """The study as the engine takes it; None where its text is refused, which its request hears."""
        built = self.reporter.built
        try:
            batch = self.reporter.batch(job.pixels, job.instruction)
            batch, (self.findings[job],) = self.reporter.look(batch, job.instruction)
            (prompt,) = prompts_of(built.model, [batch], job.decode)
        except Exception as error:
            job.fail(error)
            if not isinstance(error, InputError):
                raise
            return None
        self.prompt_tokens[job] = len(prompt.embeds)
        listener = Listener.of(job, built.processor)
        if listener is not None and job.decode.beam_size == 1:
            self.listeners[job] = listener
        return replace(prompt, tag=job)

    def show(self, job: Job, token: int) -> bool:
        """The engine has a new token of a study; whether the study ends with it."""
        return job in self.listeners and self.listeners[job].show(token)

    def unwanted(self, job: Job) -> bool:
        """Whether a study leaves before it is finished."""
        if job.unwanted:
            self.prompt_tokens.pop(job)
            self.listeners.pop(job, None)
            self.findings.pop(job)
        return job.unwanted

    def finish(self, written: Written) -> None:
        """Hand a report to who waits for it."""
        job: Job = written.tag
        if job in self.listeners:
            self.listeners.pop(job).end()
        processor = self.reporter.built.processor
        report = stopped(report_of(processor, written, study="study"), processor, job.stop)
        report = replace(report, findings=self.findings.pop(job))
        answer = Answer(self.reporter.judged(report), self.prompt_tokens.pop(job))
        if job.needs_model:  # when all are written: the engine has put its own attention into the model
            self.unfinished.append((job, answer))
        else:
            job.future.set_result(answer)

    def write(self) -> None:
        """All of it."""
        built = self.reporter.built
        rules = Rules.of(self.settings, built.processor.end_token_id)
        show = self.show if self.settings.beam_size == 1 else None
        engine = Engine(built.model.language_model, rules, self.line.share, show, unwanted=self.unwanted)
        try:
            for written in engine.run(self.prompts()):
                self.finish(written)
            for job, answer in self.unfinished:
                if not job.unwanted:
                    complete(self.reporter, job, answer)
        except Exception as error:
            for job in (*self.prompt_tokens, *(job for job, _ in self.unfinished)):
                job.fail(error)
            raise


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
        self._reporter: Reporter | None = None
        self._running: Run | None = None
        self._thread: threading.Thread | None = None

    @property
    def reporter(self) -> Reporter | None:
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
        return 0 if run is None else len(run.prompt_tokens)

    def start(self, load: Callable[[], Reporter], on_loaded: Callable[[], None] = lambda: None) -> None:
        """Load the model and serve, in the thread; `failure` is why it could not."""
        self._thread = threading.Thread(target=self._work, args=(load, on_loaded), name="writer", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Take nobody any more: who waits gets 503, who is being written is finished."""
        self.draining = True
        self.line.close("the server is shutting down")

    def stop(self, seconds: float) -> bool:
        """Drain, and wait for the thread to end; whether it did."""
        self.drain()
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _work(self, load: Callable[[], Reporter], on_loaded: Callable[[], None]) -> None:
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
            except Exception as error:  # those who waited for this run have heard; the next run is another one
                log.error("a run ended with %s", place_of(error))

    def _write(self, reporter: Reporter, job: Job) -> None:
        if job.told is not None:
            complete(reporter, job, Answer(Report("study", job.told), 0))
            return
        if reporter.composer is not None or not use_engine(reporter.built.model.language_model, job.decode):
            write_alone(reporter, job)
            return
        self._running = Run(reporter, self.line, job)
        try:
            self._running.write()
        finally:
            self._running = None
