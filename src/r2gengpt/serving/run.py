"""One run of the engine over studies that wait; those that come meanwhile join it. PyTorch only; no thread, no HTTP."""

from collections.abc import Iterator

from r2gengpt.confidence.findings import Sight
from r2gengpt.generation.beams import Written
from r2gengpt.generation.engine import Prompt
from r2gengpt.generation.stopping import Listener
from r2gengpt.reporter import Reporter
from r2gengpt.serving.jobs import Answer, Job, Queue
from r2gengpt.serving.writing import batch_of, complete


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
        self.sights: dict[Job, Sight] = {}
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
        """The study as the engine takes it; None where it fails, which its request hears."""
        ready = None
        with job.failing_alone():
            batch = batch_of(self.reporter, job)
            batch, (sight,) = self.reporter.look(batch, job.check)
            prompt = self.reporter.turns.prompt(batch, job.decode, job)
            if job.is_heard:
                self.listeners[job] = self.reporter.listener(job.stop, job.on_text)
            self.sights[job], self.prompt_tokens[job] = sight, len(prompt.embeds)
            ready = prompt
        return ready

    def show(self, job: Job, token: int) -> bool:
        """The engine has a new token of a study; whether the study ends with it."""
        return job in self.listeners and self.listeners[job].show(token)

    def unwanted(self, job: Job) -> bool:
        """Whether a study leaves before it is finished."""
        if job.unwanted:
            self.prompt_tokens.pop(job)
            self.listeners.pop(job, None)
            self.sights.pop(job)
        return job.unwanted

    def finish(self, written: Written) -> None:
        """Hand a report to who waits for it."""
        job: Job = written.tag
        listener = self.listeners.pop(job, None)
        sight, prompt_tokens = self.sights.pop(job), self.prompt_tokens.pop(job)
        with job.failing_alone():
            if listener is not None:
                listener.end()
            report = self.reporter.stopped(self.reporter.turns.report_of(written), job.stop)
            answer = Answer(self.reporter.judged(sight.on(report), job.facts), prompt_tokens)
            if job.needs_model:  # when all are written: the engine has put its own attention into the model
                self.unfinished.append((job, answer))
            else:
                job.future.set_result(answer)

    def write(self) -> None:
        """All of it."""
        show = self.show if self.settings.beam_size == 1 else None
        try:
            for written in self.reporter.turns.run(self.prompts(), self.settings, self.line.share, show, self.unwanted):
                self.finish(written)
            for job, answer in self.unfinished:
                if not job.unwanted:
                    complete(self.reporter, job, answer)
        except Exception as error:
            for job in (*self.prompt_tokens, *(job for job, _ in self.unfinished)):
                job.fail(error)
            raise
