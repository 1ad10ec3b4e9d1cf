"""How a command talks: logs and libraries' noise. Imported by commands, never by the rooms below."""

import logging
import os
import sys
import warnings


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
