"""`POST /v1/verdicts`: what a reader made of a draft, kept. The draft comes back in its receipt; nothing waits here.

A receipt is sealed under a key of the store, so any server of one store takes the receipts of the others.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from r2gengpt.serving.failures import INVALID, ApiError, full, unavailable
from r2gengpt.serving.faults import first_fault
from r2gengpt.serving.trail import note_draft
from r2gengpt.serving.uploads import check_length, read_body
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.text.sentences import sentence_spans
from r2gengpt.verdicts.findings import added, removed
from r2gengpt.verdicts.receipt import LONGEST_RECEIPT, BrokenReceipt, unseal
from r2gengpt.verdicts.record import (
    EDIT,
    LONGEST_NOTE,
    LONGEST_TEXT,
    MOST_SENTENCES,
    DraftFacts,
    KeptVerdict,
    ReaderVerdict,
)

if TYPE_CHECKING:
    from r2gengpt.verdicts.store import VerdictStore

log = logging.getLogger("r2gengpt.serving")
LARGEST_BODY = 2**19
"""Bytes: the longest receipt and text, each letter of which JSON may spell with several."""
MOST_WAITING = 32
"""Verdicts that wait for the database at once; one more is answered with 429."""
NO_STORE = "this server keeps no verdicts: it was started without a place for them (`verdicts`)"


class VerdictRequest(BaseModel):
    """The body: the draft's receipt, and what its reader made of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    receipt: str = Field(description="of the draft, as its answer had it")
    verdict: Literal["accept", "edit", "reject", "withdraw"] = Field(description="the newest of a draft counts")
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{16,64}$")] = Field(
        description="drawn by the client for this verdict; sent again under it, a verdict is kept once"
    )
    text: str = Field("", description=f"as the reader leaves it, of an edit; at most {LONGEST_TEXT} characters")
    reason: Literal["", "missed", "invented", "place", "wording", "film", "other"] = Field(
        "", description="what was wrong with the draft"
    )
    note: str = Field("", description=f"the reader's own words; at most {LONGEST_NOTE} characters")


_COUNT = {"type": "integer"}
_NAMES = {"type": "array", "items": {"type": "string"}}
ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "number": {**_COUNT, "description": "of the verdict in the store; it rises"},
        "draft": {"type": "string", "description": "the id of the draft's answer"},
        "verdict": {"type": "string"},
        "decided": {"type": "string", "description": "when it came in, ISO 8601"},
        "seconds": {"type": "number", "description": "from the draft to the verdict"},
        "sentences_changed": {**_COUNT, "description": "sentences changed, added or removed"},
        "words_changed": {**_COUNT, "description": "words inserted, deleted or replaced in them"},
        "findings_added": {**_NAMES, "description": "by the reader; absent where nothing reads texts"},
        "findings_removed": {**_NAMES, "description": "the same"},
    },
}
DOCUMENT = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": VerdictRequest.model_json_schema()}}},
    "responses": {
        "200": {"description": "kept before under this key", "content": {"application/json": {"schema": ANSWER}}},
        "201": {"description": "kept", "content": {"application/json": {"schema": ANSWER}}},
    },
}


def checked(body: bytes | bytearray) -> VerdictRequest:
    """The request of a body.

    Raises:
        ApiError: 400, it is none, or a text is too long or holds what no database keeps.
    """
    try:
        asked = VerdictRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise first_fault(error) from None
    for name, most in (("receipt", LONGEST_RECEIPT), ("text", LONGEST_TEXT), ("note", LONGEST_NOTE)):
        check_length(getattr(asked, name), name, most)
        if "\0" in getattr(asked, name):
            raise ApiError(400, f"{name}: holds a zero byte", INVALID, param=name)
    if asked.verdict == EDIT and not asked.text.strip():
        raise ApiError(400, "text: is empty, and an edit needs one", INVALID, param="text")
    if asked.verdict != EDIT and asked.text:
        raise ApiError(400, f"text: has no place beside the verdict {asked.verdict}", INVALID, param="text")
    if (count := len(sentence_spans(asked.text))) > MOST_SENTENCES:
        raise ApiError(400, f"text: has {count} sentences: at most {MOST_SENTENCES}", INVALID, param="text")
    return asked


def facts_of(asked: VerdictRequest, key: bytes) -> DraftFacts:
    """The draft of a request's receipt.

    Raises:
        ApiError: 400, no server of this store gave it out.
    """
    try:
        return unseal(asked.receipt, key)
    except BrokenReceipt:
        words = "receipt: no server of this store gave it out, or it was changed"
        raise ApiError(400, words, INVALID, param="receipt") from None


def kept_json(kept: KeptVerdict) -> dict[str, Any]:
    """The answer."""
    found: dict[str, Any] = {
        "number": kept.number,
        "draft": kept.facts.id,
        "verdict": kept.judgement.verdict,
        "decided": kept.decided.isoformat(timespec="milliseconds"),
        "seconds": round(kept.seconds, 3),
        "sentences_changed": kept.sentences_changed,
        "words_changed": kept.words_changed,
    }
    if kept.before is not None and kept.after is not None:
        changes = {"findings_added": added, "findings_removed": removed}
        found |= {name: sorted(change(kept.before, kept.after)) for name, change in changes.items()}
    return found


def verdict_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/verdicts`."""
    router = APIRouter()
    waiting = 0

    async def keep(request: Request, store: "VerdictStore", asked: VerdictRequest) -> tuple[KeptVerdict, bool]:
        """Keep a verdict, in its turn; whether it is new."""
        nonlocal waiting
        facts = facts_of(asked, store.key)
        note_draft(request, facts)
        judgement = ReaderVerdict(asked.verdict, asked.key, asked.text, asked.reason, asked.note)
        if waiting >= MOST_WAITING:
            raise full(MOST_WAITING)
        from sqlalchemy.exc import SQLAlchemyError

        from r2gengpt.verdicts.store import OtherVerdict

        waiting += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(server.archive, store.keep, facts, judgement)
            return await work
        except OtherVerdict:
            words = "key: another verdict came under it: draw a new one for each verdict"
            raise ApiError(409, words, INVALID, param="key") from None
        except SQLAlchemyError as error:
            log.error("verdicts: the database failed: %s", type(getattr(error, "orig", None) or error).__name__)
            raise unavailable("the database of verdicts does not answer: the verdict is not kept") from None
        finally:
            waiting -= 1

    @router.post("/v1/verdicts", openapi_extra=DOCUMENT)
    async def verdicts(request: Request) -> Response:
        """Keep what a reader made of a draft. A change of mind is another verdict; none is overwritten."""
        store = server.verdicts
        if store is None:
            raise ApiError(404, NO_STORE.replace("`", ""), "no_verdicts")
        with server.body_without_place(request, LARGEST_BODY) as pieces:
            asked = checked(await read_body(pieces))
            kept, new = await keep(request, store, asked)
        return JSONResponse(kept_json(kept), 201 if new else 200)

    return router
