"""One thread that writes all reports: studies join the engine's run while others are being written. No HTTP."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from r2gengpt.build import Built
from r2gengpt.config import DecodeConfig
from r2gengpt.data.loading import Batch
from r2gengpt.errors import InputError, place_of
from r2gengpt.generation.confidence import Calibration, with_confidence
from r2gengpt.generation.decode import (
    CallbackStreamer,
    engine_rules,
    predict,
    prediction_of,
    prompts_of,
    stream,
    use_engine,
)
from r2gengpt.generation.engine import Engine, Prompt, Written
from r2gengpt.generation.evidence import report_evidence
from r2gengpt.generation.prediction import Prediction
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.model.int8 import Int8Linear
from r2gengpt.model.processing import pad_views
from r2gengpt.serving.jobs import Answer, Job, Line

log = logging.getLogger("r2gengpt.serving")


@dataclass(frozen=True)
class Served:
    """The model of a server: its name to clients, how it decodes a whole report and a streamed one unless asked
    otherwise, what it is made of, and how far its sentences can be relied on: by a calibration, with marks on those
    below a limit."""

    name: str
    built: Built
    decode: DecodeConfig
    streamed: DecodeConfig
    origin: dict[str, Any]
    calibration: Calibration | None = None
    abstain_below: float | None = None

    def answer(self, prediction: Prediction, prompt_tokens: int) -> Answer:
        """A finished report, with confidence in its sentences."""
        return Answer(with_confidence(prediction, self.calibration, self.abstain_below), prompt_tokens)


def job_batch(job: Job, built: Built) -> Batch:
    """The job as a batch of one prompt.

    Raises:
        InputError: a text that cannot be a prompt of this model.
    """
    ids = torch.tensor([built.processor.prompt_row(len(job.pixels), job.instruction)])
    pixels, mask = pad_views([job.pixels])
    return Batch(("study",), ("",), ids, torch.ones_like(ids), pixels, mask)


class Run:
    """One run of the engine over jobs of equal settings, those that come while it goes on included."""

    def __init__(self, served: Served, line: Line, first: Job) -> None:
        self.served = served
        self.line = line
        self.settings = first.settings
        self.began = first
        self.first: Job | None = first
        self.unexplained: list[tuple[Job, Answer]] = []
        self.so_far = 0
        self.prompt_tokens: dict[Job, int] = {}
        self.streamers: dict[Job, CallbackStreamer] = {}

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
        built = self.served.built
        try:
            (prompt,) = prompts_of(built.model, [job_batch(job, built)], job.decode, [])
        except Exception as error:
            job.fail(error)
            if not isinstance(error, InputError):
                raise
            return None
        self.prompt_tokens[job] = len(prompt.embeds)
        if job.on_text is not None:
            streamer = CallbackStreamer(built.processor, job.on_text)
            streamer.next_tokens_are_prompt = False  # the engine hands out new tokens only
            self.streamers[job] = streamer
        return replace(prompt, tag=job)

    def show(self, job: Job, token: int) -> None:
        """The engine has a new token of a study."""
        if job in self.streamers:
            self.streamers[job].put(torch.tensor([token]))

    def unwanted(self, job: Job) -> bool:
        """Whether a study leaves before it is finished."""
        if job.unwanted:
            self.prompt_tokens.pop(job)
            self.streamers.pop(job, None)
        return job.unwanted

    def finish(self, written: Written) -> None:
        """Hand a report to who waits for it."""
        job: Job = written.tag
        if job in self.streamers:
            self.streamers.pop(job).end()
        prediction = prediction_of(self.served.built.processor, ("study", ""), written)
        answer = self.served.answer(prediction, self.prompt_tokens.pop(job))
        if job.evidence:  # when all are written: the engine has put its own attention into the model
            self.unexplained.append((job, answer))
        else:
            job.future.set_result(answer)

    def write(self) -> None:
        """All of it."""
        built = self.served.built
        rules = engine_rules(self.settings, built.processor.end_token_id)
        show = self.show if self.settings.beam_size == 1 else None
        engine = Engine(built.model.language_model, rules, self.line.share, show, unwanted=self.unwanted)
        try:
            for written in engine.run(self.prompts()):
                self.finish(written)
            for job, answer in self.unexplained:
                if not job.unwanted:
                    explain(self.served, job, answer)
        except Exception as error:
            for job in (*self.prompt_tokens, *(job for job, _ in self.unexplained)):
                job.fail(error)
            raise


def map_method(model: R2GenGPTForConditionalGeneration) -> str:
    """How maps are made while others wait: by a backward pass a sentence, or by a pass a token where there is none."""
    return "occlusion" if any(isinstance(module, Int8Linear) for module in model.modules()) else "gradient"


def explain(served: Served, job: Job, answer: Answer) -> None:
    """Hand out a report with maps of what its sentences rest on."""
    model, processor = served.built.model, served.built.processor
    try:
        batch = job_batch(job, served.built).to(model.device)
        evidence = report_evidence(model, processor, batch, answer.prediction.prediction, map_method(model))
    except Exception as error:
        job.fail(error)
        if not isinstance(error, InputError):
            raise
        return
    job.future.set_result(replace(answer, evidence=evidence))


def write_alone(served: Served, job: Job) -> None:
    """One report by transformers' `generate`, for language models that the engine cannot serve."""
    built = served.built
    try:
        batch = job_batch(job, built)
        if job.on_text is None:
            (prediction,) = predict(built.model, built.processor, [batch], job.decode)
        else:
            prediction = stream(built.model, built.processor, batch, job.decode, job.on_text)
    except Exception as error:
        job.fail(error)
        if not isinstance(error, InputError):
            raise
        return
    answer = served.answer(prediction, batch.input_ids.shape[1])
    if job.evidence:
        explain(served, job, answer)
    else:
        job.future.set_result(answer)


class Generator:
    """The model and the thread that writes with it.

    Args:
        slots: studies written at once.
        places: requests in work or waiting.
    """

    def __init__(self, slots: int, places: int) -> None:
        self.line = Line(places, slots)
        self.failure: BaseException | None = None
        self.draining = False
        self._served: Served | None = None
        self._running: Run | None = None
        self._thread: threading.Thread | None = None

    @property
    def served(self) -> Served | None:
        """The model, once it is loaded."""
        return self._served

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._served is not None and not self.draining

    @property
    def running(self) -> int:
        """How many studies are being written."""
        run = self._running
        return 0 if run is None else len(run.prompt_tokens)

    def start(self, load: Callable[[], Served], on_loaded: Callable[[], None] = lambda: None) -> None:
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

    def _work(self, load: Callable[[], Served], on_loaded: Callable[[], None]) -> None:
        try:
            self._served = load()
        except BaseException as error:  # of a thread, kept for the one that started it; an exit is a failure too
            self.failure = error
            self.line.close("the model could not be loaded")
            return
        on_loaded()
        while (job := self.line.first()) is not None:
            try:
                self._write(self._served, job)
            except Exception as error:  # those who waited for this run have heard; the next run is another one
                log.error("a run ended with %s", place_of(error))

    def _write(self, served: Served, job: Job) -> None:
        if job.told is not None:
            explain(served, job, Answer(Prediction("study", job.told), 0))
            return
        if not use_engine(served.built.model, job.decode):
            write_alone(served, job)
            return
        self._running = Run(served, self.line, job)
        try:
            self._running.write()
        finally:
            self._running = None
