"""`POST /v1/reports`: the images of one study as a form in, its draft out in the form that is asked for. No OpenAI."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from r2gengpt.clinical.documents.draft import draft_of, images_to_send, origin_of
from r2gengpt.clinical.documents.forms import FORMS, check_form, formed
from r2gengpt.clinical.documents.plain_pdf import report_pdf
from r2gengpt.confidence.review import marked_text, text_of
from r2gengpt.errors import InputError
from r2gengpt.provenance import Source
from r2gengpt.report import film_json, review_lines
from r2gengpt.serving.access import caller_of
from r2gengpt.serving.documents import REPORT, form_document
from r2gengpt.serving.evidence import MAPS, evidence_json
from r2gengpt.serving.failures import INVALID, ApiError, refused
from r2gengpt.serving.films import note_on, read_films, read_prior
from r2gengpt.serving.instructions import asked_of, context_warnings
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.serving.receipts import film_features, receipt_of
from r2gengpt.serving.served import ServedModel, check_torch, in_torch, made_with, maps_of, writer_of
from r2gengpt.serving.standing import TICKET, ticket_of
from r2gengpt.serving.trail import note_films
from r2gengpt.serving.uploads import IMAGE_FIELD, STUDY_FIELDS, read_form, truth_of
from r2gengpt.serving.waiting import Event, EventStream, ServerContext, Wait
from r2gengpt.settings import OBJECT_FORMS
from r2gengpt.text.written import noted_json, with_notice

JSON, TEXT, EVENTS, PDF = "application/json", "text/plain", "text/event-stream", "application/pdf"
ARCHIVE = {"application/fhir+json": ("fhir",), "application/dicom": OBJECT_FORMS}
"""Media type → forms of a report for archives, the first where none is named; these need DICOM images."""
FORM = "form"
"""Of the query: which form of a media type that has several."""
FILM = "film_findings"
"""What the films show stands under this name: `findings` is the text here, as it always was."""
GIVEN = (JSON, TEXT, EVENTS, PDF, *ARCHIVE)
FORM_PARAMETER = {
    "name": FORM,
    "in": "query",
    "schema": {"type": "string", "enum": list(OBJECT_FORMS), "default": "sr"},
}
DOCUMENT: dict[str, Any] = {
    "parameters": [
        {"name": "evidence", "in": "query", "schema": {"type": "boolean", "default": False}},
        FORM_PARAMETER,
        {"name": TICKET, "in": "header", "schema": {"type": "string", "pattern": "^[A-Za-z0-9-]{16,64}$"}},
    ],
    **form_document(STUDY_FIELDS, *GIVEN),
}
RECEIPT = {"type": "string", "description": "for POST /v1/verdicts; absent where the server keeps no verdicts"}
DOCUMENT["responses"]["200"]["content"][JSON]["schema"] = {
    **REPORT,
    "properties": {**REPORT["properties"], "receipt": RECEIPT},
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


def archive_form(kind: str, query: Mapping[str, str]) -> str:
    """The form of a report that a media type and a query ask for; empty where the type is not for archives.

    Raises:
        ApiError: 400, no form of this media type.
    """
    forms = ARCHIVE.get(kind, ())
    form = query.get(FORM, "")
    if form and form not in forms:
        words = f"must be one of {', '.join(forms)}" if forms else "has no place here"
        raise ApiError(400, f"{FORM}: {form[:40]} is none of {kind}: {words}", INVALID, param=FORM)
    return form or (forms[0] if forms else "")


def check_archive(kind: str, form: str, sources: list[Source], reporter: ServedModel) -> None:
    """Refuse, before a report is written, a form that it could not be sent in.

    Raises:
        ApiError: 406 where this server cannot give the form, 400 where the images are not what it refers to.
    """
    try:
        check_form(form, field="Accept", value=kind)
    except InputError as error:
        raise refused(error, 406) from None
    if reporter.origin.model_sha256 is None:
        raise ApiError(406, f"Accept: {kind} needs a hash of the weights, and this server keeps some on disk")
    names = [f"{IMAGE_FIELD}[{at}]" for at in range(len(sources))]
    try:
        images_to_send(names, [source.header for source in sources], field="Accept", value=kind)
    except InputError as error:
        raise refused(error) from None


def report_file(
    form: str, reporter: ServedModel, job: Job, answer: Answer, sources: list[Source], frame: int | None = None
) -> bytes:
    """The draft as a file: in a form for archives, or, with none, as a PDF that names no patient."""
    report, headers = answer.report, [source.header for source in sources]
    text = marked_text(report)
    if form:
        digest = writer_of(reporter, job).origin.model_sha256 or ""  # `check_archive` has seen to it
        maps = answer.evidence
        regions = () if maps is None else in_torch(reporter).regions_in(maps, headers, frame)
        return formed(form, report, text, headers, reporter.name, digest, regions)
    now, film, review = datetime.now().astimezone(), report.findings, review_lines(report)
    draft = draft_of(text, (), reporter.name, "", now, film=film, review=review)
    return report_pdf(origin_of(len(sources), reporter.name, note=note_on(sources)), draft.sections, draft.blocks)


def report_json(
    reporter: ServedModel,
    job: Job,
    answer: Answer,
    sources: list[Source],
    warnings: list[str],
    receipt: Callable[[Mapping[str, Any]], dict[str, str]] | None = None,
) -> dict[str, Any]:
    """The draft with what it was made with and from; `receipt` adds what a verdict on it needs."""
    report = answer.report
    found: dict[str, Any] = {
        "id": f"report-{uuid.uuid4().hex}",
        "created": int(time.time()),
        **noted_json(note_on(sources)),
        "findings": report.text,
        "sentences": [sentence.to_json() for sentence in report.sentences],
        **film_json(report, FILM),
        "finish_reason": report.finish,
        "tokens": report.tokens,
        "logprob": report.logprob,
    }
    if warnings:
        found["warnings"] = warnings
    if answer.evidence is not None:
        found["evidence"] = evidence_json(answer.evidence, sources, reporter)
    return {**found, "provenance": made_with(reporter, job, sources), **(receipt(found) if receipt else {})}


async def report_events(
    first: Event, wait: Wait, server: ServerContext, note: str, record: Callable[[Answer], dict[str, Any]]
) -> AsyncIterator[str]:
    """The data of all events: the note on the images if any, the text's pieces, the whole record as JSON, the end."""
    if note:
        yield json.dumps({"delta": "", "note": note})
    event = first
    while isinstance(event, str):
        yield json.dumps({"delta": event})
        event = await wait.next()
    server.metrics.tokens.inc(event.report.tokens)
    yield json.dumps(record(event))
    yield "[DONE]"


