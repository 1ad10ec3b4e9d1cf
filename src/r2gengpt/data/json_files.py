"""JSON that users give, read strictly: a key given twice is refused, not overwritten. Knows no format."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gengpt.errors import InputError


def read_json(path: Path, source: str) -> Any:
    """The JSON value of a file in UTF-8, a byte order mark allowed; `source` is what errors call it.

    Raises:
        InputError: it cannot be read, is no JSON, or an object gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not JSON: not UTF-8 text (byte {error.start})") from None
    try:
        return parsed_json(text, source)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not JSON: {' '.join(str(error).split())}") from None


def read_json_object(path: Path, source: str) -> dict[str, Any]:
    """As `read_json`, an object.

    Raises:
        InputError: as there, or it is none.
    """
    value = read_json(path, source)
    if not isinstance(value, dict):
        raise InputError(f"{source}: must hold a JSON object, holds a {type(value).__name__}")
    return value


def parsed_json(text: str, source: str) -> Any:
    """The JSON value of a text.

    Raises:
        InputError: an object gives a key twice.
        ValueError: it is no JSON; RecursionError: it is nested too deep.
    """
    return json.loads(text, object_pairs_hook=functools.partial(_object, source=source))


def _object(pairs: Sequence[tuple[str, Any]], source: str) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{source}: {twice} is given twice")
    return value
