"""One study's report by PyTorch: what the model tells of it once it is written, and one that is written alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from r2gengpt.confidence.finding_maps import evidence_of, map_method
from r2gengpt.data.batches import Batch
from r2gengpt.generation.likeliest import likeliest_tokens
from r2gengpt.generation.stopping import StopWatch, stopped
from r2gengpt.reporter import Reporter
from r2gengpt.serving.jobs import Answer, Job


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
    model, processor = reporter.built.model, reporter.built.processor
    method = map_method(model, reporter.looker)
    reporter.check_explains(method)
    evidence = evidence_of(model, processor, reporter.looker, batch_of(reporter, job), answer.report.text, method)
    return replace(answer, evidence=evidence)


def with_likeliest(reporter: Reporter, job: Job, answer: Answer) -> Answer:
    """A report with the likeliest tokens at each of its places."""
    batch, _ = reporter.look(batch_of(reporter, job))
    places = likeliest_tokens(reporter.built.model, batch, answer.report.token_ids, job.likeliest)
    return replace(answer, places=places)


@contextmanager
def _while_wanted(job: Job, embeddings: Any) -> Iterator[None]:
    """Tokens get their embeddings, and so a pass begins, only while somebody waits; else it is `Left`."""
    handle = embeddings.register_forward_pre_hook(lambda *_: job.check_wanted())
    try:
        yield
    finally:
        handle.remove()


def write_alone(reporter: Reporter, job: Job) -> None:
    """One report without the engine: by transformers' `generate`, another program, or composed of training sentences.

    It ends at the next word, or the next pass over several beams, once nobody waits.
    """
    built, watch = reporter.built, StopWatch(job.stop, job.on_text or (lambda text: None))

    def hear(text: str) -> None:
        job.check_wanted()
        watch.take(text)

    with job.failing_alone():
        batch = batch_of(reporter, job)
        if job.decode.beam_size == 1:
            report = reporter.stream(batch, job.decode, hear, job.check)
            watch.end()
        else:
            with _while_wanted(job, built.model.get_input_embeddings()):
                (report,) = reporter.predict([batch], job.decode, check=job.check)
        report = reporter.judged(stopped(report, built.processor, job.stop), job.facts)
        complete(reporter, job, Answer(report, batch.input_ids.shape[1]))
