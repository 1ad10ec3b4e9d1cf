"""One study's report by PyTorch: what the model tells of it once it is written, and one that is written alone."""

from dataclasses import replace

import torch

from r2gengpt.data.batches import Batch
from r2gengpt.reporter import Reporter
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.text.stopping import StopWatch


def batch_of(reporter: Reporter, job: Job) -> Batch:
    """A job's study as the model takes it."""
    earlier = None if job.earlier is None else torch.from_numpy(job.earlier)
    return reporter.batch(torch.from_numpy(job.pixels), job.instruction, earlier=earlier, context=job.context)


def complete(reporter: Reporter, job: Job, answer: Answer) -> None:
    """Hand out a report with what the model tells of it besides: maps, the likeliest tokens."""
    with job.failing_alone():
        if job.evidence:
            answer = explained(reporter, job, answer)
        if job.likeliest:
            answer = with_likeliest(reporter, job, answer)
        job.future.set_result(answer)


def explained(reporter: Reporter, job: Job, answer: Answer) -> Answer:
    """A report with maps of what its sentences rest on."""
    return replace(answer, evidence=reporter.maps.of(batch_of(reporter, job), answer.report.text))


def with_likeliest(reporter: Reporter, job: Job, answer: Answer) -> Answer:
    """A report with the likeliest tokens at each of its places."""
    return replace(answer, places=reporter.likeliest(batch_of(reporter, job), answer.report, job.likeliest))


def write_alone(reporter: Reporter, job: Job) -> None:
    """One report without the engine: by transformers' `generate`, another program, or composed of training sentences.

    It ends at the next word, or the next pass over several beams, once nobody waits.
    """
    watch = StopWatch(job.stop, job.on_text or (lambda text: None))

    def hear(text: str) -> None:
        job.check_wanted()
        watch.take(text)

    with job.failing_alone():
        batch = batch_of(reporter, job)
        if job.decode.beam_size == 1:
            report = reporter.stream(batch, job.decode, hear, job.check)
            watch.end()
        else:
            with reporter.turns.asking(job.check_wanted):
                (report,) = reporter.predict([batch], job.decode, check=job.check)
        report = reporter.judged(reporter.stopped(report, job.stop), job.facts)
        complete(reporter, job, Answer(report, batch.input_ids.shape[1]))
