"""What clients send: body and multipart form; all in memory and within limits. Images are not looked into.

Nothing here opens a path or an address: a file's name is not even read.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.reader import PLAIN
from r2gengpt.serving.failures import INVALID, ApiError, ClientGone, refused
from r2gengpt.serving.faults import CODES, shown_name
from r2gengpt.serving.films import Upload
from r2gengpt.settings import ServeConfig
from r2gengpt.text.context import NO_CONTEXT, Context, age_in, days_in, sex_in

MAX_TEXT = 4000
"""Characters of an instruction or an indication."""
MAX_KNOWN = 60_000
"""Characters of what is known of a draft, as JSON."""
IMAGE_FIELD, TEXT_FIELD, REPORT_FIELD, FRAME_FIELD, FORCE_FIELD = "images", "indication", "report", "frame", "force"
MIXED_FIELD, KNOWN_FIELD = "mixed_patients", "known"
PRIOR_FIELD, PRIOR_REPORT, PRIOR_DAYS = "prior_images", "prior_report", "prior_days"
CONTEXT_FIELDS = (TEXT_FIELD, "technique", "comparison", "age", "sex", "view")
PRIOR_FIELDS = (PRIOR_FIELD, PRIOR_REPORT, PRIOR_DAYS)
FILE_FIELDS = (IMAGE_FIELD, PRIOR_FIELD)
STUDY_FIELDS = (IMAGE_FIELD, *CONTEXT_FIELDS, *PRIOR_FIELDS, FRAME_FIELD, FORCE_FIELD, MIXED_FIELD)
MOST_FRAMES = 99_999
BODY_GRACE, SLOWEST = 15.0, 32 * 2**10
"""Seconds that any body may take, and the bytes a second that it must come with after them."""


@dataclass(frozen=True)
class StudyUpload:
    """A form that was read: its films, those of an earlier study, its texts, what it asks of DICOM files."""

    films: list[Upload]
    context: Context = NO_CONTEXT
    report: str = ""
    choice: DicomChoice = PLAIN
    known: str = ""
    prior: tuple[Upload, ...] = ()


async def limited_body(request: Request, limit: int, take: Callable[[int], None]) -> AsyncIterator[bytes]:
    """The body's pieces, as long as they are `limit` bytes together and do not come too slowly.

    Args:
        request: whose body was not read yet.
        limit: in bytes.
        take: called with the size of each piece before it is kept; refuses what there is no room for.

    Raises:
        ApiError: 413, by the announced length before anything is read, or by what has come; 408, it comes too slowly.
        ClientGone: the client went before the end.
    """
    refusal = ApiError(413, f"the body is larger than {limit} bytes", None, {"Connection": "close"})
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise refusal
    size, began = 0, asyncio.get_running_loop().time()
    while True:
        try:
            async with asyncio.timeout_at(began + BODY_GRACE + size / SLOWEST):
                message = await request.receive()
        except TimeoutError:
            words = f"the body comes too slowly: {SLOWEST} bytes a second are needed after {BODY_GRACE:g} seconds"
            raise ApiError(408, words, None, {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise refusal
        take(len(piece))
        yield piece
        if not message.get("more_body", False):
            return


async def read_body(pieces: AsyncIterator[bytes]) -> bytearray:
    """The whole body; raises as its pieces do."""
    body = bytearray()
    async for piece in pieces:
        body += piece
    return body


class _MemoryParser(MultiPartParser):
    """Starlette's parser, whose files stay in memory: the body's limit holds for them. It refuses a form cut off."""

    spool_max_size = 2**62
    ended = False
    """Whether the form's last boundary has come."""

    def on_end(self) -> None:
        self.ended = True

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for piece in pieces:
            yield piece
        if not self.ended:  # the parts before are whole: a view would be missing without a word
            raise MultiPartException("it is cut off before its last boundary")


def check_length(text: str, name: str, most: int) -> None:
    """Refuse a client's text that is too long.

    Raises:
        ApiError: 400.
    """
    if len(text) > most:
        raise ApiError(400, f"{name}: has {len(text)} characters: at most {most}", INVALID, param=name)


def check_text(text: str, name: str) -> str:
    """A client's text, as it may stand in a prompt.

    Raises:
        ApiError: too long, or with the image's place in it.
    """
    check_length(text, name, MAX_TEXT)
    if "<ImageHere>" in text:
        raise ApiError(400, f"{name}: may not hold <ImageHere>, which is the prompt's own", INVALID, param=name)
    return text


