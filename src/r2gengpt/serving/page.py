"""The web page at `/` and the preview of a DICOM film that it shows. Writes no report."""

import base64
import io
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from PIL import Image
from starlette.responses import JSONResponse, Response

from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.provenance import Source
from r2gengpt.serving.documents import form_document
from r2gengpt.serving.examples import example_films, examples_json
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.films import picture_of, sources_of
from r2gengpt.serving.reference import UNKNOWN_MODEL, operations
from r2gengpt.serving.trail import note_films
from r2gengpt.serving.uploads import FORCE_FIELD, FRAME_FIELD, IMAGE_FIELD, StudyUpload, read_form, truth_of
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.settings import ServeConfig
from r2gengpt.text.html import templates
from r2gengpt.text.written import NOTICE, shown
from r2gengpt.version import __version__

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Content-Security-Policy of the page: its own files, images as bytes; nothing inline, nothing from elsewhere."""
JSON, PNG = "application/json", "image/png"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def page_files() -> dict[str, bytes]:
    """Name → contents of the page's files."""
    folder = files("r2gengpt.serving").joinpath("page")
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name.rpartition(".")[2] in TYPES}


def file_route(contents: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler that gives one file, whatever is asked."""
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    media = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind

    async def give(request: Request) -> Response:
        return Response(contents, media_type=media, headers=headers)

    return give


def page_routes() -> APIRouter:
    """`GET /`, `GET /page/NAME` for each of the page's files and of its example films, and a list of these films.

    The names are fixed; none is made from a request.
    """
    router = APIRouter()
    for name, contents in page_files().items():
        path = "/" if name == "index.html" else f"/page/{name}"
        router.add_route(path, file_route(contents, TYPES[name.rpartition(".")[2]]))
    films = example_films()
    for film in films:
        router.add_route(f"/page/examples/{film.name}", file_route(film.data, film.kind))
    router.add_route("/page/examples.json", file_route(examples_json(films).encode(), JSON))
    return router


def reference_routes(app: FastAPI, server: ServerContext) -> APIRouter:
    """`GET /docs`: what the OpenAPI document says, as a page without a script."""
    router = APIRouter()
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

    async def give(request: Request) -> Response:
        reporter = server.generator.reporter
        address = f"{request.url.scheme}://{request.headers.get('host', '')}"
        found = operations(app.openapi(), address, reporter.name if reporter else UNKNOWN_MODEL)
        page = templates("r2gengpt.serving").get_template("reference.html")
        text = page.render(operations=found, notice=NOTICE, version=__version__)
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    router.add_route("/docs", give)
    return router


LARGEST_SIDE = 2048
"""Pixels of a preview's longer side: more than a page shows, and small enough to encode while somebody waits."""
FIELDS = (IMAGE_FIELD, FRAME_FIELD, FORCE_FIELD)
PATIENT = "patient"
DOCUMENT = {
    "parameters": [{"name": PATIENT, "in": "query", "schema": {"type": "boolean", "default": False}}],
    **form_document(FIELDS, PNG, JSON),
}


@dataclass(frozen=True)
class Preview:
    """An 8-bit PNG with the file's own window, and what it was made from."""

    png: bytes
    source: Source


def preview_of(form: StudyUpload, settings: ServeConfig) -> Preview:
    """The one film of a form as a picture: 8-bit grey, or RGB of one in colour, at most `LARGEST_SIDE` a side.

    Raises:
        ApiError: it is refused, or there are several.
    """
    if len(form.films) > 1:
        raise ApiError(400, f"{len(form.films)} images: a preview is of one")
    (source,) = sources_of(form.films, form.choice, settings)
    picture = picture_of(form.films[0], form.choice, LARGEST_SIDE // 2)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    red, green, blue = picture.split()
    out = io.BytesIO()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    (red if grey else picture).save(out, "PNG", compress_level=1)
    return Preview(out.getvalue(), source)


def facts_of(source: Source) -> dict[str, str]:
    """What a page says of a film, as headers: its view and what may mislead in it. Values of a file go as ASCII.

    No header names the patient: proxies write headers into logs. `preview_json` has the patient in the body.
    """
    record = source.to_json()
    named = {"X-View": record.get("view", ""), "X-Warning": "; ".join(record.get("warnings", ()))}
    return {name: plain for name, value in named.items() if (plain := _plain(value))}


def preview_json(made: Preview) -> dict[str, Any]:
    """The picture in base64, its view, what may mislead in it, and of DICOM whose it is."""
    record = made.source.to_json()
    facts = {"view": record.get("view", ""), "warnings": record.get("warnings", [])}
    header = made.source.header
    patient = {} if header is None else {"patient": patient_json(header)}
    return {"png": base64.b64encode(made.png).decode(), **facts, **patient}


def patient_json(header: DicomHeader) -> dict[str, str]:
    """Whose film it is and when it was taken, for the reader of the page; empty where the file has none."""
    return {
        "id": shown(header.patient_id),
        "name": shown(header.name),
        "accession": shown(header.accession),
        "study_date": header.study_date,
    }


def _plain(text: str) -> str:
    return "".join(letter for letter in text if " " <= letter <= "~")[:200].strip()


def preview_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/preview`."""
    router = APIRouter()

    @router.post("/v1/preview", openapi_extra=DOCUMENT)
    async def preview(request: Request) -> Any:
        """A film with the window that its file names, for the eye; the model reads the file itself.

        With `patient` it comes in JSON that names the patient, whom the headers of the PNG do not name.
        """
        whole = truth_of(request.query_params.get(PATIENT, "false"), PATIENT)
        with ExitStack() as stack:
            admitted = stack.enter_context(server.admit())
            form = await admitted.read(read_form(request.headers, admitted.pieces(request), server.settings, FIELDS))
            made = await admitted.prepare(lambda: preview_of(form, server.settings))
            note_films(request, [made.source])
        if whole:
            return JSONResponse(preview_json(made))
        return Response(made.png, media_type=PNG, headers=facts_of(made.source))

    return router
