"""DICOM's JSON model as servers send it, whatever they send: values by tag, none where the form is another one.

Sends and decides nothing. Source: PS3.18, annex F.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

Node = Mapping[str, Any]
"""A dataset: tag → element."""
_UID = re.compile(r"[0-9.]{1,64}")


def kind_of(content_type: str) -> str:
    """A media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether an answer's body is DICOM's JSON by its header."""
    return kind_of(headers.get("Content-Type", "")) in ("application/dicom+json", "application/json")


def json_of(body: bytes) -> object:
    """What a text holds, or None."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_uid(text: str) -> bool:
    """Whether a text is a UID, and can stand in a URL."""
    return bool(_UID.fullmatch(text)) and ".." not in text and not text.startswith(".")


def values(node: object, tag: str) -> list[Any]:
    """The values of an element; none where it is not of that form."""
    element = node.get(tag) if isinstance(node, dict) else None
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def texts(node: object, tag: str) -> list[str]:
    """The texts of an element, without the padding that some servers leave on them."""
    return [text.strip(" \0") for text in values(node, tag) if isinstance(text, str)]


def text(node: object, tag: str) -> str:
    """The first text of an element; "" where there is none."""
    return next(iter(texts(node, tag)), "")


def element(vr: str, *content: object) -> dict[str, object]:
    """An element to send; without content it is empty."""
    return {"vr": vr, "Value": list(content)} if content else {"vr": vr}
