"""The one error a user causes, and how logs name faults of ours. Not for handling: those keep their tracebacks."""

from pathlib import Path


class InputError(ValueError):
    """The user's input is wrong: one line that names the value, the limit and the flag. The program exits with 2."""


class RunError(RuntimeError):
    """The run cannot go on, and it is not the input's form that is wrong: one line, exit code 1."""


def place_of(error: BaseException) -> str:
    """An error's kind and where it was raised; not its text, which may hold what a client sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return f"{type(error).__name__}{where}"
