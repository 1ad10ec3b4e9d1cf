"""OpenAI's chat completions: a user message with the images of one study in, the report as the assistant's answer."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from r2gengpt.serving.chat_job import read_chat
from r2gengpt.serving.chat_request import ChatRequest
from r2gengpt.serving.failures import no_model
from r2gengpt.serving.films import note_on
from r2gengpt.serving.generator import Served
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.serving.provenance import Source, provenance
from r2gengpt.serving.stream import EventStream
from r2gengpt.serving.uploads import read_body
from r2gengpt.serving.waiting import Desk, Event, Wait
from r2gengpt.text.notice import noted_json, with_note


def sentences_of(answer: Answer) -> Any:
    """The report's sentences with what is known of each; beside OpenAI's own fields, which have no place for it."""
    return answer.prediction.to_json()["sentences"]


class Completion:
    """The answer to one request, whole or in chunks."""

    def __init__(self, served: Served, job: Job, sources: list[Source]) -> None:
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
        self.tail = {"provenance": provenance(served.name, served.origin, job.decode, sources)}
        self.note = note_on(sources)
        self.notice = noted_json(self.note)

    @staticmethod
    def usage(answer: Answer) -> dict[str, int]:
        """Tokens of the prompt, image tokens included, and of the report, the end token included."""
        prompt, new = answer.prompt_tokens, answer.prediction.tokens
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The object `chat.completion`."""
        content = with_note(answer.prediction.prediction, self.note)
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.prediction.finish}
        more = {"usage": self.usage(answer), **self.notice, "sentences": sentences_of(answer), **self.tail}
        return {**self.head, "object": "chat.completion", "choices": [choice], **more}

    def chunk(self, delta: dict[str, str], finish: str | None = None, **more: Any) -> dict[str, Any]:
        """An object `chat.completion.chunk`."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice], **self.notice, **more}

    async def chunks(self, first: Event, wait: Wait, desk: Desk, *, with_usage: bool) -> AsyncIterator[str]:
        """The data of all events, as text."""
        yield json.dumps(self.chunk({"role": "assistant", "content": with_note("", self.note)}))
        event = first
        while isinstance(event, str):
            yield json.dumps(self.chunk({"content": event}))
            event = await wait.next()
        desk.metrics.tokens.inc(event.prediction.tokens)
        yield json.dumps(self.chunk({}, event.prediction.finish, sentences=sentences_of(event), **self.tail))
        if with_usage:
            yield json.dumps({**self.chunk({}), "choices": [], "usage": self.usage(event)})
        yield "[DONE]"


def model_record(name: str) -> dict[str, str | int]:
    """A model in OpenAI's shape."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "r2gengpt"}


def chat_routes(desk: Desk) -> APIRouter:
    """`POST /v1/chat/completions`, `GET /v1/models` and `GET /v1/models/NAME`."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Any:
        """The one model, in OpenAI's shape."""
        return {"object": "list", "data": [model_record(desk.served().name)]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Any:
        """The model of this name."""
        own = desk.served().name
        if name != own:
            raise no_model(own)
        return model_record(own)

    schema = {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(ChatRequest)}}}}

    @router.post("/v1/chat/completions", openapi_extra=schema)
    async def chat_completions(request: Request) -> Response:
        """The report of one study; images as data URLs. With `stream` as server-sent events."""
        with ExitStack() as stack:
            visit = stack.enter_context(desk.visit())
            body = await visit.read(read_body(visit.pieces(request)))
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
