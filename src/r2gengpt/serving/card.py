"""`GET /v1/card`: which model this server has, and its model card, before anything is written. Loads nothing."""

import asyncio
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from r2gengpt.clinical.documents.forms import check_form
from r2gengpt.errors import InputError
from r2gengpt.serving.served import ServedModel, runs_in_torch, runtimes_of
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.settings import OBJECT_FORMS

CARD = "README.md"
LARGEST = 2**18
"""Bytes of a model card; the rest of a longer one is left out."""
_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"^<!--[^\n]*-->\n", re.MULTILINE)
"""A line by which programs find their way in a card; no reader is meant to see it."""
_LICENCE = re.compile(r"^license:\s*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class ModelCard:
    """What a reader should know of a model first.

    Attributes:
        name: as its reports call it.
        vision_model: the name of its encoder.
        lm_model: the name of its language model; empty where it composes sentences without one.
        finding_head: whether it tells what films show.
        context: what it reads of a study beside its films, by the fields of forms; `prior`: an earlier study.
        maps: whether it can map sentences on the films.
        runtimes: what runs it, first what writes a plain report.
        licence: as the card's head names it, or "".
        card: the model card in Markdown, without its head; "" where there is none.
        forms: for archives, which this server can give.
    """

    name: str
    vision_model: str
    lm_model: str
    finding_head: bool
    context: tuple[str, ...]
    maps: bool
    runtimes: tuple[str, ...]
    licence: str
    card: str
    forms: tuple[str, ...]


def card_text(directory: Path) -> tuple[str, str]:
    """The licence that a checkpoint's card names, and the card's text; both empty where there is none."""
    file = directory / CARD
    if not file.is_file():
        return "", ""
    with file.open("rb") as opened:
        text = opened.read(LARGEST).decode("utf-8", "replace").replace("\r\n", "\n")
    front = _FRONT.match(text)
    named = _LICENCE.search(front[1]) if front else None
    shown = _COMMENT.sub("", text[front.end() :] if front else text)
    return (named[1].strip() if named else ""), shown.strip()


def model_card(reporter: ServedModel) -> ModelCard:
    """The card of a loaded model."""
    vision_model, lm_model = reporter.part_names
    licence, card = card_text(reporter.directory)
    return ModelCard(
        name=reporter.name,
        vision_model=vision_model,
        lm_model="" if reporter.composes else lm_model,
        finding_head=reporter.tells_findings,
        context=reporter.context_fields,
        maps=runs_in_torch(reporter),
        runtimes=tuple(runtimes_of(reporter)),
        licence=licence,
        card=card,
        forms=tuple(form for form in ("fhir", *OBJECT_FORMS) if _given(form)),
    )


def _given(form: str) -> bool:
    try:
        check_form(form, field="form", value=form)
    except InputError:
        return False
    return True


def card_routes(server: ServerContext) -> APIRouter:
    """`GET /v1/card`."""
    router = APIRouter()

    @router.get("/v1/card")
    async def card() -> dict[str, Any]:
        """The model's name, parts and card."""
        return asdict(await asyncio.to_thread(model_card, server.reporter()))

    return router
