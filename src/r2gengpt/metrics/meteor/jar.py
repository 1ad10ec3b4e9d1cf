"""The METEOR 1.5 jar of pycocoevalcap as one warm Java process that gives statistics. No formula."""

import atexit
import contextlib
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from r2gengpt.errors import RunError
from r2gengpt.metrics.meteor.statistics import COLUMNS, LONGEST
from r2gengpt.metrics.meteor.tables import JAR, find_tables
from r2gengpt.metrics.ngrams import Floats

START_S, ANSWER_S = 180.0, 60.0
"""Seconds for the first answer, which waits for Java and its tables, and for each later one."""
_FIELD = "|||"


@dataclass(frozen=True)
class JarPlace:
    """What METEOR needs: the Java program and the directory of the jar."""

    java: str
    directory: Path


def find() -> JarPlace | str:
    """Where METEOR is, or in words what is missing."""
    if isinstance(directory := find_tables(), str):
        return directory
    java = shutil.which("java")
    return (
        "Java is missing: METEOR's jar needs the program java on the PATH"
        if java is None
        else JarPlace(java, directory)
    )


class MeteorJar:
    """A running METEOR. Threads may share it; the process ends with `close` or with this program."""

    def __init__(self, command: Sequence[str], directory: Path, start_s: float = START_S, answer_s: float = ANSWER_S):
        """Start it.

        Args:
            command: the program and its arguments, which answers on stdout to lines on stdin.
            directory: where it runs.
            start_s: seconds that its first answer may take.
            answer_s: seconds that each further one may take.
        """
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._limit, self._later = start_s, answer_s
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        atexit.register(self.close)

    def rows(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> Floats:
        """The statistics of pairs of a hypothesis and its references, (pairs, 23).

        Raises:
            RunError: a text is too long, or the process died or did not answer in time; names what it wrote to stderr.
        """
        longest = max((len(text.split()) for one, several in pairs for text in (one, *several)), default=0)
        if longest > LONGEST:
            raise RunError(f"METEOR: a text of {longest} words, at most {LONGEST}; leave it out with `meteor` none")
        with self._lock:
            writer = threading.Thread(target=self._write, args=([score_line(*pair) for pair in pairs],), daemon=True)
            writer.start()
            rows = [self._answer(*pair) for pair in pairs]
            writer.join()
        return np.array(rows, dtype=np.float64).reshape(len(pairs), COLUMNS)

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # requests that it did not read any more
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _write(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None
        try:
            for line in lines:
                self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return  # the process ended: the reader's side tells why

    def _answer(self, hypothesis: str, references: Sequence[str]) -> list[float]:
        try:
            line = self._lines.get(timeout=self._limit)
        except queue.Empty:
            self._process.kill()
            words = len(hypothesis.split()), max(len(text.split()) for text in references)
            what = f"no answer in {self._limit:g} s to a text of {words[0]} words and a reference of {words[1]}"
            raise RunError(f"METEOR: {what}{self._complaint()}; leave it out with `meteor` none") from None
        self._limit = self._later
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError:
            numbers = []
        if len(numbers) != COLUMNS:
            what = f"an answer that is no statistics: {line[:80]!r}" if line else "its Java process ended"
            self._process.kill()
            raise RunError(f"METEOR: {what}{self._complaint()}")
        return numbers

    def _complaint(self) -> str:
        """What the process wrote to stderr, its first lines."""
        self._process.wait()
        self._errors.seek(0)
        said = " ".join(self._errors.read(2000).decode(errors="replace").split())
        return f": {said[:400]}" if said else ", and it wrote nothing to stderr"


def score_line(hypothesis: str, references: Sequence[str]) -> str:
    """The request for one study's statistics, as pycocoevalcap writes it; a line break is a blank."""
    texts = [text.replace(_FIELD, "").replace("\r", " ").replace("\n", " ") for text in (*references, hypothesis)]
    return f" {_FIELD} ".join(["SCORE", *texts[:-1], texts[-1].replace("  ", " ")])


_running: dict[JarPlace, MeteorJar] = {}
_parents: object = None
"""The processes of those that this one was forked from."""


def _leave_parents() -> None:
    """Let a forked process start one of its own: its parent's does not answer here, and closing it would never end.

    The parent's are kept as they are, since what is freed is closed.
    """
    global _running, _parents
    for running in _running.values():
        atexit.unregister(running.close)
    _parents, _running = (_parents, _running), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_parents)


def shared(place: JarPlace) -> MeteorJar:
    """The one process of this program, whose tables take seconds to load; a new one where the last one ended."""
    if (running := _running.get(place)) is None or running.ended:
        if running is not None:
            running.close()
        command = [place.java, "-Xmx2G", "-jar", JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
        _running[place] = MeteorJar(command, place.directory)
    return _running[place]


def rows_of(place: JarPlace, pairs: Sequence[tuple[str, Sequence[str]]]) -> Floats:
    """`MeteorJar.rows` of the shared process."""
    return shared(place).rows(pairs)
