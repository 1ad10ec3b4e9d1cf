"""The process that decodes for a `cell`: images in, pictures out, within limits that it sets itself. Has no model.

It is started by `cell`, by its file and with no rights to lose: without the parent's environment, so without keys and
passwords, and without torch. It ends when its parent does.
"""

import json
import logging
import math
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any, BinaryIO

from r2gengpt.errors import InputError, place_of
from r2gengpt.films.cell.process import LogLine, Reply, Request, receive, request_of, send
from r2gengpt.films.containers import is_dicom
from r2gengpt.films.dicom.header import read_header, warn_of
from r2gengpt.films.reader import MAX_BYTES, decode_image

MOST_LINES = 20
"""Log lines of one image."""
NICENESS = 5
"""Who writes reports on the same processors goes first: one that waits for another of its threads waits for us too."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


class _Kept(logging.Handler):
    """Log lines of one image, for the parent to log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[LogLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < MOST_LINES:
            self.lines.append(LogLine(record.name, record.levelno, record.getMessage()))


def main(argument: str) -> None:
    """Answer requests until the parent closes the pipe; `argument` is JSON: seconds, memory_mb, parent."""
    limits = json.loads(argument)
    bind(limits["memory_mb"], limits["parent"])
    source, sink = own_streams()
    kept = _Kept()
    ours = logging.getLogger("r2gengpt")
    ours.addHandler(kept)
    ours.propagate = False
    send(sink, None)
    while True:
        try:
            values, data = receive(source, MAX_BYTES)
        except (EOFError, ValueError):
            return
        allow_seconds(limits["seconds"])
        kept.lines.clear()
        warn_of.cache_clear()  # the parent knows of which file it has warned
        reply, body = answer(request_of(values), data, kept)
        send(sink, reply, body)


def own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, under other numbers than those which libraries read and print to."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    return source, sink


def bind(memory_mb: int, parent: int) -> None:
    """Give up for ever what decoding does not need: memory, writing of files, core dumps, an end after the parent's.

    What the system does not know is left out: Windows has none of it, macOS no limit of memory.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # of a terminal or a service: the parent decides when to end
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    os.nice(NICENESS)
    limits = {resource.RLIMIT_AS: memory_mb * 2**20, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    for kind, most in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    if sys.platform == "linux":
        import ctypes

        control = ctypes.CDLL(None).prctl
        control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        control(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def allow_seconds(seconds: float) -> None:
    """Let the process use so much time of a CPU from now on, and then be ended by the system."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    end = math.ceil(time.process_time() + seconds) + 1
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (end if hard < 0 else min(end, hard), hard))


def answer(request: Request, data: bytes, kept: _Kept) -> tuple[Reply, bytes]:
    """What is wanted of an image, or why it is refused."""
    refused: dict[str, Any]
    try:
        picture = decode_image(data, request.name, request.size, request.choice) if request.picture else None
        header = read_header(data, request.name) if request.header and is_dicom(data) else None
        size, body = (None, b"") if picture is None else (picture.size, picture.tobytes())
        return Reply(size, header, tuple(kept.lines)), body
    except InputError as error:
        refused = {"refused": error.line, "field": error.field}
    except MemoryError:
        refused = {"no_memory": True}
    except Exception as error:  # of decoders over bytes of strangers: anything may come
        refused = {"refused": f"image {request.name}: cannot be decoded ({place_of(error)})"}
    return Reply(log=tuple(kept.lines), **refused), b""
