"""`POST /v1/evidence`: a study and a report's text in, maps of what its sentences rest on out. Writes no report."""

from contextlib import ExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from r2gengpt.confidence.maps import Evidence
from r2gengpt.provenance import Source
from r2gengpt.serving.documents import form_document
from r2gengpt.serving.failures import INVALID, ApiError
from r2gengpt.serving.films import note_on, read_films
from r2gengpt.serving.instructions import asked_of
from r2gengpt.serving.jobs import Job
from r2gengpt.serving.served import ServedModel, check_torch, in_torch
from r2gengpt.serving.trail import note_films
from r2gengpt.serving.uploads import IMAGE_FIELD, PRIOR_FIELDS, REPORT_FIELD, STUDY_FIELDS, StudyUpload, read_form
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import noted_json

FIELDS = (*(name for name in STUDY_FIELDS if name not in PRIOR_FIELDS), REPORT_FIELD)
DOCUMENT = form_document(FIELDS, "application/json", required=(IMAGE_FIELD, REPORT_FIELD))
MAPS = "evidence maps"
LONGER = 2
"""Times `max_new_tokens` that a text may be long: each sentence costs a pass, and an edited draft may grow."""


def evidence_json(evidence: Evidence, sources: list[Source], model: ServedModel) -> dict[str, Any]:
    """The maps, for each view the box that its map lies over, and outlines of the areas that they mark.

    A box is left, top, right, bottom in shares of the film; an outline has corners in the film's pixels.
    """
    maps, sizes = in_torch(model).maps, [source.upright for source in sources]
    boxes = [[round(edge / side, 4) for edge, side in zip(maps.box(size), size * 2, strict=True)] for size in sizes]
    regions = maps.regions(evidence, sizes)
    return {**evidence.to_json(), "boxes": boxes, "regions": [one.to_json() for one in regions]}


def evidence_job(form: StudyUpload, model: ServedModel, settings: ServeConfig) -> tuple[Job, list[Source]]:
    """A form to its job; for a decoding thread.

    Raises:
        ApiError: the study or the text is refused.
    """
    tokens = in_torch(model).count_tokens(form.report)
    most = LONGER * (model.decode.max_new_tokens or 0)
    if not form.report or tokens > most:
        raise ApiError(400, f"{REPORT_FIELD}: has {tokens} tokens: 1 to {most}", INVALID, param=REPORT_FIELD)
    read = read_films(form.films, form.choice, model, settings)
    instruction = asked_of(form.context, read.sources, model)
    return Job(read.pixels, instruction, model.decode, evidence=True, report_text=form.report), read.sources


def evidence_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/evidence`."""
    router = APIRouter()

    @router.post("/v1/evidence", openapi_extra=DOCUMENT)
    async def evidence(request: Request) -> Response:
        """What of the images each sentence of a text rests on, by the model; the text may be anybody's."""
        with ExitStack() as stack:
            admitted = stack.enter_context(server.admit())
            check_torch(admitted.reporter, "evidence", MAPS)
            form = await admitted.read(read_form(request.headers, admitted.pieces(request), server.settings, FIELDS))
            await admitted.torch()
            job, sources = await admitted.prepare(partial(evidence_job, form, admitted.reporter, server.settings))
            note_films(request, sources)
            wait = stack.enter_context(admitted.wait([job], request))
            wait.begin(streaming=False)
            found = (await wait.answer()).evidence
        assert found is not None
        return JSONResponse({**noted_json(note_on(sources)), **evidence_json(found, sources, admitted.reporter)})

    return router
