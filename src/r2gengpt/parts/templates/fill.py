"""A checkpoint's chat template filled in a process of its own: it is a stranger's program, so it is bounded and ended.

Jinja's sandbox keeps a template from the machine, not from going on for ever or from taking all memory.
"""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from r2gengpt.errors import RunError

SECONDS = 5
"""Of computing, for one prompt: templates of known models take some thousandths."""
WALL_SECONDS = 120.0
"""Until an answer, the start of the process included."""
MEMORY_MB = 2048
MOST_CHARACTERS = 2**16
_CHILD = Path(__file__).with_name("child.py")
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP")


class TemplateFailure(ValueError):
    """The template cannot be filled: why, in one line."""


def fill_chat_template(tokenizer: Any, messages: list[dict[str, str]], **more: bool) -> str:
    """What `tokenizer.apply_chat_template` gives as text.

    Args:
        tokenizer: with a chat template.
        messages: of the conversation.
        **more: what the template may ask for by name.

    Raises:
        TemplateFailure: the template fails, or takes more time, memory or text than it may.
        RunError: the process does not start.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise TemplateFailure(_one_line(str(error))) from None
    names = {name: _plain(value) for name, value in tokenizer.special_tokens_map.items()}
    return _filled(json.dumps({"chat_template": template, "conversations": [messages], **names, **more}))


@lru_cache(maxsize=64)
def _filled(arguments: str) -> str:
    """The text that transformers makes of these arguments, as JSON."""
    paths = [str(Path(__file__).parents[3]), *(path for path in sys.path if path)]
    limits = {"seconds": SECONDS, "memory_mb": MEMORY_MB, "characters": MOST_CHARACTERS, "parent": os.getpid()}
    asked = json.dumps({"paths": paths, "limits": limits, "arguments": json.loads(arguments)})
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-W", "ignore", str(_CHILD)],
            input=asked.encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        )
    except subprocess.TimeoutExpired:
        raise TemplateFailure(f"it takes more than {WALL_SECONDS:g} seconds") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        if done.returncode == 1:
            last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise RunError(f"the process that fills chat templates does not start: {_one_line(last)}") from None
        raise TemplateFailure(f"it takes more than {SECONDS} seconds or {MEMORY_MB} MiB") from None
    if "text" not in answer:
        raise TemplateFailure(_one_line(str(answer["failure"])))
    return str(answer["text"])


def _plain(value: Any) -> str | list[str]:
    return [str(token) for token in value] if isinstance(value, list | tuple) else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
