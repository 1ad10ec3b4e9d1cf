"""The answer to a chat request in OpenAI's shape, whole or in chunks. Waits for nothing but its events."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from r2gengpt.base_reporter import BaseReporter
from r2gengpt.report import film_json
from r2gengpt.serving.chat_job import ChatStudy
from r2gengpt.serving.films import note_on
from r2gengpt.serving.jobs import Answer
from r2gengpt.serving.reports import report_json
from r2gengpt.serving.served import ServedModel, made_with, writer_of
from r2gengpt.serving.waiting import JobEvent, ServerContext, Wait
from r2gengpt.text.written import json_text, noted_json, with_note

Json = dict[str, Any]
CUT_SHORT = "the report had no room to come to its end: `finish_reason` within the JSON is length"


def known_of(answer: Answer) -> Json:
    """What is known of each sentence and of the films; beside OpenAI's own fields, which have no place for it."""
    return {"sentences": [sentence.to_json() for sentence in answer.report.sentences], **film_json(answer.report)}


class Completion:
    """The answer to one request.

    What is known of a report stands beside the choices where there is one, else within each. The provenance is of the
    first choice; drawn ones differ in their `seed`.
    """

    def __init__(self, reporter: ServedModel, study: ChatStudy) -> None:
        self.reporter, self.study = writer_of(reporter, study.jobs[0]), study
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": reporter.name}
        made = made_with(reporter, study.jobs[0], study.sources)
        self.warnings: Json = {"warnings": study.warnings} if study.warnings else {}
        self.tail: Json = {**self.warnings, "provenance": made}
        self.note = note_on(study.sources)
        self.notice = noted_json(self.note)

    def usage(self, answers: Sequence[Answer]) -> dict[str, int]:
        """Tokens of the prompt, image tokens included, and of all choices, end tokens included."""
        prompt = answers[0].prompt_tokens
        new = sum(answer.report.tokens * len(self.study.choices_of(job)) for job, answer in enumerate(answers))
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

    def content(self, job: int, answer: Answer) -> str:
        """A report as it is wanted: its text, or its document as JSON."""
        study = self.study
        if study.members is None:
            return with_note(answer.report.text, self.note)
        document = report_json(self.reporter, study.jobs[job], answer, study.sources, study.warnings)
        return json_text(study.members.of(document))

    def logprobs(self, answer: Answer) -> Json | None:
        """Those of a report's tokens, where they are asked for."""
        return logprobs_json(self.reporter, answer) if self.study.chat.logprobs else None

    def own(self, job: int, answer: Answer) -> Json:
        """What stands within a choice besides OpenAI's fields."""
        if self.study.chat.n == 1:
            return {}
        drawn = len(self.study.jobs) > 1
        return {**({"seed": self.study.jobs[job].decode.decode_seed} if drawn else {}), **known_of(answer)}

    def beside(self, answer: Answer) -> Json:
        """What stands beside the choices."""
        known = known_of(answer) if self.study.chat.n == 1 else {}
        if self.study.members is None or answer.report.finish != "length":
            return {**known, **self.tail}
        return {**known, **self.tail, "warnings": [*self.study.warnings, CUT_SHORT]}

    def finish(self, answer: Answer) -> str:
        """Why the content ended; JSON is always whole, and clients do not read it where it is said not to be."""
        return "stop" if self.study.members is not None else answer.report.finish

    def whole(self, answers: Sequence[Answer]) -> Json:
        """The object `chat.completion`."""
        choices = []
        for job, answer in enumerate(answers):
            message = {"role": "assistant", "content": self.content(job, answer), "refusal": None}
            last = {"logprobs": self.logprobs(answer), "finish_reason": self.finish(answer), **self.own(job, answer)}
            choices += [{"index": index, "message": message, **last} for index in self.study.choices_of(job)]
        shown = next((answer for answer in answers if answer.report.finish == "length"), answers[0])
        more = {"usage": self.usage(answers), **self.notice, **self.beside(shown)}
        return {**self.head, "object": "chat.completion", "choices": choices, **more}

    def chunk(self, choices: list[Json], **more: Any) -> str:
        """An object `chat.completion.chunk`."""
        return json.dumps({**self.head, "object": "chat.completion.chunk", "choices": choices, **self.notice, **more})

    @staticmethod
    def delta(index: int, delta: dict[str, str], finish: str | None = None, logprobs: Json | None = None) -> Json:
        """A choice within a chunk."""
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    async def chunks(self, first: JobEvent, wait: Wait, server: ServerContext) -> AsyncIterator[str]:
        """The data of all events, as text."""
        study, answers, current = self.study, dict[int, Answer](), first
        opening = {"role": "assistant", "content": with_note("", self.note) if study.members is None else ""}
        for index in range(study.chat.n):
            yield self.chunk([self.delta(index, opening)], **self.warnings)
        while True:
            for data in self.chunks_of(current):
                yield data
            if isinstance(current.event, Answer):
                answers[current.job] = current.event
                server.metrics.tokens.inc(current.event.report.tokens)
                if len(answers) == len(study.jobs):
                    break
            current = await wait.next_of_any()
        if study.chat.stream_options is not None and study.chat.stream_options.include_usage:
            yield self.chunk([], usage=self.usage([answers[job] for job in range(len(answers))]))
        yield "[DONE]"

    def chunks_of(self, current: JobEvent) -> list[str]:
        """The chunks of an event: a piece of text, or the end, for each choice that the job writes."""
        event, found = current.event, []
        for index in self.study.choices_of(current.job):
            if isinstance(event, str):
                found.append(self.chunk([self.delta(index, {"content": event})]))
                continue
            if self.study.members is not None:
                found.append(self.chunk([self.delta(index, {"content": self.content(current.job, event)})]))
            last = self.delta(index, {}, self.finish(event), self.logprobs(event))
            found.append(self.chunk([{**last, **self.own(current.job, event)}], **self.beside(event)))
        return found


def logprobs_json(reporter: BaseReporter, answer: Answer) -> dict[str, Any]:
    """The tokens that the report's text comes from, as `token_pieces` has them."""
    content = []
    for number, token in reporter.token_pieces(answer.report):
        place = answer.places[number] if answer.places else None
        own = _entry(token, answer.report.token_logprobs[number] if place is None else place.logprob)
        likeliest = {} if place is None else place.likeliest
        content.append({**own, "top_logprobs": _likeliest(reporter, answer, number, own, likeliest)})
    return {"content": content, "refusal": None}


def _entry(token: str, logprob: float) -> dict[str, Any]:
    """A token; one that is only a part of a character has no bytes of its own."""
    known = "\ufffd" not in token
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()) if known else None}


def _likeliest(
    reporter: BaseReporter, answer: Answer, number: int, own: dict[str, Any], likeliest: Mapping[int, float]
) -> list[dict[str, Any]]:
    """The likeliest tokens at a place, the one that stands there with its own text."""
    ids = answer.report.token_ids
    before = ids[number - 1 : number] if number else ()
    found = []
    for token, logprob in likeliest.items():
        known = own if token == ids[number] else _entry(reporter.token_text(before, token), logprob)
        found.append(dict(known))
    return found
