"""A chat request to a job of the engine: its images, its instruction, how to decode. No routes and no answers."""

from dataclasses import replace
from typing import Any

from r2gengpt.config import DecodeConfig, ServeConfig
from r2gengpt.data.containers import DicomChoice
from r2gengpt.errors import InputError
from r2gengpt.serving.apart import LONG, Apart, take_apart
from r2gengpt.serving.chat_request import ChatRequest, ImagePart, Message, TextPart, parse_chat
from r2gengpt.serving.data_urls import NoDataUrl, read_data_url
from r2gengpt.serving.failures import INVALID, ApiError, no_model, refused
from r2gengpt.serving.films import Film, read_films
from r2gengpt.serving.generator import Served
from r2gengpt.serving.jobs import Job
from r2gengpt.serving.provenance import Source
from r2gengpt.serving.uploads import MAX_TEXT, check_count, check_text


def chat_decode(chat: ChatRequest, whole: DecodeConfig, streamed: DecodeConfig) -> DecodeConfig:
    """How this request's report is written: the server's settings of one kind, changed as far as the client asks.

    A stream has one beam, as no word of several beams is final before the end. A temperature above 0, or a `top_p`
    below 1, draws tokens, with one beam. `max_tokens` can only shorten.

    Raises:
        ApiError: settings that contradict each other.
    """
    changes: dict[str, Any] = {}
    own = streamed if chat.stream else whole
    if chat.temperature or (chat.top_p is not None and chat.top_p < 1 and chat.temperature is None):
        own = streamed
        changes.update(do_sample=True, temperature=chat.temperature or 1.0, top_p=chat.top_p or 1.0)
    elif chat.temperature == 0:
        changes.update(do_sample=False, temperature=0.0)
    if chat.seed is not None:
        changes["decode_seed"] = chat.seed
    most = min(n for n in (chat.max_tokens, chat.max_completion_tokens, own.max_new_tokens) if n is not None)
    changes.update(max_new_tokens=most, min_new_tokens=min(own.min_new_tokens or 0, most))
    try:
        return replace(own, **changes)
    except InputError as error:
        raise refused(error) from None


def text_of(message: Message, name: str, apart: Apart) -> str:
    """The texts of a message, a line each.

    Raises:
        ApiError: a text that is refused.
    """
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    if any(map(apart.is_long, texts)):
        raise ApiError(400, f"{name}: has more than {LONG} bytes: at most {MAX_TEXT} characters", INVALID, param=name)
    return check_text("\n".join(texts).strip(), name)


def film_of(part: ImagePart, name: str, apart: Apart) -> Film:
    """The bytes of an image.

    Raises:
        ApiError: an address instead of a data URL, or not base64.
    """
    try:
        return Film(name, read_data_url(apart.pieces(part.image_url.url)))
    except NoDataUrl:
        words = "must be a data URL of PNG, JPEG or DICOM in base64: this server fetches nothing"
    except ValueError:
        words = "its data URL is not base64"
    raise ApiError(400, f"{name}: {words}", INVALID, param=name)


def instruction_of(chat: ChatRequest, apart: Apart, own: str) -> str | None:
    """What the prompt asks for; None, the model's `own`, where no message has a text.

    A system's text opens it; the user's text stands for the model's own.

    Raises:
        ApiError: a text that is refused, or a system's message with an image.
    """
    texts = {"system": [""], "user": [""]}
    for number, message in enumerate(chat.messages):
        name = f"messages.{number}.content"
        if message.role != "user" and any(isinstance(part, ImagePart) for part in message.content):
            raise ApiError(400, f"{name}: images belong into the user message", INVALID, param=name)
        texts["user" if message.role == "user" else "system"].append(text_of(message, name, apart))
    system, asked = ("\n".join(filter(None, texts[kind])) for kind in ("system", "user"))
    return check_text(f"{system}\n{asked or own}", "messages") if system else asked or None


def films_of(chat: ChatRequest, apart: Apart, settings: ServeConfig) -> list[Film]:
    """The images of the study.

    Raises:
        ApiError: no image or too many, or one that is no data URL.
    """
    number, message = chat.study
    parts = [(at, part) for at, part in enumerate(message.content) if isinstance(part, ImagePart)]
    check_count(len(parts), settings, "messages")
    return [film_of(part, f"messages.{number}.content.{at}", apart) for at, part in parts]


def read_chat(body: bytearray, served: Served, settings: ServeConfig) -> tuple[ChatRequest, Job, list[Source]]:
    """A request's bytes to the job; for a decoding thread.

    Raises:
        ApiError: the request is refused.
    """
    apart = take_apart(body)
    chat = parse_chat(apart)
    if chat.model != served.name:
        raise no_model(served.name)
    decode = chat_decode(chat, served.decode, served.streamed)
    instruction, films = (
        instruction_of(chat, apart, served.built.processor.instruction),
        films_of(chat, apart, settings),
    )
    choice = DicomChoice(chat.frame, chat.force, chat.mixed_patients)
    pixels, sources = read_films(films, choice, served.built.processor, settings)
    return chat, Job(pixels, instruction, decode), sources
