"""A chat request to a job of the engine: its images, its instruction, how to decode. No routes and no answers."""

from dataclasses import dataclass, replace
from typing import Any

from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.provenance import Source
from r2gengpt.serving.bodies import LONG, Apart, NoDataUrl, read_data_url, take_apart
from r2gengpt.serving.chat_request import LONGEST_STOP, ChatRequest, ImagePart, Message, TextPart, parse_chat
from r2gengpt.serving.conversation import EARLIER_LEFT_OUT
from r2gengpt.serving.failures import INVALID, UNSUPPORTED, ApiError, no_model, refused
from r2gengpt.serving.films import Upload, read_films
from r2gengpt.serving.instructions import asked_of, instruction_warnings
from r2gengpt.serving.jobs import Job, new_future
from r2gengpt.serving.report_members import Members, members_of
from r2gengpt.serving.served import ServedModel, check_torch
from r2gengpt.serving.uploads import MAX_TEXT, check_count, check_text
from r2gengpt.settings import ServeConfig
from r2gengpt.text.context import NO_CONTEXT


@dataclass(frozen=True)
class ChatStudy:
    """A chat request that was read.

    Attributes:
        chat: the request.
        jobs: one a choice, or one for all where each choice would be the same.
        sources: what its images were.
        warnings: what is to be known of the answer.
        members: of the JSON that the content is wanted as; None: the report's text.
    """

    chat: ChatRequest
    jobs: tuple[Job, ...]
    sources: list[Source]
    warnings: list[str]
    members: Members | None

    def choices_of(self, job: int) -> range:
        """The numbers of the choices that a job writes."""
        return range(self.chat.n) if len(self.jobs) == 1 else range(job, job + 1)

    @property
    def streams_text(self) -> bool:
        """Whether the text is sent as it is written."""
        return self.chat.stream and self.members is None


def chat_decode(chat: ChatRequest, whole: DecodeConfig, streamed: DecodeConfig) -> DecodeConfig:
    """How this request's report is written: the server's settings of one kind, changed as far as the client asks.

    A stream has one beam, as no word of several beams is final before the end. A temperature above 0, or a `top_p`
    below 1, draws tokens, with one beam. `max_tokens` can only shorten.

    Raises:
        ApiError: settings that contradict each other.
    """
    changes: dict[str, Any] = {}
    own = streamed if chat.stream and not chat.as_json else whole
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


def film_of(part: ImagePart, name: str, apart: Apart) -> Upload:
    """The bytes of an image.

    Raises:
        ApiError: an address instead of a data URL, or not base64.
    """
    try:
        return Upload(name, read_data_url(apart.pieces(part.image_url.url)))
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


def films_of(chat: ChatRequest, apart: Apart, settings: ServeConfig) -> list[Upload]:
    """The images of the study.

    Raises:
        ApiError: no image or too many, or one that is no data URL.
    """
    number, message = chat.study
    parts = [(at, part) for at, part in enumerate(message.content) if isinstance(part, ImagePart)]
    check_count(len(parts), settings, "messages")
    return [film_of(part, f"messages.{number}.content.{at}", apart) for at, part in parts]


def check_can(chat: ChatRequest, apart: Apart, reporter: ServedModel, settings: ServeConfig) -> None:
    """Refuse what this server cannot do for anybody.

    Raises:
        ApiError: another model, log-probabilities of texts that no language model wrote, more choices than places, or
            the likeliest tokens where PyTorch is not.
    """
    if chat.model != reporter.name:
        raise no_model(reporter.name)
    if any(map(apart.is_long, chat.stop)):
        raise ApiError(400, f"stop: must have at most {LONGEST_STOP} characters", INVALID, param="stop")
    if chat.logprobs and reporter.composes:
        words = "logprobs: this server's reports are composed of training sentences, and have none"
        raise ApiError(400, words, UNSUPPORTED, param="logprobs")
    if chat.top_logprobs:
        check_torch(reporter, "top_logprobs", "the likeliest tokens")
    if chat.n > settings.places:
        raise ApiError(400, f"n: this server has {settings.places} places: at most as many", UNSUPPORTED, param="n")


def jobs_of(chat: ChatRequest, first: Job, *, drawn: bool) -> tuple[Job, ...]:
    """The jobs of a request: one a choice where tokens are drawn, each with the next seed, else one for all."""
    if not drawn:
        return (first,)
    seeds = [(first.decode.decode_seed + number) % 2**63 for number in range(chat.n)]
    return tuple(replace(first, decode=replace(first.decode, decode_seed=seed), future=new_future()) for seed in seeds)


def read_chat(body: bytearray, reporter: ServedModel, settings: ServeConfig) -> ChatStudy:
    """A request's bytes to its jobs; for a decoding thread.

    Raises:
        ApiError: the request is refused.
    """
    apart = take_apart(body)
    chat = parse_chat(apart)
    check_can(chat, apart, reporter, settings)
    members = members_of(chat.response_format)
    decode = chat_decode(chat, reporter.decode, reporter.streamed)
    if decode.do_sample:
        check_torch(reporter, "top_p" if chat.temperature is None else "temperature", "drawn texts")
    instruction, films = instruction_of(chat, apart, reporter.instruction), films_of(chat, apart, settings)
    choice = DicomChoice(chat.frame, chat.force, chat.mixed_patients)
    read = read_films(films, choice, reporter, settings)
    warnings = [EARLIER_LEFT_OUT] if chat.has_earlier_turns else []
    warnings += instruction_warnings(instruction, reporter)
    if instruction is None:
        instruction = asked_of(NO_CONTEXT, read.sources, reporter)
    first = Job(
        read.pixels, instruction, decode, stop=tuple(chat.stop), likeliest=chat.top_logprobs,
        facts=read.facts, force=choice.force or not reporter.refuses, asked_in="messages",
    )  # fmt: skip
    jobs = jobs_of(chat, first, drawn=decode.do_sample and not reporter.composes)
    return ChatStudy(chat, jobs, read.sources, warnings, members)
