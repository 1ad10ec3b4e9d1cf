"""The errors that end a command in one line, and how logs name faults of ours, which keep their tracebacks."""

import re
from collections.abc import Callable
from pathlib import Path

_SETTING = re.compile(r"`([A-Za-z][A-Za-z0-9_]*)`")


class InputError(ValueError):
    """The user's input is wrong: one line that names the field, its value and the limit. The program exits with 2.

    Args:
        message: what is wrong. Settings stand in it between backticks: `beam_size`.
        field: the setting or argument that is wrong; by default the setting that the message begins with.
        value: its value. Given, the line begins with both.
        limit: what it must keep to.

    >>> str(InputError("must be at least 1", field="beam_size", value=0, limit=1))
    'beam_size 0: must be at least 1'
    >>> str(InputError("`global_only` True leaves one token: `image_tokens` has nothing to pool", field="image_tokens"))
    'global_only True leaves one token: image_tokens has nothing to pool'
    >>> InputError("`ckpt_file` and `delta_file` both name weights: give one").field
    'ckpt_file'
    """

    def __init__(self, message: str, *, field: str | None = None, value: object = None, limit: object = None) -> None:
        super().__init__(message)
        named = _SETTING.match(message)
        self.field: str | None = field or (named[1] if named else None)
        self.value = value
        self.limit = limit

    def __str__(self) -> str:
        return spelt(self.line)

    @property
    def line(self) -> str:
        """The whole line, its settings between backticks: each interface spells them in its own way."""
        message = str(self.args[0])
        return message if self.value is None else f"`{self.field}` {self.value}: {message}"


class RunError(RuntimeError):
    """The run cannot go on, and it is not the input's form that is wrong: one line, exit code 1.

    Args:
        message: what happened. Settings stand in it between backticks.
    """

    def __str__(self) -> str:
        return spelt(self.line)

    @property
    def line(self) -> str:
        """The line, its settings between backticks."""
        return str(self.args[0])


class Stopped(Exception):
    """A signal ended the command: one line that says what is saved, exit code 130."""


def spelt(text: str, spell: Callable[[str], str] = str) -> str:
    """A text with its settings, which stand between backticks, as an interface names them.

    >>> spelt("lower `learning_rate`, or look at `x`", lambda name: f"--{name}")
    'lower --learning_rate, or look at --x'
    """
    return _SETTING.sub(lambda found: spell(found[1]), text)


def installing(extra: str) -> str:
    """How an optional part gets installed. No release is on a package index yet, so the clone is what pip reads.

    >>> installing("serve")
    "pip install '.[serve]' in the clone"
    """
    return f"pip install '.[{extra}]' in the clone"


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
