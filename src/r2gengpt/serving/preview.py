"""`POST /v1/preview`: a DICOM film in, the picture that a viewer would first show out, for the web page. No report."""

import io
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import Response

from r2gengpt.config import ServeConfig
from r2gengpt.serving.documents import form_document
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.films import picture_of, sources_of
from r2gengpt.serving.provenance import Source
from r2gengpt.serving.uploads import FORCE_FIELD, FRAME_FIELD, IMAGE_FIELD, Form, read_form
from r2gengpt.serving.waiting import Desk

LARGEST_SIDE = 2048
"""Pixels of a preview's longer side: more than a page shows, and small enough to encode while somebody waits."""
FIELDS = (IMAGE_FIELD, FRAME_FIELD, FORCE_FIELD)
DOCUMENT = form_document(FIELDS, "image/png")


@dataclass(frozen=True)
class Preview:
    """An 8-bit PNG with the file's own window, and what it was made from."""

    png: bytes
    source: Source


def preview_of(form: Form, settings: ServeConfig) -> Preview:
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
    """What a page says of a film, as headers: its view and what may mislead in it. Values of a file go as ASCII."""
    record = source.to_json()
    named = {"X-View": record.get("view", ""), "X-Warning": "; ".join(record.get("warnings", ()))}
    return {name: plain for name, value in named.items() if (plain := _plain(value))}


def _plain(text: str) -> str:
    return "".join(letter for letter in text if " " <= letter <= "~")[:200].strip()


def preview_routes(desk: Desk) -> APIRouter:
    """`POST /v1/preview`."""
    router = APIRouter()

    @router.post("/v1/preview", openapi_extra=DOCUMENT)
    async def preview(request: Request) -> Any:
        """A film with the window that its file names, for the eye; the model reads the file itself."""
        with ExitStack() as stack:
            visit = stack.enter_context(desk.visit())
            form = await visit.read(read_form(request.headers, visit.pieces(request), desk.settings, FIELDS))
            made = await visit.prepare(lambda: preview_of(form, desk.settings))
        return Response(made.png, media_type="image/png", headers=facts_of(made.source))

    return router
