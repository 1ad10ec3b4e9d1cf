"""One study's report by OpenVINO, its text handed out while it is written. No PyTorch, no HTTP, no other study."""

from collections.abc import Callable

from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.generation.sentences import TextPieces
from r2gengpt.generation.stopping import StopWatch, stopped
from r2gengpt.serving.jobs import Answer, Job


class Follower:
    """Follows a report's tokens: hands out its text, looks for stop strings, and for whether anybody waits."""

    def __init__(self, model: EdgeReporter, job: Job) -> None:
        self.job = job
        self.watch = StopWatch(job.stop, job.on_text or (lambda text: None))
        self.pieces = TextPieces(model.words, self.watch.take)

    def token(self, token: int) -> bool:
        """One token more; whether the text ends here.

        Raises:
            Left: nobody waits.
        """
        self.job.check_wanted()
        if self.job.decode.beam_size == 1:  # of several beams no word is final before the end
            self.pieces.show(token)
        return self.watch.stopped

    def end(self) -> None:
        """No token comes any more."""
        self.pieces.end()
        self.watch.end()


def hand_out(job: Job, answer: Answer) -> None:
    """Give a report to who waits for it."""
    job.future.set_result(answer)


def write_by_openvino(model: EdgeReporter, job: Job, deliver: Callable[[Job, Answer], None] = hand_out) -> None:
    """Write a job's report, and hand it to who waits, or to `deliver`, which adds to it and hands it on."""
    follower = Follower(model, job)
    with job.failing_alone():
        report, prompt_tokens = model.draft(job.pixels, job.decode, follower.token, job.check)
        if job.decode.beam_size == 1:
            follower.end()
        deliver(job, Answer(model.judged(stopped(report, model.words, job.stop), job.facts), prompt_tokens))
