"""The process that fills a chat template for `chat_template`, within limits that it sets itself. Never imported.

It is started by its file, so that it needs neither torch nor the rest of this room.
"""

import json
import sys
from typing import Any


def main() -> None:
    """Read what is asked from stdin, write the text or the failure to stdout; both are JSON."""
    asked = json.loads(sys.stdin.buffer.read())
    limits = asked["limits"]
    sys.path[:] = asked["paths"]
    sink, sys.stdout = sys.stdout, sys.stderr
    from transformers.utils.chat_template_utils import render_jinja_template

    from r2gengpt.films.cell.worker import allow_seconds, bind

    bind(limits["memory_mb"], limits["parent"])
    allow_seconds(limits["seconds"])
    json.dump(filled(render_jinja_template, asked["arguments"], limits), sink)
    sink.flush()


def filled(render: Any, arguments: dict[str, Any], limits: dict[str, int]) -> dict[str, str]:
    """The text, or why there is none."""
    try:
        (text,), _ = render(**arguments)
    except MemoryError:
        return {"failure": f"it takes more than {limits['memory_mb']} MiB"}
    except Exception as error:  # of a stranger's program: anything may come
        return {"failure": str(error)[:1000] or type(error).__name__}
    if len(text) > limits["characters"]:
        return {"failure": f"its text has {len(text)} characters: at most {limits['characters']}"}
    return {"text": text}


if __name__ == "__main__":
    main()
