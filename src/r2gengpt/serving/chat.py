"""OpenAI's chat completions: a user message with the images of one study in, the report as the assistant's answer."""

from contextlib import ExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from r2gengpt.serving.chat_answer import Completion
from r2gengpt.serving.chat_job import read_chat
from r2gengpt.serving.chat_request import ChatRequest
from r2gengpt.serving.documents import COMPLETION, answer_document
from r2gengpt.serving.failures import no_model
from r2gengpt.serving.trail import note_films
from r2gengpt.serving.uploads import read_body
from r2gengpt.serving.waiting import EventStream, ServerContext

MODEL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "its name"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    },
}
"""A model in OpenAI's shape, as a schema."""


def answered(schema: dict[str, Any]) -> dict[str, Any]:
    """A route's own part of the document: its answer in JSON."""
    return {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}


def model_record(name: str) -> dict[str, str | int]:
    """A model in OpenAI's shape."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "r2gengpt"}


def chat_routes(server: ServerContext) -> APIRouter:
    """`POST /v1/chat/completions`, `GET /v1/models` and `GET /v1/models/NAME`."""
    router = APIRouter()

    listed = {"object": {"const": "list"}, "data": {"type": "array", "items": MODEL}}

    @router.get("/v1/models", openapi_extra=answered({"type": "object", "properties": listed}))
    async def models() -> Any:
        """The one model, in OpenAI's shape."""
        return {"object": "list", "data": [model_record(server.reporter().name)]}

    @router.get("/v1/models/{name:path}", openapi_extra=answered(MODEL))
    async def model(name: str) -> Any:
        """The model of this name."""
        own = server.reporter().name
        if name != own:
            raise no_model(own)
        return model_record(own)

    answer = answer_document("findings", COMPLETION)
    schema = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": inlined(ChatRequest)}}},
        **answered(answer),
    }

    @router.post("/v1/chat/completions", openapi_extra=schema)
    async def chat_completions(request: Request) -> Response:
        """The report of one study; images as data URLs. With `stream` as server-sent events."""
        with ExitStack() as stack:
            admitted = stack.enter_context(server.admit())
            body = await admitted.read(read_body(admitted.pieces(request)))
            study = await admitted.prepare(partial(read_chat, body, admitted.reporter, server.settings))
            note_films(request, study.sources)
            admitted.take_places(len(study.jobs) - 1)
            await admitted.settle(*study.jobs)
            wait = stack.enter_context(admitted.wait(study.jobs, request))
            wait.begin(streaming=study.streams_text)
            completion = Completion(admitted.reporter, study)
            if study.chat.stream:
                first = await wait.next_of_any()  # until then an error still has a status
                return EventStream(completion.chunks(first, wait, server), stack.pop_all(), admitted.deadline)
            answers = await wait.answers()
            server.metrics.tokens.inc(sum(answer.report.tokens for answer in answers))
            return JSONResponse(completion.whole(answers))

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
