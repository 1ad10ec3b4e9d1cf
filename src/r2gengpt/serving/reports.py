"""`POST /v1/reports`: the images of one study as a form in, its draft with what it was made from out. No OpenAI."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from r2gengpt.generation.confidence import marked_text
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.generator import Served
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.serving.provenance import Source, provenance
from r2gengpt.serving.stream import EventStream
from r2gengpt.serving.uploads import IMAGE_FIELD, TEXT_FIELD, read_films, read_form
from r2gengpt.serving.waiting import Desk, Event, Wait
from r2gengpt.text.notice import NOTICE, with_notice

FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": [IMAGE_FIELD],
    "properties": {
        IMAGE_FIELD: {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "format": "binary"},
            "description": "PNG or JPEG files: the views of ONE study",
        },
        TEXT_FIELD: {"type": "string", "description": "why the images were taken; becomes part of the prompt"},
    },
}
EVENTS = "text/event-stream"
DOCUMENT = {
    "parameters": [{"name": "evidence", "in": "query", "schema": {"type": "boolean", "default": False}}],
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}},
    "responses": {"200": {"content": {kind: {"schema": {"type": "string"}} for kind in ("text/plain", EVENTS)}}},
}


def instruction_with(indication: str, own: str) -> str | None:
    """The prompt's instruction for a study with an indication; None, the model's own, where there is none."""
    return f"{own} Indication: {indication}" if indication else None


def wanted_type(accept: str) -> str:
    """The form of answer that an Accept header asks for: events where they are first, text where JSON is not named.

    Raises:
        ApiError: 406, neither.
    """
    kinds = [kind.split(";")[0].strip().lower() for kind in accept.split(",")] if accept else ["*/*"]
    if kinds[0] == EVENTS:
        return EVENTS
    if {"application/json", "application/*", "*/*"} & set(kinds):
        return "text/plain" if kinds[0] == "text/plain" else "application/json"
    if {"text/plain", "text/*"} & set(kinds):
        return "text/plain"
    raise ApiError(406, "Accept: this route gives application/json, text/plain and text/event-stream")


def truth_of(text: str, name: str) -> bool:
    """A truth value of the query.

    Raises:
        ApiError: another word than true and false.
    """
    if text.lower() not in ("true", "false"):
        raise ApiError(400, f"{name}: must be true or false")
    return text.lower() == "true"


def report_json(served: Served, job: Job, answer: Answer, sources: list[Source]) -> dict[str, Any]:
    """The draft with what it was made with and from."""
    prediction = answer.prediction
    found: dict[str, Any] = {
        "id": f"report-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "notice": NOTICE,
        "findings": prediction.prediction,
        "sentences": [asdict(sentence) for sentence in prediction.sentences],
        "finish_reason": prediction.finish,
        "tokens": prediction.tokens,
        "logprob": prediction.logprob,
    }
    if answer.evidence is not None:
        found["evidence"] = answer.evidence.to_json()
    return {**found, "provenance": provenance(served.name, served.origin, job.decode, sources)}


async def report_events(
    first: Event, wait: Wait, desk: Desk, record: Callable[[Answer], dict[str, Any]]
) -> AsyncIterator[str]:
    """The data of all events: the text's pieces, the whole record as JSON gives it, the end mark."""
    event = first
    while isinstance(event, str):
        yield json.dumps({"delta": event})
        event = await wait.next()
    desk.metrics.tokens.inc(event.prediction.tokens)
    yield json.dumps(record(event))
    yield "[DONE]"


def report_routes(desk: Desk) -> APIRouter:
    """`POST /v1/reports`."""
    router = APIRouter()

    @router.post("/v1/reports", openapi_extra=DOCUMENT)
    async def reports(request: Request) -> Response:
        """The report of one study. As server-sent events it comes while it is written, and has one beam."""
        wanted = wanted_type(request.headers.get("accept", ""))
        evidence = truth_of(request.query_params.get("evidence", "false"), "evidence")
        with ExitStack() as stack:
            visit = stack.enter_context(desk.visit())
            served = visit.served
            films, indication = await visit.read(read_form(request, desk.settings))
            pixels, sources = await visit.prepare(lambda: read_films(films, served.built.processor, desk.settings))
            decode = replace(served.decode, beam_size=1) if wanted == EVENTS else served.decode
            job = Job(pixels, instruction_with(indication, served.built.processor.instruction), decode)
            job.evidence = evidence
            wait = stack.enter_context(visit.wait(job, request))
            wait.begin(streaming=wanted == EVENTS)
            if wanted == EVENTS:
                first = await wait.next()  # until then an error still has a status
                events = report_events(first, wait, desk, lambda answer: report_json(served, job, answer, sources))
                return EventStream(events, stack.pop_all(), visit.deadline)
            answer = await wait.answer()
        desk.metrics.tokens.inc(answer.prediction.tokens)
        if wanted == "text/plain":
            return PlainTextResponse(with_notice(marked_text(answer.prediction)))
        return JSONResponse(report_json(served, job, answer, sources))

    return router
