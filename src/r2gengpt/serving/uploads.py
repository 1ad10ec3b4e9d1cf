"""What clients send, to pixels: body, multipart form, data URLs, images; all in memory and within limits. No model.

Nothing here opens a path or an address: a file's name is not even read.
"""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from torch import Tensor

from r2gengpt.config import ServeConfig
from r2gengpt.data.containers import ContainerError, open_container
from r2gengpt.data.images import decode_image
from r2gengpt.errors import InputError
from r2gengpt.model.processing import R2GenGPTProcessor, decoded_size
from r2gengpt.serving.failures import ApiError, ClientGone
from r2gengpt.serving.provenance import Source

MAX_TEXT = 4000
"""Characters of an instruction or an indication."""
DATA_URL = ("data:image/png;base64,", "data:image/jpeg;base64,", "data:image/jpg;base64,")
IMAGE_FIELD, TEXT_FIELD = "images", "indication"


@dataclass(frozen=True)
class Film:
    """An image as it was sent: what errors call it, and its bytes."""

    name: str
    data: bytes


async def limited_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body's pieces, as long as they are `limit` bytes together.

    Raises:
        ApiError: 413, by the announced length before anything is read, or by what has come.
        ClientGone: the client went before the end.
    """
    refusal = ApiError(413, f"the body is larger than {limit} bytes", None, {"Connection": "close"})
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise refusal
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise refusal
        yield piece
        if not message.get("more_body", False):
            return


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises as `limited_body`."""
    return b"".join([piece async for piece in limited_body(request, limit)])


class _MemoryParser(MultiPartParser):
    """Starlette's parser, whose files stay in memory: the body's limit holds for them."""

    spool_max_size = 2**62


def check_text(text: str, name: str) -> str:
    """A client's text, as it may stand in a prompt.

    Raises:
        ApiError: too long, or with the image's place in it.
    """
    if len(text) > MAX_TEXT:
        raise ApiError(400, f"{name}: has {len(text)} characters: at most {MAX_TEXT}")
    if "<ImageHere>" in text:
        raise ApiError(400, f"{name}: may not hold <ImageHere>, which is the prompt's own")
    return text


async def read_form(request: Request, settings: ServeConfig) -> tuple[list[Film], str]:
    """The films and the indication of a multipart form.

    Raises:
        ApiError: not a form, broken, with fields that are not known, too many films or none, or too large.
        ClientGone: the client went before the end.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "Content-Type: must be multipart/form-data")
    body = limited_body(request, settings.max_body_mb * 2**20)
    parser = _MemoryParser(request.headers, body, max_files=settings.max_images + 1, max_fields=4)  # type: ignore[arg-type]  # it only iterates
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise ApiError(400, f"the form cannot be read: {getattr(error, 'message', 'it is broken')}") from None
    except (ValueError, LookupError):  # headers of parts that are no text
        raise ApiError(400, "the form cannot be read: it is broken") from None
    try:
        films, indication = await form_parts(form)
    finally:
        await form.close()
    check_count(len(films), settings)
    return films, indication


async def form_parts(form: FormData) -> tuple[list[Film], str]:
    """The films and the indication of a form that was read.

    Raises:
        ApiError: fields that are not known.
    """
    films: list[Film] = []
    indication = ""
    for name, value in form.multi_items():
        if name == IMAGE_FIELD and isinstance(value, UploadFile):
            films.append(Film(f"{IMAGE_FIELD}[{len(films)}]", await value.read()))
        elif name == TEXT_FIELD and isinstance(value, str):
            indication = check_text(value, TEXT_FIELD).strip()
        else:
            raise ApiError(400, f"the form has another field than {IMAGE_FIELD} (files) and {TEXT_FIELD} (text)")
    return films, indication


def check_count(images: int, settings: ServeConfig) -> None:
    """Refuse a study of no image or of too many.

    Raises:
        ApiError: 400.
    """
    if not images:
        raise ApiError(400, "no image: at least one is needed")
    if images > settings.max_images:
        raise ApiError(400, f"{images} images: at most {settings.max_images}")


def film_of_url(url: str, name: str) -> Film:
    """The bytes of a data URL.

    Raises:
        ApiError: an address, or not base64.
    """
    prefix = next((start for start in DATA_URL if url[: len(start)].lower() == start), None)
    if prefix is None:
        raise ApiError(400, f"{name}: must be a data URL of a PNG or JPEG in base64: this server fetches nothing")
    try:
        return Film(name, base64.b64decode(url[len(prefix) :].encode(), validate=True))
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{name}: its data URL is not base64") from None


def source_of(film: Film, settings: ServeConfig) -> Source:
    """What a film is, from its headers alone.

    Raises:
        ApiError: not an image, more than one frame, or more pixels than allowed.
    """
    try:
        container = open_container(film.data)
    except ContainerError as error:
        raise ApiError(400, f"image {film.name}: {error}") from None
    width, height = container.size
    if width * height > settings.max_megapixels * 1_000_000:
        limit = f"at most {settings.max_megapixels} million"
        raise ApiError(413, f"image {film.name}: {width}x{height} is {width * height} pixels: {limit}")
    if container.format == "PNG" and b"acTL" in film.data[: film.data.find(b"IDAT")]:
        raise ApiError(400, f"image {film.name}: has more than one frame: send one image a view")
    return Source(hashlib.sha256(film.data).hexdigest(), container.format, width, height)


def read_films(films: list[Film], processor: R2GenGPTProcessor, settings: ServeConfig) -> tuple[Tensor, list[Source]]:
    """The pixels of a study's films (V, 3, H, W), float32, and what they were; headers of all before pixels of any.

    Raises:
        ApiError: a film that is refused.
    """
    sources = [source_of(film, settings) for film in films]
    try:
        images = [decode_image(film.data, film.name, decoded_size(processor)) for film in films]
    except InputError as error:
        raise ApiError(400, str(error)) from None
    return processor.pixels(images), sources
