"""What OpenAI's clients send for a chat completion: which fields are served, and how others are refused. No decoding.

A field that asks for nothing is taken: null, empty, or the value that says what this server does anyway.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from r2gengpt.serving.bodies import Apart
from r2gengpt.serving.conversation import NO_USER, SYSTEM, last_turn
from r2gengpt.serving.failures import INVALID, UNSUPPORTED, ApiError
from r2gengpt.serving.faults import first_fault
from r2gengpt.serving.uploads import MOST_FRAMES

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"], []),
    "audio": (),
    "prediction": (),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "web_search_options": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "tool_ids": ([],),
    "tool_servers": ([],),
    "files": ([],),
    "features": ({},),
    "filter_ids": ([],),
}
"""Field of OpenAI's → the values, besides null, that ask for what this server does anyway. Others are refused."""
NUMBERS = ("n", "top_logprobs", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "frame")
MOST_CHOICES, MOST_STOPS, LONGEST_STOP, MOST_LIKELIEST = 4, 4, 200, 20
IGNORED = "accepted and thrown away"
ASKS_FOR_NOTHING = "taken with these values, which ask for nothing"
Ignored = Annotated[str | None, Field(description=IGNORED)]
Bookkeeping = Annotated[Any, Field(description=IGNORED)]


class _Part(BaseModel):
    """An object of a request; its members that are null are as if they were not there."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class ImageUrl(_Part):
    """An image; `detail` has no effect here, each is read at the model's size."""

    url: str = Field(description="a data URL of PNG, JPEG or DICOM in base64; nothing is fetched")
    detail: Literal["auto", "low", "high", "original"] | None = None
    format: Ignored = None


