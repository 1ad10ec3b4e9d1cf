"""The errors that end a command in one line, and how logs name faults of ours, which keep their tracebacks."""

import re
from pathlib import Path

_FLAG = re.compile(r"(?<![\w-])--(?=[A-Za-z])")


class InputError(ValueError):
    """The user's input is wrong: one line that names the value, the limit and the flag. The program exits with 2.

    Args:
        message: the line as the command line shows it: a field of the settings is written as its flag, `--frame`.
        field: the field that is wrong, without dashes.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    def in_fields(self) -> str:
        """The line for those who set fields and no flags.

        >>> InputError("--frame 9: image 1 has frames 1 to 3", field="frame").in_fields()
        'frame 9: image 1 has frames 1 to 3'
        """
        return _FLAG.sub("", str(self))


class RunError(RuntimeError):
    """The run cannot go on, and it is not the input's form that is wrong: one line, exit code 1."""


class Stopped(Exception):
    """A signal ended the command: one line that says what is saved, exit code 130."""


def one_line(text: str) -> str:
    """A text as it may stand in a log line, whoever wrote it: white space is one blank, other controls are `?`.

    So no value of a file or a peer can end the line, begin another one, or talk to the terminal.
    """
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def place_of(error: BaseException) -> str:
    """An error's kind and where it was raised; not its text, which may hold what a client sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return f"{type(error).__name__}{where}"
