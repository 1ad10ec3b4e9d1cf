"""One worker of a cell: its process started, asked, and ended when it is late. Keeps no others, decodes nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from r2gengpt.errors import RunError
from r2gengpt.films.cell.wire import BrokenMessage, Reply, Request, receive, reply_of, send
from r2gengpt.films.reader import MAX_PIXELS
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

    def __init__(self, config: CellConfig) -> None:
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