def report_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/reports`."""
    router = APIRouter()

    @router.post("/v1/reports", openapi_extra=DOCUMENT)
    async def reports(request: Request) -> Response:
        """The report of one study. As server-sent events it comes while it is written, and has one beam."""
        wanted = wanted_type(request.headers.get("accept", ""))
        evidence = truth_of(request.query_params.get("evidence", "false"), "evidence")
        archived = archive_form(wanted, request.query_params)
        ticket = ticket_of(request.headers.get(TICKET, ""))
        if evidence and wanted not in (JSON, EVENTS):
            raise ApiError(400, f"evidence: has no place in {wanted}: ask for {JSON} or {EVENTS}")
        with ExitStack() as stack:
            admitted = stack.enter_context(server.admit())
            reporter = admitted.reporter
            if evidence:
                check_torch(reporter, "evidence", MAPS)
            form = await admitted.read(read_form(request.headers, admitted.pieces(request), server.settings))
            read = partial(read_films, form.films, form.choice, reporter, server.settings)
            study = await admitted.prepare(read)
            pixels, sources = study.pixels, study.sources
            note_films(request, sources)
            seen = await admitted.prepare(partial(film_features, pixels, sources)) if server.verdicts else {}
            if archived:
                check_archive(wanted, archived, sources, reporter)
            decode = reporter.streamed if wanted == EVENTS else reporter.decode
            before = partial(read_prior, form.prior, sources, form.choice, reporter, server.settings, form.context)
            earlier = await admitted.prepare(before)
            context = earlier.context
            note_films(request, [*sources, *earlier.sources])
            instruction = asked_of(context, sources, reporter)
            job = Job(
                pixels, instruction, decode, earlier=earlier.pixels, context=context,
                facts=study.facts, force=form.choice.force or not reporter.refuses,
            )  # fmt: skip
            job.earlier_sources = earlier.sources
            warnings = context_warnings(context, reporter, films=bool(form.prior))
            headers = {"X-Warning": "; ".join(warnings)} if warnings else {}
            job.evidence = evidence or (bool(archived) and FORMS[archived].regions and maps_of(reporter))
            await admitted.settle(job)
            receipt = partial(receipt_of, server.verdicts, writer_of(reporter, job), sources, seen)
            stack.enter_context(server.ticket(caller_of(request).id, ticket, job))
            wait = stack.enter_context(admitted.wait([job], request))
            wait.begin(streaming=wanted == EVENTS)
            if wanted == EVENTS:
                first = await wait.next()  # until then an error still has a status
                record = partial(report_json, reporter, job, sources=sources, warnings=warnings, receipt=receipt)
                events = report_events(first, wait, server, note_on(sources), record)
                return EventStream(events, stack.pop_all(), admitted.deadline)
            answer = await wait.answer()
            server.metrics.tokens.inc(answer.report.tokens)
            if wanted == TEXT:
                return PlainTextResponse(with_notice(text_of(answer.report), note_on(sources)), headers=headers)
            if wanted == JSON:
                return JSONResponse(report_json(reporter, job, answer, sources, warnings, receipt))
            file = await admitted.prepare(
                partial(report_file, archived, reporter, job, answer, sources, form.choice.frame), server.archive
            )
            return Response(file, media_type=wanted, headers=headers)

    return router
