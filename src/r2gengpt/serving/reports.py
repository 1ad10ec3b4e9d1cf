"""`POST /v1/reports`: the images of one study as a form in, its draft out in the form that is asked for. No OpenAI."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from r2gengpt.errors import InputError
from r2gengpt.generation.confidence import marked_text
from r2gengpt.serving.documents import form_document
from r2gengpt.serving.draft import draft_of, images_to_send, origin_of
from r2gengpt.serving.evidence import evidence_json, instruction_with
from r2gengpt.serving.failures import ApiError, refused
from r2gengpt.serving.films import note_on, read_films
from r2gengpt.serving.forms import check_form, formed
from r2gengpt.serving.generator import Served
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.serving.plain_pdf import report_pdf
from r2gengpt.serving.provenance import Source, provenance
from r2gengpt.serving.stream import EventStream
from r2gengpt.serving.uploads import IMAGE_FIELD, STUDY_FIELDS, read_form, truth_of
from r2gengpt.serving.waiting import Desk, Event, Wait
from r2gengpt.text.notice import noted_json, with_notice

JSON, TEXT, EVENTS, PDF = "application/json", "text/plain", "text/event-stream", "application/pdf"
ARCHIVE = {"application/fhir+json": "fhir", "application/dicom": "sr"}
"""Media type → form of a report for archives; these need DICOM images."""
GIVEN = (JSON, TEXT, EVENTS, PDF, *ARCHIVE)
DOCUMENT = {
    "parameters": [{"name": "evidence", "in": "query", "schema": {"type": "boolean", "default": False}}],
    **form_document(STUDY_FIELDS, *GIVEN),
}


def wanted_type(accept: str) -> str:
    """The form of answer that an Accept header asks for: its first where this route gives it, else JSON, else a later.

    Events have one beam, so they come only where they are first.

    Raises:
        ApiError: 406, none of them.
    """
    kinds = [kind.split(";")[0].strip().lower() for kind in accept.split(",")] if accept else [JSON]
    if kinds[0] in GIVEN:
        return kinds[0]
    if {JSON, "application/*", "*/*"} & set(kinds):
        return JSON
    for kind in ("text/plain" if kind == "text/*" else kind for kind in kinds):
        if kind in GIVEN and kind != EVENTS:
            return kind
    raise ApiError(406, f"Accept: this route gives {', '.join(GIVEN[:-1])} and {GIVEN[-1]}")


def check_archive(kind: str, sources: list[Source], served: Served) -> None:
    """Refuse, before a report is written, a form that it could not be sent in.

    Raises:
        ApiError: 406 where this server cannot give the form, 400 where the images are not what it refers to.
    """
    try:
        check_form(ARCHIVE[kind], f"Accept {kind}:")
    except InputError as error:
        raise refused(error, 406) from None
    if served.origin.get("model_sha256") is None:
        raise ApiError(406, f"Accept: {kind} needs a hash of the weights, and this server keeps some on disk")
    names = [f"{IMAGE_FIELD}[{at}]" for at in range(len(sources))]
    try:
        images_to_send(names, [source.header for source in sources], f"Accept: {kind}")
    except InputError as error:
        raise refused(error) from None


def report_file(kind: str, served: Served, answer: Answer, sources: list[Source]) -> bytes:
    """The draft as a file: for archives, or as a PDF that names no patient."""
    text, headers = marked_text(answer.prediction), [source.header for source in sources]
    if kind in ARCHIVE:
        digest = served.origin["model_sha256"]
        return formed(ARCHIVE[kind], text, answer.prediction.prediction, headers, served.name, digest)
    sections = draft_of(text, (), served.name, "", datetime.now().astimezone()).sections
    return report_pdf(origin_of(len(sources), served.name, note=note_on(sources)), sections)


def report_json(served: Served, job: Job, answer: Answer, sources: list[Source]) -> dict[str, Any]:
    """The draft with what it was made with and from."""
    prediction = answer.prediction
    found: dict[str, Any] = {
        "id": f"report-{uuid.uuid4().hex}",
        "created": int(time.time()),
        **noted_json(note_on(sources)),
        "findings": prediction.prediction,
        "sentences": [asdict(sentence) for sentence in prediction.sentences],
        "finish_reason": prediction.finish,
        "tokens": prediction.tokens,
        "logprob": prediction.logprob,
    }
    if answer.evidence is not None:
        found["evidence"] = evidence_json(answer.evidence, sources, served.built.processor)
    return {**found, "provenance": provenance(served.name, served.origin, job.decode, sources)}


async def report_events(
    first: Event, wait: Wait, desk: Desk, note: str, record: Callable[[Answer], dict[str, Any]]
) -> AsyncIterator[str]:
    """The data of all events: the note on the images if any, the text's pieces, the whole record as JSON, the end."""
    if note:
        yield json.dumps({"delta": "", "note": note})
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
        if evidence and wanted not in (JSON, EVENTS):
            raise ApiError(400, f"evidence: has no place in {wanted}: ask for {JSON} or {EVENTS}")
        with ExitStack() as stack:
            visit = stack.enter_context(desk.visit())
            served = visit.served
            form = await visit.read(read_form(request.headers, visit.pieces(request), desk.settings))
            read = partial(read_films, form.films, form.choice, served.built.processor, desk.settings)
            pixels, sources = await visit.prepare(read)
            if wanted in ARCHIVE:
                check_archive(wanted, sources, served)
            decode = served.streamed if wanted == EVENTS else served.decode
            job = Job(pixels, instruction_with(form.indication, served.built.processor.instruction), decode)
            job.evidence = evidence
            wait = stack.enter_context(visit.wait(job, request))
            wait.begin(streaming=wanted == EVENTS)
            if wanted == EVENTS:
                first = await wait.next()  # until then an error still has a status
                record = partial(report_json, served, job, sources=sources)
                events = report_events(first, wait, desk, note_on(sources), record)
                return EventStream(events, stack.pop_all(), visit.deadline)
            answer = await wait.answer()
            desk.metrics.tokens.inc(answer.prediction.tokens)
            if wanted == TEXT:
                return PlainTextResponse(with_notice(marked_text(answer.prediction), note_on(sources)))
            if wanted == JSON:
                return JSONResponse(report_json(served, job, answer, sources))
            file = await visit.prepare(partial(report_file, wanted, served, answer, sources), desk.archive)
            return Response(file, media_type=wanted)

    return router