async def read_form(
    headers: Headers, pieces: AsyncIterator[bytes], settings: ServeConfig, fields: Sequence[str] = STUDY_FIELDS
) -> StudyUpload:
    """A multipart form of these fields.

    Raises:
        ApiError: not a form, broken, with other fields, too many films or none, or too large.
        ClientGone: the client went before the end.
    """
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "Content-Type: must be multipart/form-data")
    files = 2 * settings.max_images + 1
    parser = _MemoryParser(headers, pieces, max_files=files, max_fields=len(fields))  # type: ignore[arg-type]  # it only iterates
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise ApiError(400, f"the form cannot be read: {getattr(error, 'message', 'it is broken')}") from None
    except (ValueError, LookupError):  # headers of parts that are no text
        raise ApiError(400, "the form cannot be read: it is broken") from None
    try:
        found = await form_parts(form, fields)
    finally:
        await form.close()
    check_count(len(found.films), settings)
    if found.prior:
        check_count(len(found.prior), settings, PRIOR_FIELD)
    return found


async def form_parts(form: FormData, fields: Sequence[str]) -> StudyUpload:
    """What a form holds; of a field that comes twice the last counts. Lines of a text end as `\n`: browsers send CR LF.

    Raises:
        ApiError: fields that are not known, or values that these cannot have.
    """
    files: dict[str, list[Upload]] = {name: [] for name in FILE_FIELDS if name in fields}
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if name in files and isinstance(value, UploadFile):
            files[name].append(Upload(f"{name}[{len(files[name])}]", await value.read()))
        elif name in fields and name not in files and isinstance(value, str):
            texts[name] = value.replace("\r\n", "\n")
        else:
            raise _misplaced(name, list(files), fields)
    report = check_text(texts.get(REPORT_FIELD, ""), REPORT_FIELD).strip()
    known = texts.get(KNOWN_FIELD, "")
    check_length(known, KNOWN_FIELD, MAX_KNOWN)
    films, prior = (files.get(name, []) for name in FILE_FIELDS)
    return StudyUpload(films, context_in(texts), report, choice_of(texts), known, tuple(prior))


def _misplaced(name: str, files: Sequence[str], fields: Sequence[str]) -> ApiError:
    """The refusal of a field that a form does not have, or that came as a text in place of a file, or the other way."""
    shown = shown_name(name)
    if name in fields:
        words = f"{name}: must be {'a file, with a file name' if name in files else 'a text'}"
        return ApiError(400, words, INVALID, param=name)
    known = f"{', '.join(files)} (files) and {', '.join(one for one in fields if one not in files)} (texts)"
    return ApiError(400, f"{shown}: is another field than {known}", CODES["extra_forbidden"], param=shown)


def context_in(texts: Mapping[str, str]) -> Context:
    """What a form's texts tell of a study beside its films.

    Raises:
        ApiError: a text that may not stand in a prompt, or no age or sex.
    """
    found = {name: check_text(texts.get(name, ""), name).strip() for name in CONTEXT_FIELDS}
    prior = check_text(texts.get(PRIOR_REPORT, ""), PRIOR_REPORT).strip()
    try:
        return Context(
            found[TEXT_FIELD],
            found["technique"],
            found["comparison"],
            age_in(found["age"]),
            sex_in(found["sex"]),
            found["view"],
            prior,
            days_in(texts.get(PRIOR_DAYS, "")),
        )
    except InputError as error:
        raise refused(error) from None


def truth_of(text: str, name: str) -> bool:
    """A truth value of a form or a query.

    Raises:
        ApiError: another word than true and false.
    """
    if text.lower() not in ("true", "false"):
        raise ApiError(400, f"{name}: must be true or false", INVALID, param=name)
    return text.lower() == "true"


def choice_of(texts: Mapping[str, str]) -> DicomChoice:
    """What a form's texts ask of DICOM files; empty ones ask for nothing.

    Raises:
        ApiError: no number, or no truth value.
    """
    frame = texts.get(FRAME_FIELD, "")
    if frame and not (frame.isascii() and frame.isdecimal() and len(frame) < 10 and 1 <= int(frame) <= MOST_FRAMES):
        raise ApiError(400, f"{FRAME_FIELD}: must be a number from 1 to {MOST_FRAMES}", INVALID, param=FRAME_FIELD)
    force, mixed = (truth_of(texts.get(name) or "false", name) for name in (FORCE_FIELD, MIXED_FIELD))
    return DicomChoice(int(frame) if frame else None, force, mixed)


def check_count(images: int, settings: ServeConfig, name: str = IMAGE_FIELD) -> None:
    """Refuse a study of no image or of too many.

    Raises:
        ApiError: 400.
    """
    if not images:
        raise ApiError(400, "no image: at least one is needed", INVALID, param=name)
    if images > settings.max_images:
        raise ApiError(400, f"{images} images: at most {settings.max_images}", INVALID, param=name)
