"""`POST /v1/documents`: a draft as its reader left it as a form for archives. Writes no report."""

from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.forms import FORMS, bytes_of
from r2gengpt.metrics.labels.reading import asserted
from r2gengpt.report import Finding
from r2gengpt.serving.documents import form_document
from r2gengpt.serving.failures import INVALID, ApiError
from r2gengpt.serving.faults import first_fault
from r2gengpt.serving.films import sources_of
from r2gengpt.serving.reports import ARCHIVE, check_archive
from r2gengpt.serving.served import ServedModel
from r2gengpt.serving.uploads import (
    IMAGE_FIELD,
    KNOWN_FIELD,
    REPORT_FIELD,
    STUDY_FIELDS,
    TEXT_FIELD,
    StudyUpload,
    read_form,
)
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.settings import ServeConfig

FIELDS = (*(name for name in STUDY_FIELDS if name != TEXT_FIELD), REPORT_FIELD, KNOWN_FIELD)
DOCUMENT = form_document(FIELDS, *ARCHIVE, required=(IMAGE_FIELD, REPORT_FIELD))
Chance = Annotated[float, Field(ge=0, le=1)]
Line = Annotated[str, Field(max_length=1000)]


class KnownFinding(BaseModel):
    """One finding of the films, as an answer had it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    probability: Chance
    interval: tuple[Chance, Chance]
    verdict: Literal["likely", "possible", "unlikely", "not assessed"]


class KnownOfDraft(BaseModel):
    """What is known of a draft besides its text."""

    model_config = ConfigDict(extra="forbid")

    film_findings: Annotated[list[KnownFinding], Field(max_length=100)] = []
    review: Annotated[list[Line], Field(max_length=100)] = []
    edited: bool = False

    @property
    def film(self) -> tuple[Finding, ...]:
        """The findings as the documents take them."""
        return tuple(Finding(one.name, one.probability, one.interval, one.verdict) for one in self.film_findings)


def known_of_draft(text: str) -> KnownOfDraft:
    """The field `known`; an empty one tells nothing.

    Raises:
        ApiError: 400, it is no such JSON.
    """
    try:
        return KnownOfDraft.model_validate_json(text or "{}")
    except ValidationError as error:
        raise first_fault(error) from None


def wanted_form(accept: str) -> str:
    """The first media type of an Accept header that this route gives.

    Raises:
        ApiError: 406, none.
    """
    kinds = [kind.split(";")[0].strip().lower() for kind in accept.split(",")]
    kind = next((kind for kind in kinds if kind in ARCHIVE), None)
    if kind is None:
        raise ApiError(406, f"Accept: this route gives {' and '.join(ARCHIVE)}")
    return kind


def document_of(form: StudyUpload, kind: str, reporter: ServedModel, settings: ServeConfig) -> bytes:
    """The text of a form as a document of its images.

    Raises:
        ApiError: the images, the text or the form are refused.
    """
    if not form.report:
        raise ApiError(400, f"{REPORT_FIELD}: is empty", INVALID, param=REPORT_FIELD)
    known = known_of_draft(form.known)
    sources = sources_of(form.films, form.choice, settings)
    check_archive(kind, sources, reporter)
    images = [source.header for source in sources if source.header is not None]
    labels = asserted(form.report) if FORMS[ARCHIVE[kind]].labels else {}
    draft = draft_of(
        form.report,
        images,
        reporter.name,
        reporter.origin.model_sha256 or "",  # `check_archive` has seen to it
        datetime.now().astimezone(),
        labels,
        film=known.film,
        review=known.review,
        edited=known.edited,
    )
    return bytes_of(draft, ARCHIVE[kind])


def document_routes(desk: ServerContext) -> APIRouter:
    """`POST /v1/documents`."""
    router = APIRouter()

    @router.post("/v1/documents", openapi_extra=DOCUMENT)
    async def documents(request: Request) -> Response:
        """The text with its images as FHIR or as a structured report; nothing is written by the model."""
        kind = wanted_form(request.headers.get("accept", ""))
        with ExitStack() as stack:
            visit = stack.enter_context(desk.visit())
            form = await visit.read(read_form(request.headers, visit.pieces(request), desk.settings, FIELDS))
            file = await visit.prepare(partial(document_of, form, kind, visit.reporter, desk.settings), desk.archive)
        return Response(file, media_type=kind)

    return router