class ImagePart(_Part):
    """An image of the study."""

    type: Literal["image_url"]
    image_url: ImageUrl = Field(description="or its URL alone")
    cache_control: dict[str, str] | None = Field(None, description="accepted and thrown away")

    @field_validator("image_url", mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


class TextPart(_Part):
    """What the prompt asks for, instead of the model's own instruction."""

    type: Literal["text"]
    text: str = Field(description="what the prompt asks for, instead of the model's own instruction")
    cache_control: dict[str, str] | None = Field(None, description="accepted and thrown away")


class Message(_Part):
    """The user's message with the study, a system's, whose text opens the instruction, or an earlier turn's."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description="a system's text opens the instruction; messages of the last three are left out"
    )
    content: list[Annotated[ImagePart | TextPart, Field(discriminator="type")]] = Field(
        [], fail_fast=True, description="or a text alone"
    )
    name: Ignored = None

    @field_validator("content", mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value


class JsonSchema(_Part):
    """The object that an answer is wanted as."""

    name: Ignored = None
    description: Ignored = None
    schema_: dict[str, Any] = Field({}, alias="schema", description="an object of members of the report's document")
    strict: bool = Field(False, description="no effect: the answer always has the members that are asked for")


class ResponseFormat(_Part):
    """What the answer's content is: the report's text, or its document as JSON, whole or with the members asked for."""

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="the report's text, its document as JSON, or the members that a schema names"
    )
    json_schema: JsonSchema | None = Field(None, description="with this type")

    @model_validator(mode="after")
    def _with_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is needed with this type")
        return self


class StreamOptions(_Part):
    """Of a stream."""

    include_usage: bool = Field(False, description="the tokens, in a last chunk")
    include_obfuscation: bool = Field(False, description="no effect: no event is padded")


def _with_neutral(schema: dict[str, Any]) -> None:
    """The fields of `NEUTRAL` in the request's JSON schema."""
    neutral = {name: {"enum": [*values, None], "description": ASKS_FOR_NOTHING} for name, values in NEUTRAL.items()}
    schema["properties"] |= neutral


class ChatRequest(_Part):
    """A request as OpenAI's clients make it; what is asked for and not served is refused, not passed over."""

    model_config = ConfigDict(json_schema_extra=_with_neutral)

    model: str = Field(description="the name that /v1/models gives")
    messages: list[Message] = Field(
        min_length=1, fail_fast=True, description="the last user message holds the study; earlier turns are left out"
    )
    n: int = Field(1, ge=1, le=MOST_CHOICES, description="choices; drawn ones have the seeds seed, seed + 1, …")
    stop: list[Annotated[str, Field(max_length=LONGEST_STOP)]] = Field(
        [], max_length=MOST_STOPS, description="the text ends before the first of these; or a text alone"
    )
    logprobs: bool = Field(False, description="the log-probability of each token")
    top_logprobs: int = Field(0, ge=0, le=MOST_LIKELIEST, description="the likeliest tokens at each place, so many")
    response_format: ResponseFormat | None = Field(None, description="the content as JSON")
    stream: bool = Field(False, description="as server-sent events, with one beam")
    stream_options: StreamOptions | None = Field(None, description="of a stream")
    max_tokens: int | None = Field(None, ge=1, description="can only shorten")
    max_completion_tokens: int | None = Field(None, ge=1, description="the same")
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="above 0 tokens are drawn, with one beam"
    )
    top_p: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="below 1 tokens are drawn, from this share"
    )
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="of drawn tokens")
    user: Bookkeeping = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    metadata: Bookkeeping = None
    chat_id: Bookkeeping = None
    session_id: Bookkeeping = None
    message_id: Bookkeeping = None
    id: Bookkeeping = None
    parent_id: Bookkeeping = None
    parent_message: Bookkeeping = None
    conversation_id: Bookkeeping = None
    user_id: Bookkeeping = None
    variables: Bookkeeping = None
    model_item: Bookkeeping = None
    background_tasks: Bookkeeping = None
    frame: int | None = Field(None, ge=1, le=MOST_FRAMES, description="of DICOM of several frames (not OpenAI's)")
    force: bool = Field(False, strict=True, description="read what is no chest film too (not OpenAI's)")
    mixed_patients: bool = Field(
        False, strict=True, description="take DICOM of two patients or two studies for one study (not OpenAI's)"
    )

    @model_validator(mode="before")
    @classmethod
    def _asks_for_one_report(cls, data: Any) -> Any:
        """Refuse what is not served, and take out what asks for nothing."""
        if not isinstance(data, dict):
            return data
        for name, values in NEUTRAL.items():
            if not _is_nothing(data.get(name)) and not any(_is_same(data[name], value) for value in values):
                words = " or ".join(_json_word(value) for value in (*values, None))
                raise ApiError(400, f"{name}: this server takes {words} only", UNSUPPORTED, param=name)
        left = {name: value for name, value in data.items() if name not in NEUTRAL}
        return {**left, "messages": last_turn(left["messages"])} if "messages" in left else left

    @field_validator(*NUMBERS, mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("must be a number")
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _without_empty(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value
        return [text for text in texts if text != ""] if isinstance(texts, list) else texts

    @model_validator(mode="after")
    def _likeliest_of_logprobs(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs: needs logprobs true", INVALID, param="top_logprobs")
        return self

    @property
    def study(self) -> tuple[int, Message]:
        """The user's last message, and its number.

        Raises:
            ApiError: there is none.
        """
        for number, message in reversed(list(enumerate(self.messages))):
            if message.role == "user":
                return number, message
        raise ApiError(400, NO_USER, INVALID, param="messages")

    @property
    def has_earlier_turns(self) -> bool:
        """Whether turns before the study were left out."""
        return any(message.role not in SYSTEM for message in self.messages[: self.study[0]])

    @property
    def as_json(self) -> bool:
        """Whether the content is wanted as JSON."""
        return self.response_format is not None and self.response_format.type != "text"


def _is_nothing(value: Any) -> bool:
    """Whether a value is null, or an object none of whose members asks for anything."""
    return value is None or (isinstance(value, dict) and not any(value.values()))


def _is_same(sent: Any, value: Any) -> bool:
    return bool(sent == value) and isinstance(sent, bool) == isinstance(value, bool)


def _json_word(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value).replace("'", '"') or '""'


def parse_chat(apart: Apart) -> ChatRequest:
    """The request.

    Raises:
        ApiError: not JSON, or not of the form; the first fault is named.
    """
    try:
        return ChatRequest.model_validate_json(apart.rest)
    except ValidationError as error:
        raise first_fault(error) from None
