"""`POST /v1/pdf`: a text in, a PDF of it with the notice on each page out, for the web page. Needs no model.

Nothing is kept. A request takes no place in the queue, so that a draft can be saved while the server is busy.
"""

import asyncio
from urllib.parse import quote

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from r2gengpt.clinical.documents.plain_pdf import not_in_font, pdf_of
from r2gengpt.serving.faults import first_fault
from r2gengpt.serving.uploads import check_length, read_body
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.text.written import NOTICE

LONGEST = {"report": 50_000, "foot": 200}
"""Characters of each text; the report's are some fifteen pages."""
LARGEST_BODY = 2**19
"""Bytes: the longest text, each letter of which JSON may spell with several."""
MOST_NAMED = 50
"""Letters that the font lacks and that an answer names."""


class PdfRequest(BaseModel):
    """The body: the text, and what stands at the foot of each page."""

    model_config = ConfigDict(extra="forbid", strict=True)

    report: str
    foot: str = ""


DOCUMENT = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": PdfRequest.model_json_schema()}}},
    "responses": {"200": {"content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}}},
}


def pdf_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/pdf`."""
    router = APIRouter()

    @router.post("/v1/pdf", openapi_extra=DOCUMENT)
    async def pdf(request: Request) -> Response:
        """The text as a PDF; the header X-Replaced names the letters that became "?", percent-encoded."""
        with server.body_without_place(request, LARGEST_BODY) as pieces:
            body = await read_body(pieces)
            try:
                asked = PdfRequest.model_validate_json(bytes(body))
            except ValidationError as error:
                raise first_fault(error) from None
            for name, most in LONGEST.items():
                check_length(getattr(asked, name), name, most)
            file = await asyncio.to_thread(pdf_of, asked.report, NOTICE, asked.foot)
        missing = not_in_font(asked.report)[:MOST_NAMED]
        headers = {"X-Replaced": quote(missing)} if missing else {}
        return Response(file, media_type="application/pdf", headers=headers)

    return router
