"""How a command talks: logs and libraries' noise. Imported by commands, never by the rooms below."""

import codecs
import ctypes
import dataclasses
import functools
import io
import logging
import os
import sys
import warnings

from r2gengpt.errors import one_line, spelt
from r2gengpt.text.written import named, sign

FLAGS: set[str] = set()
"""Settings that the running command has flags for; `bridge.parse` fills it."""
ARGUMENTS: set[str] = set()
"""Settings that it takes without a flag, filled there too."""


def flag(setting: str) -> str:
    """The flag of a setting, whichever command has it."""
    return f"--{setting}"


def as_flag(setting: str) -> str:
    """How a setting stands in what a command prints: as a flag, plain as an argument, or as it was where it is neither.

    >>> as_flag("findings_head"), as_flag("no_such_setting")
    ('--findings_head', '`no_such_setting`')
    """
    if setting in FLAGS:
        return flag(setting)
    if setting in ARGUMENTS:
        return setting
    return flag(setting) if setting in _of_any_command() else f"`{setting}`"


@functools.cache
def _of_any_command() -> frozenset[str]:
    """The settings that commands have flags for."""
    from r2gengpt import config, settings

    groups = [group for room in (config, settings) for group in vars(room).values() if dataclasses.is_dataclass(group)]
    return frozenset(field.name for group in groups for field in dataclasses.fields(group) if field.metadata)


def clean(text: str) -> str:
    """A text as one line of what a command prints, its settings as flags."""
    return one_line(named(spelt(text, as_flag)))


class OneLine(logging.Formatter):
    """Each record is one line of printable signs, whatever values of files and peers its message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, cleaned."""
        return clean(super().format(record))


def take_any_text() -> None:
    """Let stdout and stderr take any text in whatever encoding they have: signs that it lacks stand as their numbers.

    A terminal of Windows-1252, `PYTHONIOENCODING=ascii` and names that are not UTF-8 end no command then.
    """
    codecs.register_error("r2gengpt.sign", signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="r2gengpt.sign")


def signs(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks; see `text.written.sign`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(sign, error.object[error.start : error.end])), error.end


def start_logging(*, libraries: bool = True) -> None:
    """Our log lines on stderr; `libraries` only say what is wrong (False: they are not used, and not loaded)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(message)s"))
    ours = logging.getLogger("r2gengpt")
    ours.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {clean(str(message))}", file=sys.stderr)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if libraries:
        quiet_libraries()


def quiet_libraries() -> None:
    """Let the libraries around PyTorch only say what is wrong; they are loaded."""
    import transformers

    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns twice of each try of a hub out of reach
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that it would fetch from a hub
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()


def return_large_blocks() -> None:
    """Let blocks of 1 MiB and more go back to the system when they are freed. Only glibc's allocator is spoken to.

    Keys and values grow by a token at a time, into blocks each a little larger than the last, and beams copy them:
    glibc keeps the old ones on its heap, where none of the new ones fits. So it does with a layer's activations and
    whole matrices in training. It costs time: about a quarter of a training step (docs/log.md).
    """
    mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, 1 << 20)
