"""Images of strangers decoded in processes of their own, which are ended when they take too long. Decodes nothing here.

Decoders are C code over bytes that anybody may have written. Each image is decoded in a worker (`cell.worker`) that has
neither the model nor the user's keys: bounded in time by this process, in memory and CPU time by itself. A worker is
used for many images, one at a time; one that was ended is replaced.

Training and testing read the user's own annotation, and decode in process (`films.reader`).
"""

import atexit
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from PIL import Image

from r2gengpt.errors import InputError, RunError
from r2gengpt.films.cell.process import Ended, Late, LogLine, Reply, Request, Worker
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import Film
from r2gengpt.films.reader import MAX_BYTES, PLAIN, read_file
from r2gengpt.settings import CellConfig

WORKERS = 2
"""Images decoded at once by one process."""
CLOSED = "images are decoded no more: the program ends"


class Cell:
    """The workers of one process.

    Args:
        config: what decoding one image may take.
        workers: images decoded at once; who comes then waits.
    """

    def __init__(self, config: CellConfig, workers: int = WORKERS) -> None:
        self.config = config
        self._places = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._closed = False
        # Linux ends a worker with the thread that started it: this one lives as long as the process
        self._starter = ThreadPoolExecutor(1, "cell")

    def warm(self) -> None:
        """Start a worker, so that it comes up while the caller does other work."""
        worker = self._start()
        with self._lock:
            self._idle.append(worker)

    def film(self, request: Request, data: bytes, *, is_told: bool = True) -> Film:
        """An image's picture and header, as far as they are wanted; `is_told`: what its decoder warns of is logged.

        Raises:
            InputError: the image is refused, or takes more time or memory than it may.
            RunError: there is no worker to be had.
        """
        if len(data) > MAX_BYTES:
            raise InputError(f"image {request.name}: is {len(data)} bytes large: at most {MAX_BYTES}")
        try:
            with self._places:
                reply, body = self._ask(request, data)
        except Ended as error:
            raise InputError(f"image {request.name}: {error}") from None
        for line in reply.log if is_told else ():
            _log_once(line)
        if reply.refused is not None:
            raise InputError(reply.refused, field=reply.field)
        picture = None if reply.size is None else Image.frombytes("RGB", reply.size, body)
        return Film(request.name, picture, reply.header)

    def _ask(self, request: Request, data: bytes) -> tuple[Reply, bytes]:
        """The answer of a worker; of a new one where another ended that earlier images may have harmed."""
        with self._worker() as worker:
            was_used = worker.used
            try:
                return self._answer(worker, request, data)
            except Ended as error:
                if isinstance(error, Late) or not was_used:
                    raise
        with self._worker(new=True) as worker:
            return self._answer(worker, request, data)

    def _answer(self, worker: Worker, request: Request, data: bytes) -> tuple[Reply, bytes]:
        reply, body = worker.ask(request, data)
        if reply.no_memory:
            worker.end()
            raise Ended(f"takes more than {self.config.decode_memory_mb} MiB to decode (`decode_memory_mb`)")
        if len(body) != _bytes_of(reply, request):
            worker.end()
            raise Ended("ended the process that decoded it (no picture)")
        return reply, body

    @contextmanager
    def _worker(self, *, new: bool = False) -> Iterator[Worker]:
        """A worker for one image; one that has ended meanwhile, or whose answer was not waited for, is left."""
        with self._lock:
            worker = self._idle.pop() if self._idle and not new else None
        worker = worker or self._start()
        whole = False
        try:
            yield worker
            whole = worker.process.poll() is None
        finally:
            with self._lock:
                if whole and not self._closed:
                    self._idle.append(worker)
                else:
                    whole = False
                    self._all.discard(worker)
            if not whole:
                worker.end()

    def _start(self) -> Worker:
        try:
            worker = self._starter.submit(Worker, self.config).result()
        except RuntimeError as error:  # it was shut down
            raise error if isinstance(error, RunError) else RunError(CLOSED) from None
        with self._lock:
            if not self._closed:
                self._all.add(worker)
                return worker
        worker.end()
        raise RunError(CLOSED)

    def close(self) -> None:
        """End all workers, those that decode too: who waits for them gets an error."""
        with self._lock:
            self._closed = True
            busy, idle, self._idle = self._all - set(self._idle), self._idle, []
        for worker in busy:
            worker.process.kill()  # who waits for it ends it then
        for worker in idle:
            worker.end()
        self._starter.shutdown()


def _bytes_of(reply: Reply, request: Request) -> int:
    """How long the picture of an honest reply is; -1 where it has none and should have."""
    if reply.size is None:
        return -1 if request.picture and reply.refused is None else 0
    return 3 * reply.size[0] * reply.size[1] if min(reply.size) > 0 else -1


@lru_cache(maxsize=10_000)
def _log_once(line: LogLine) -> None:
    """Say what a worker had to tell, once in this process."""
    logging.getLogger(line.logger).log(line.level, "%s", line.words)


_lock = threading.Lock()
_cell: Cell | None = None
_parents: object = None
"""The cells of the processes that this one was forked from."""


def open_cell(config: CellConfig, workers: int = WORKERS) -> Cell:
    """The cell of this process from now on; without this, the first image opens one with the default limits."""
    global _cell
    close_cell()
    with _lock:
        _cell = Cell(config, workers)
        return _cell


def the_cell() -> Cell:
    """The cell of this process."""
    global _cell
    with _lock:
        if _cell is None:
            _cell = Cell(CellConfig())
        return _cell


def cell_with(config: CellConfig) -> Cell:
    """The cell of this process, with these limits."""
    found = _cell
    return found if found is not None and found.config == config else open_cell(config)


@atexit.register
def close_cell() -> None:
    """End all decoding in this process, at once."""
    global _cell
    with _lock:
        old, _cell = _cell, None
    if old is not None:
        old.close()


def _leave_parents() -> None:
    """Let a forked process open a cell of its own: two that ask one worker would get each other's films.

    The parent's cell is kept as it is, since what is freed here would write to its pipes.
    """
    global _cell, _lock, _parents
    _parents = (_parents, _cell)
    _cell, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_parents)


def read_film(data: bytes, name: str, size: int | None = None, dicom: DicomChoice = PLAIN) -> Film:
    """As `films.reader.read_film`, in the cell.

    Raises:
        InputError: as there, or it takes more time or memory than it may.
    """
    return the_cell().film(Request(name, dicom, size, header=True), data)


def decode_image(data: bytes, name: str, size: int | None = None, dicom: DicomChoice = PLAIN) -> Image.Image:
    """As `films.reader.decode_image`, in the cell.

    Raises:
        InputError: as there, or it takes more time or memory than it may.
    """
    picture = the_cell().film(Request(name, dicom, size), data).picture
    assert picture is not None
    return picture


def read_header(data: bytes, name: str) -> DicomHeader:
    """As `films.dicom.header.read_header`, in the cell.

    Raises:
        InputError: as there, or it takes more time or memory than it may.
    """
    header = the_cell().film(Request(name, PLAIN, picture=False, header=True), data).header
    if header is None:
        raise InputError(f"image {name}: is not DICOM")
    return header


def load_image(path: str | Path, *, size: int | None = None, dicom: DicomChoice = PLAIN) -> Image.Image:
    """As `films.reader.load_image`, in the cell.

    Raises:
        InputError: as there, or it takes more time or memory than it may.
    """
    return decode_image(read_file(Path(path)), str(path), size, dicom)
