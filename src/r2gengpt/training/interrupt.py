"""Ctrl-C and SIGTERM in a training run: it ends at once and names what is saved. Saves nothing itself."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


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
