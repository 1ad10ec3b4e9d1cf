"""One worker of a cell, and its messages: its process started, asked, and ended when it is late. Decodes nothing.

Messages are JSON and bytes, never pickles. A decoder may be taken over by what it decodes: its answers are held against
their types and lengths like a stranger's.
"""

import json
import os
import signal
import struct
import sys
import threading
import typing
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from r2gengpt.errors import RunError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.reader import MAX_PIXELS

if TYPE_CHECKING:
    from r2gengpt.settings import CellConfig

START_SECONDS = 60.0
"""Until a worker is up: a tenth of a second where the disk is quick."""
BY_THE_CLOCK = 4
"""Times the processor time that an image may take: a busy machine gives a decoder a part of its time."""
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from r2gengpt.films.cell.worker import main; main(sys.argv[2])"
)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
T = typing.TypeVar("T")
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


class Ended(Exception):
    """The worker has ended, or was ended, over an image: why, in words that follow the image's name."""


class Late(Ended):
    """It took too long."""


class Worker:
    """A process that decodes.

    Args:
        config: what it may take.

    Raises:
        RunError: it cannot be started.
    """

    def __init__(self, config: "CellConfig") -> None:
        import subprocess  # who decodes takes the messages from here, and starts nothing

        self.config = config
        self.used = self._up = False
        paths = [str(Path(__file__).parents[3]), *(path for path in sys.path if path)]
        limits = {
            "seconds": config.decode_seconds,
            "memory_mb": config.decode_memory_mb,
            "parent": os.getpid(),
        }
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-W", "ignore", "-c", _BOOT, json.dumps(paths), json.dumps(limits)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**kept, **_ONE_THREAD},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise RunError(f"the process that decodes images cannot be started: {error.strerror or error}") from None

    def ask(self, request: Request, data: bytes) -> tuple[Reply, bytes]:
        """What the worker answers.

        Raises:
            Ended: it has ended, or its answer is none.
            RunError: it never came up.
        """
        if not self._up and not self._come_up():
            raise RunError("the process that decodes images does not start")
        assert self.process.stdin is not None
        late = threading.Event()
        clock = threading.Timer(BY_THE_CLOCK * self.config.decode_seconds, self._end_late, (late,))
        clock.daemon = True
        clock.start()
        try:
            send(self.process.stdin, request, data)
            values, body = self._receive()
            return reply_of(values), body
        except (OSError, EOFError, BrokenMessage):
            self.end()
            raise self._end_of(late.is_set()) from None
        finally:
            clock.cancel()
            self.used = True

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self.process.kill()

    def _come_up(self) -> bool:
        clock = threading.Timer(START_SECONDS, self.process.kill)
        clock.daemon = True
        clock.start()
        with suppress(EOFError, BrokenMessage):
            self._receive()
            self._up = True
        clock.cancel()
        return self._up

    def _receive(self) -> tuple[object, bytes]:
        assert self.process.stdout is not None
        return receive(self.process.stdout, 3 * MAX_PIXELS)

    def _end_of(self, late: bool) -> Ended:
        code = self.process.returncode
        if late or (sys.platform != "win32" and code == -signal.SIGXCPU):
            return Late(f"was not decoded within {self.config.decode_seconds:g} seconds (`decode_seconds`)")
        name = next((one.name for one in signal.Signals if one == -code), f"exit code {code}")
        return Ended(f"ended the process that decoded it ({name})")

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.process.wait()
