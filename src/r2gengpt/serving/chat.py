"""OpenAI's chat completions: a user message with the images of one study in, the report as the assistant's answer."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from r2gengpt.config import DecodeConfig, ServeConfig
from r2gengpt.data.containers import DicomChoice
from r2gengpt.errors import InputError
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.films import Film, read_films
from r2gengpt.serving.generator import Served
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.serving.provenance import Source, provenance
from r2gengpt.serving.stream import EventStream
from r2gengpt.serving.uploads import MOST_FRAMES, check_count, check_text, film_of_url, read_body
from r2gengpt.serving.waiting import Desk, Event, Wait
from r2gengpt.text.notice import NOTICE


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageUrl(_Part):
    """An image; `detail` has no effect here, each is read at the model's size."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Part):
    """An image of the study."""

    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(_Part):
    """What the prompt asks for, instead of the model's own instruction."""

    type: Literal["text"]
    text: str


class Message(_Part):
    """The user's message; other roles have no place in the model's prompt."""

    role: Literal["user"]
    content: list[ImagePart | TextPart]


class StreamOptions(_Part):
    """Of a stream."""

    include_usage: bool = False


class ChatRequest(_Part):
    """A request as OpenAI's clients make it; what is not listed is refused, not passed over."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: float | None = Field(None, ge=0, le=0, description="only 0")
    presence_penalty: float | None = Field(None, ge=0, le=0, description="only 0")
    user: str | None = Field(None, description="accepted and thrown away")
    frame: int | None = Field(None, ge=1, le=MOST_FRAMES, description="of DICOM of several frames (not OpenAI's)")
    force: bool = Field(False, strict=True, description="read DICOM that is no chest film too (not OpenAI's)")


def parse_chat(body: bytes) -> ChatRequest:
    """The request.

    Raises:
        ApiError: not JSON, or not of the form; the first fault is named.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ApiError(400, f"{where + ': ' if where else ''}{first['msg']}") from None


def chat_decode(chat: ChatRequest, own: DecodeConfig) -> DecodeConfig:
    """How this request's report is written: the server's settings, changed as far as the client asks.

    A stream has one beam, as no word of several beams is final before the end. A temperature above 0, or a `top_p`
    below 1, draws tokens, with one beam. `max_tokens` can only shorten.

    Raises:
        ApiError: settings that contradict each other.
    """
    changes: dict[str, Any] = {}
    if chat.temperature or (chat.top_p is not None and chat.top_p < 1 and chat.temperature is None):
        changes.update(do_sample=True, beam_size=1, temperature=chat.temperature or 1.0, top_p=chat.top_p or 1.0)
    elif chat.temperature == 0:
        changes.update(do_sample=False, temperature=0.0)
    if chat.stream:
        changes["beam_size"] = 1
    if chat.seed is not None:
        changes["decode_seed"] = chat.seed
    most = min(n for n in (chat.max_tokens, chat.max_completion_tokens, own.max_new_tokens) if n is not None)
    changes.update(max_new_tokens=most, min_new_tokens=min(own.min_new_tokens or 0, most))
    try:
        return replace(own, **changes)
    except InputError as error:
        raise ApiError(400, str(error)) from None


def chat_parts(chat: ChatRequest, settings: ServeConfig) -> tuple[list[Film], str | None]:
    """The images and the text of the message; None where it has no text.

    Raises:
        ApiError: no image or too many, an address instead of a data URL, a text that is refused.
    """
    content = chat.messages[0].content
    films = [
        film_of_url(part.image_url.url, f"messages.0.content.{number}")
        for number, part in enumerate(content)
        if isinstance(part, ImagePart)
    ]
    check_count(len(films), settings)
    text = "\n".join(part.text for part in content if isinstance(part, TextPart)).strip()
    return films, check_text(text, "messages.0.content") or None


