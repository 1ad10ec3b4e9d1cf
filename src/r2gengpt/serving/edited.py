"""`POST /v1/documents`: a draft as its reader left it as a form for archives. Writes no report."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.forms import FORMS, bytes_of
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.regions import Region
from r2gengpt.metrics.labels.reading import asserted
from r2gengpt.provenance import Source
from r2gengpt.report import Finding
from r2gengpt.serving.documents import form_document
from r2gengpt.serving.failures import INVALID, ApiError, refused
from r2gengpt.serving.faults import first_fault
from r2gengpt.serving.films import sources_of
from r2gengpt.serving.reports import ARCHIVE, FORM_PARAMETER, archive_form, check_archive
from r2gengpt.serving.served import ServedModel
from r2gengpt.serving.trail import note_films
from r2gengpt.serving.uploads import (
    CONTEXT_FIELDS,
    IMAGE_FIELD,
    KNOWN_FIELD,
    PRIOR_FIELDS,
    REPORT_FIELD,
    STUDY_FIELDS,
    StudyUpload,
    read_form,
)
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.settings import ServeConfig

FIELDS = (*(name for name in STUDY_FIELDS if name not in (*CONTEXT_FIELDS, *PRIOR_FIELDS)), REPORT_FIELD, KNOWN_FIELD)
DOCUMENT = {
    "parameters": [FORM_PARAMETER],
    **form_document(FIELDS, *ARCHIVE, required=(IMAGE_FIELD, REPORT_FIELD)),
}
MOST_PIXELS = 65_535
"""Of a side of a DICOM image."""


def _printable(text: str) -> str:
    """A name that can stand in any document.

    Raises:
        ValueError: it has a control character, or is blank.
    """
    if not text.isprintable() or text.isspace():
        raise ValueError("must be printable, without control characters")
    return text


Printable = Annotated[str, Field(max_length=100), AfterValidator(_printable)]
Chance = Annotated[float, Field(ge=0, le=1)]
Place = Annotated[int, Field(ge=0, le=MOST_PIXELS)]
Line = Annotated[str, Field(max_length=1000)]


class KnownFinding(BaseModel):
    """One finding of the films, as an answer had it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Printable, Field(min_length=1)]
    probability: Chance
    interval: tuple[Chance, Chance]
    verdict: Literal["likely", "possible", "unlikely", "not assessed"]


class KnownRegion(BaseModel):
    """One area of a film, as an answer's maps had it."""

    model_config = ConfigDict(extra="forbid")

    sentence: Line
    finding: Printable = ""
    view: Annotated[int, Field(ge=0, le=100)]
    outline: Annotated[list[tuple[Place, Place]], Field(min_length=4, max_length=2000)]


class KnownOfDraft(BaseModel):
    """What is known of a draft besides its text."""

    model_config = ConfigDict(extra="forbid")

    film_findings: Annotated[list[KnownFinding], Field(max_length=100)] = []
    regions: Annotated[list[KnownRegion], Field(max_length=200)] = []
    review: Annotated[list[Line], Field(max_length=100)] = []
    model_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    edited: bool = False

    @property
    def film(self) -> tuple[Finding, ...]:
        """The findings as the documents take them."""
        return tuple(Finding(one.name, one.probability, one.interval, one.verdict) for one in self.film_findings)

    def areas(self, form: StudyUpload, images: Sequence[DicomHeader]) -> tuple[Region, ...]:
        """The areas of the sentences that still stand in the text of a form.

        Raises:
            ApiError: 400, an area of no image of the form, or beyond its edge.
        """
        for one in self.regions:
            width, height = images[one.view].size if one.view < len(images) else (-1, -1)
            if any(column > width or row > height for column, row in one.outline):
                raise ApiError(
                    400, f"{KNOWN_FIELD}: a region lies outside image {one.view}", INVALID, param=KNOWN_FIELD
                )
        frames = [form.choice.frame if image.frames > 1 else None for image in images]
        return tuple(
            Region(one.sentence, one.finding, one.view, tuple(one.outline), frames[one.view])
            for one in self.regions
            if one.sentence in form.report
        )


def known_of_draft(text: str) -> KnownOfDraft:
    """The field `known`; an empty one tells nothing.

    Raises:
        ApiError: 400, it is no such JSON.
    """
    try:
        return KnownOfDraft.model_validate_json(text or "{}")
    except ValidationError as error:
        raise first_fault(error, KNOWN_FIELD) from None


def wanted_kind(accept: str) -> str:
    """The first media type of an Accept header that this route gives.

    Raises:
        ApiError: 406, none.
    """
    kinds = [kind.split(";")[0].strip().lower() for kind in accept.split(",")]
    kind = next((kind for kind in kinds if kind in ARCHIVE), None)
    if kind is None:
        raise ApiError(406, f"Accept: this route gives {' and '.join(ARCHIVE)}")
    return kind


def document_of(
    form: StudyUpload,
    kind: str,
    wanted: str,
    reporter: ServedModel,
    settings: ServeConfig,
    note: Callable[[Sequence[Source]], None],
) -> bytes:
    """The text of a form as a document of its images.

    Args:
        form: what was sent.
        kind: the media type.
        wanted: which of its forms.
        reporter: the model.
        settings: of the server.
        note: gets the images before anything is made.

    Raises:
        ApiError: the images, the text or the form are refused.
    """
    if not form.report:
        raise ApiError(400, f"{REPORT_FIELD}: is empty", INVALID, param=REPORT_FIELD)
    known = known_of_draft(form.known)
    sources = sources_of(form.films, form.choice, settings)
    note(sources)
    check_archive(kind, wanted, sources, reporter)
    images = [source.header for source in sources if source.header is not None]
    labels = asserted(form.report) if FORMS[wanted].labels else {}
    draft = draft_of(
        form.report,
        images,
        reporter.name,
        known.model_sha256 or reporter.origin.model_sha256 or "",  # `check_archive` has seen to it
        datetime.now().astimezone(),
        labels,
        film=known.film,
        review=known.review,
        regions=known.areas(form, images) if FORMS[wanted].regions else (),
        edited=known.edited,
    )
    try:
        return bytes_of(draft, wanted)
    except InputError as error:
        raise refused(error, param=REPORT_FIELD) from None


def document_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/documents`."""
    router = APIRouter()

    @router.post("/v1/documents", openapi_extra=DOCUMENT)
    async def documents(request: Request) -> Response:
        """The text with its images as FHIR or as a DICOM object; nothing is written by the model."""
        kind = wanted_kind(request.headers.get("accept", ""))
        wanted = archive_form(kind, request.query_params)
        with ExitStack() as stack:
            admitted = stack.enter_context(server.admit())
            form = await admitted.read(read_form(request.headers, admitted.pieces(request), server.settings, FIELDS))
            make = partial(
                document_of, form, kind, wanted, admitted.reporter, server.settings, partial(note_films, request)
            )
            file = await admitted.prepare(make, server.archive)
        return Response(file, media_type=kind)

    return router
