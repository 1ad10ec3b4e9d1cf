"""The states a run resumes from, and what a signal leaves. Knows no tensors."""

import contextlib
import fcntl
import logging
import os
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from r2gengpt.errors import InputError
from r2gengpt.files import put_in_place, recover_directory, remove, sync


class RunEnded(BaseException):
    """A signal ends the run. No `Exception`, and not `KeyboardInterrupt`: Lightning exits with 1 on that."""


def _end(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # a second one would cut the first one's clean-up short
        signal.signal(each, signal.SIG_IGN)
    raise RunEnded(signal.Signals(number).name)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise `RunEnded`; outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class EndedBySignals(Callback):  # type: ignore[misc]  # the library is untyped
    """Puts `RunEnded` in the place of Lightning's own SIGTERM handler, which goes on to the end of the batch.

    Other processes that Lightning started get the signal too: a stopped run leaves none behind.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Lightning has just set its handlers."""
        if threading.current_thread() is not threading.main_thread():
            return

        def end(number: int, frame: FrameType | None) -> None:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.Signals(number))
            _end(number, frame)

        signal.signal(signal.SIGTERM, end)


log = logging.getLogger("r2gengpt.training")
NEWEST, BEFORE = "resume.ckpt", "resume.before.ckpt"
"""A file each, or a directory by DeepSpeed."""
MARK = b"pytorch-lightning_version"
"""A name that Lightning puts into each state, and nobody else into other archives of PyTorch."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run's directory for this process alone; made here, it is removed again if nothing came into it.

    Raises:
        InputError: another run is at work there, or the directory cannot be made.
    """
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="savedmodel_path", value=directory) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "another run is at work there; name another directory, or end that one",
                field="savedmodel_path",
                value=directory,
            ) from None
        yield
    finally:
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):  # it holds a run
                directory.rmdir()


def keep_state(temporary: Path, directory: Path) -> None:
    """Make a state that was written whole the newest one; what was the newest is kept as the one before it."""
    _to_disk(temporary)
    newest = directory / NEWEST
    if newest.exists():
        put_in_place(newest, directory / BEFORE)
    put_in_place(temporary, newest)
    sync(directory)


def remove_states(directory: Path) -> None:
    """Remove both states."""
    remove(directory / NEWEST)
    remove(directory / BEFORE)


def recover_states(directory: Path) -> None:
    """Undo what a kill left of `keep_state`."""
    for name in (NEWEST, BEFORE):
        recover_directory(directory / name)


def find_state(directory: Path) -> Path | None:
    """The newest state that is whole, or None where the run has none yet. One that is cut off is named and skipped.

    Raises:
        InputError: there are states, but none is whole.
    """
    there = [path for name in (NEWEST, BEFORE) if (path := directory / name).exists()]
    for path in there:
        fault = _fault(path)
        if fault is None:
            return path
        log.warning("%s: %s, skipped", path, fault)
    if there:
        raise InputError(
            "no state to resume from is whole; add `overwrite` True", field="savedmodel_path", value=directory
        )
    return None


def _fault(path: Path) -> str | None:
    """What is wrong with a state, by the checksums of the archives that PyTorch writes; None where nothing is."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*.pt") if file.is_file())
    if not files:
        return "is empty"
    marked = False
    for file in files:
        try:
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
                pickles = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
        except (zipfile.BadZipFile, OSError, EOFError):
            return "is cut off"
        if broken is not None:
            return f"is damaged in {broken}"
        marked = marked or any(MARK in one for one in pickles)
    return None if marked else "is no state of a run"


def _to_disk(path: Path) -> None:
    """Bring a file, or all files of a directory, to the disk."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            sync(file)
    if path.is_dir():
        sync(path)
