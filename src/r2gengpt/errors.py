"""The errors that end a command in one line, and how logs name faults of ours, which keep their tracebacks."""

from pathlib import Path


class InputError(ValueError):
    """The user's input is wrong: one line that names the value, the limit and the flag. The program exits with 2."""


class RunError(RuntimeError):
    """The run cannot go on, and it is not the input's form that is wrong: one line, exit code 1."""


class Stopped(Exception):
    """A signal ended the command: one line that says what is saved, exit code 130."""


def place_of(error: BaseException) -> str:
    """An error's kind and where it was raised; not its text, which may hold what a client sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return f"{type(error).__name__}{where}"
