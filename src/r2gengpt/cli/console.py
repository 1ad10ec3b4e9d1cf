"""How a command talks: logs and libraries' noise. Imported by commands, never by the rooms below."""

import ctypes
import logging
import os
import sys
import warnings

WHOLE_MATRICES = 4 << 20
"""Bytes: less than any matrix of a 1B model in 16 bits, more than most activations of a batch."""


def start_logging() -> None:
    """Our log lines on stderr; libraries only say what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("r2gengpt")
    ours.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers

    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()


def return_large_blocks(least: int = 1 << 20) -> None:
    """Let blocks of `least` bytes and more go back to the system when they are freed. Only glibc's allocator is asked.

    Keys and values grow by a token at a time, into blocks each a little larger than the last, and beams copy them:
    glibc keeps the old ones on its heap, where none of the new ones fits. In training with 8- and 4-bit weights the
    same happens to each layer's whole matrix, which lives for one product.
    """
    mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, least)
