"""Messages between a cell and the processes that decode for it: JSON and bytes, never pickles. Starts nothing.

A decoder may be taken over by what it decodes: its answers are held against their types and lengths like a stranger's.
"""

import json
import struct
import typing
from dataclasses import asdict, dataclass, fields
from typing import IO, Any

from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import DicomHeader

_LENGTHS = struct.Struct(">II")
MOST_HEAD = 2**20
"""Bytes of the JSON of a message at most."""


class BrokenMessage(ValueError):
    """What came is no message, or ended within one."""


@dataclass(frozen=True)
class Request:
    """What is wanted of an image, whose bytes follow.

    Attributes:
        name: what errors call it.
        choice: what is asked of DICOM.
        size: as `decode_image` takes it.
        picture: whether its pixels are wanted.
        header: whether its DICOM header is wanted; None comes for an image that is not DICOM.
    """

    name: str
    choice: DicomChoice
    size: int | None = None
    picture: bool = True
    header: bool = False


@dataclass(frozen=True)
class LogLine:
    """A log line of a decoder: logger, level, words."""

    logger: str
    level: int
    words: str


@dataclass(frozen=True)
class Reply:
    """An answer, which the picture's bytes follow, 3 a pixel; or why there is none.

    Attributes:
        size: width and height of the picture; None where none was asked for.
        header: of DICOM.
        log: what the decoder had to tell.
        refused: the words of an `InputError`; None where all is well.
        field: its field.
        no_memory: the limit of memory was met.
    """

    size: tuple[int, int] | None = None
    header: DicomHeader | None = None
    log: tuple[LogLine, ...] = ()
    refused: str | None = None
    field: str | None = None
    no_memory: bool = False


def send(stream: IO[bytes], head: Request | Reply | None, body: bytes = b"") -> None:
    """Write a message and flush; a head of None says that the process is up.

    Raises:
        OSError: nobody reads any more.
    """
    text = json.dumps(None if head is None else asdict(head)).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes], most: int) -> tuple[Any, bytes]:
    """The JSON and the bytes of the next message.

    Raises:
        EOFError: there is none: the stream was closed.
        BrokenMessage: it is none, is longer than `most` bytes, or ends within.
    """
    start = stream.read(_LENGTHS.size)
    if not start:
        raise EOFError
    try:
        length, count = _LENGTHS.unpack(start)
        if length > MOST_HEAD or count > most:
            raise BrokenMessage(f"a message of {length} and {count} bytes")
        text, body = stream.read(length), stream.read(count)
        if len(text) + len(body) != length + count:
            raise BrokenMessage("a message that ends too early")
        return json.loads(text), body
    except (struct.error, ValueError, RecursionError) as error:
        raise BrokenMessage(str(error)) from None


def request_of(values: Any) -> Request:
    """The request in a message's JSON.

    Raises:
        BrokenMessage: there is none.
    """
    return _checked(Request, values)


def reply_of(values: Any) -> Reply:
    """The reply in a message's JSON.

    Raises:
        BrokenMessage: there is none.
    """
    return _checked(Reply, values)


T = typing.TypeVar("T")


def _checked(kind: type[T], values: Any) -> T:
    """A dataclass of the fields that JSON gives, each of which is there and of its type."""
    if not isinstance(values, dict) or set(values) != {f.name for f in fields(kind)}:  # type: ignore[arg-type]  # one of ours
        raise BrokenMessage(f"no {kind.__name__}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, name) for name, value in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    """A value of JSON as the type of a field: tuples for lists, dataclasses for objects."""
    options = typing.get_args(hint) if typing.get_origin(hint) not in (None, tuple) else (hint,)
    if value is None and type(None) in options:
        return None
    (wanted,) = [option for option in options if option is not type(None)]
    if typing.get_origin(wanted) is tuple and isinstance(value, list):
        of = typing.get_args(wanted)
        if of[-1] is ... or len(of) == len(value):
            return tuple(_value(of[0], item, name) for item in value)
    elif wanted in (Request, Reply, LogLine, DicomHeader, DicomChoice):
        return _checked(wanted, value)
    elif type(value) is wanted:
        return value
    raise BrokenMessage(f"{name} is no {wanted}")