def read_chat(body: bytes, served: Served, settings: ServeConfig) -> tuple[ChatRequest, Job, list[Source]]:
    """A request's bytes to the job; for a decoding thread.

    Raises:
        ApiError: the request is refused.
    """
    chat = parse_chat(body)
    if chat.model != served.name:
        raise ApiError(404, f"model: this server has {served.name} only", "model_not_found")
    decode = chat_decode(chat, served.decode)
    films, text = chat_parts(chat, settings)
    choice = DicomChoice(chat.frame, chat.force)
    pixels, sources = read_films(films, choice, served.built.processor, settings)
    return chat, Job(pixels, text, decode), sources


def sentences_of(answer: Answer) -> Any:
    """The report's sentences with what is known of each; beside OpenAI's own fields, which have no place for it."""
    return answer.prediction.to_json()["sentences"]


class Completion:
    """The answer to one request, whole or in chunks."""

    def __init__(self, served: Served, job: Job, sources: list[Source]) -> None:
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
        self.tail = {"provenance": provenance(served.name, served.origin, job.decode, sources)}

    @staticmethod
    def usage(answer: Answer) -> dict[str, int]:
        """Tokens of the prompt, image tokens included, and of the report, the end token included."""
        prompt, new = answer.prompt_tokens, answer.prediction.tokens
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The object `chat.completion`."""
        message = {"role": "assistant", "content": answer.prediction.prediction, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.prediction.finish}
        more = {"usage": self.usage(answer), "notice": NOTICE, "sentences": sentences_of(answer), **self.tail}
        return {**self.head, "object": "chat.completion", "choices": [choice], **more}

    def chunk(self, delta: dict[str, str], finish: str | None = None, **more: Any) -> dict[str, Any]:
        """An object `chat.completion.chunk`."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice], "notice": NOTICE, **more}

    async def chunks(self, first: Event, wait: Wait, desk: Desk, *, with_usage: bool) -> AsyncIterator[str]:
        """The data of all events, as text."""
        yield json.dumps(self.chunk({"role": "assistant", "content": ""}))
        event = first
        while isinstance(event, str):
            yield json.dumps(self.chunk({"content": event}))
            event = await wait.next()
        desk.metrics.tokens.inc(event.prediction.tokens)
        yield json.dumps(self.chunk({}, event.prediction.finish, sentences=sentences_of(event), **self.tail))
        if with_usage:
            yield json.dumps({**self.chunk({}), "choices": [], "usage": self.usage(event)})
        yield "[DONE]"


def chat_routes(desk: Desk) -> APIRouter:
    """`POST /v1/chat/completions` and `GET /v1/models`."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Any:
        """The one model, in OpenAI's shape."""
        one = {"id": desk.served().name, "object": "model", "created": 0, "owned_by": "r2gengpt"}
        return {"object": "list", "data": [one]}

    schema = {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(ChatRequest)}}}}

    @router.post("/v1/chat/completions", openapi_extra=schema)
    async def chat_completions(request: Request) -> Response:
        """The report of one study; images as data URLs. With `stream` as server-sent events."""
        with ExitStack() as stack:
            visit = stack.enter_context(desk.visit())
            body = await visit.read(read_body(request, desk.settings.max_body_mb * 2**20))
            chat, job, sources = await visit.prepare(partial(read_chat, body, visit.served, desk.settings))
            wait = stack.enter_context(visit.wait(job, request))
            wait.begin(streaming=chat.stream)
            completion = Completion(visit.served, job, sources)
            if chat.stream:
                with_usage = chat.stream_options is not None and chat.stream_options.include_usage
                first = await wait.next()  # until then an error still has a status
                events = completion.chunks(first, wait, desk, with_usage=with_usage)
                return EventStream(events, stack.pop_all(), visit.deadline)
            answer = await wait.answer()
            desk.metrics.tokens.inc(answer.prediction.tokens)
            return JSONResponse(completion.whole(answer))

    return router


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema with its definitions in place, as a route's own schema has nowhere to keep them."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def put(node: Any) -> Any:
        if isinstance(node, list):
            return [put(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return put(definitions[node["$ref"].rpartition("/")[2]])
        return {key: put(value) for key, value in node.items() if key != "discriminator"}

    found: dict[str, Any] = put(schema)
    return found
