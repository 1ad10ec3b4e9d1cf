"""What OpenAI's clients send for a chat completion: which fields are served, and how others are refused. No decoding.

A field that asks for nothing is taken: null, empty, or the value that says what this server does anyway.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from r2gengpt.serving.apart import Apart
from r2gengpt.serving.failures import INVALID, UNSUPPORTED, ApiError
from r2gengpt.serving.uploads import MOST_FRAMES

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stop": ([], ""),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
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
}
"""Field of OpenAI's → the values, besides null, that ask for what this server does anyway. Others are refused."""
EARLIER_ROLES = ("assistant", "tool", "function")
CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
}
"""pydantic's kinds of faults → OpenAI's codes; the others are values of another type or out of range."""
WORDS = {
    "extra_forbidden": "is no field of this server",
    "union_tag_invalid": "must have the type text or image_url",
    "union_tag_not_found": "must have the type text or image_url",
}
"""pydantic's kinds of faults → words, where its own would repeat what a client sent."""
LONGEST_NAME = 60
Ignored = Annotated[str | None, Field(description="accepted and thrown away")]


class _Part(BaseModel):
    """An object of a request; its members that are null are as if they were not there."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class ImageUrl(_Part):
    """An image; `detail` has no effect here, each is read at the model's size."""

    url: str
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
    text: str
    cache_control: dict[str, str] | None = Field(None, description="accepted and thrown away")


class Message(_Part):
    """The user's message with the study, or a system's, whose text opens the instruction."""

    role: Literal["system", "developer", "user"]
    content: list[Annotated[ImagePart | TextPart, Field(discriminator="type")]] = Field(
        [], fail_fast=True, description="or a text alone"
    )
    name: Ignored = None

    @field_validator("content", mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value


class StreamOptions(_Part):
    """Of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="no effect: no event is padded")


def _with_neutral(schema: dict[str, Any]) -> None:
    """The fields of `NEUTRAL` in the request's JSON schema."""
    schema["properties"] |= {name: {"enum": [*values, None]} for name, values in NEUTRAL.items()}


class ChatRequest(_Part):
    """A request as OpenAI's clients make it; what is asked for and not served is refused, not passed over."""

    model_config = ConfigDict(json_schema_extra=_with_neutral)

    model: str
    messages: list[Message] = Field(min_length=1, fail_fast=True)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    user: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    metadata: dict[str, str] | None = Field(None, description="accepted and thrown away")
    frame: int | None = Field(None, ge=1, le=MOST_FRAMES, description="of DICOM of several frames (not OpenAI's)")
    force: bool = Field(False, strict=True, description="read DICOM that is no chest film too (not OpenAI's)")
    mixed_patients: bool = Field(
        False, strict=True, description="take DICOM of two patients or two studies for one study (not OpenAI's)"
    )

    @model_validator(mode="before")
    @classmethod
    def _asks_for_one_report(cls, data: Any) -> Any:
        """Refuse what is not served, and take out what asks for nothing."""
        if not isinstance(data, dict):
            return data
        _check_turns(data.get("messages"))
        for name, values in NEUTRAL.items():
            if data.get(name) is not None and not any(_is_same(data[name], value) for value in values):
                words = " or ".join(_json_word(value) for value in (*values, None))
                raise ApiError(400, f"{name}: this server takes {words} only", UNSUPPORTED, param=name)
        return {name: value for name, value in data.items() if name not in NEUTRAL}

    @property
    def study(self) -> tuple[int, Message]:
        """The user's message, and its number.

        Raises:
            ApiError: there is none.
        """
        for number, message in enumerate(self.messages):
            if message.role == "user":
                return number, message
        words = "messages: no user message: one with the study's images is needed"
        raise ApiError(400, words, INVALID, param="messages")


def _check_turns(messages: Any) -> None:
    """Refuse a conversation before its messages are looked at: they may be of any kind.

    Raises:
        ApiError: so it is.
    """
    found = messages if isinstance(messages, list) else []
    roles = [message.get("role") for message in found if isinstance(message, dict)]
    if roles.count("user") > 1 or any(role in roles for role in EARLIER_ROLES):
        words = "messages: this model answers one study at a time: send one user message, without earlier turns"
        raise ApiError(400, words, UNSUPPORTED, param="messages")


def _is_same(given: Any, value: Any) -> bool:
    return bool(given == value) and isinstance(given, bool) == isinstance(value, bool)


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
        raise _refused(error.errors(include_url=False, include_context=False, include_input=False)[0]) from None


def _refused(fault: ErrorDetails) -> ApiError:
    where, kind = ".".join(map(_name, _steps(fault["loc"]))), fault["type"]
    words = WORDS.get(kind, fault["msg"])
    return ApiError(400, f"{where + ': ' if where else ''}{words}", CODES.get(kind, INVALID), param=where or None)


def _steps(place: tuple[int | str, ...]) -> Iterator[int | str]:
    """A fault's place as the request has it: pydantic names the kind of a part after its number."""
    for at, step in enumerate(place):
        if not (at >= 2 and place[at - 2] == "content" and isinstance(place[at - 1], int)):
            yield step


def _name(step: int | str) -> str:
    """A step of a fault's place; names of unknown fields are the client's."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(step))
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"
