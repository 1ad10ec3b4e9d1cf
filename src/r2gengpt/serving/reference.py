"""The OpenAPI document as records that a page can show: operations, their fields, their answers. Holds no HTML."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from r2gengpt.serving.chat_request import ASKS_FOR_NOTHING, IGNORED

Schema = Mapping[str, Any]
DEEPEST = 4
"""Levels of members that are shown."""
METHODS = ("get", "post")
UNKNOWN_MODEL, UNKNOWN_ADDRESS = "NAME", "http://127.0.0.1:8000"
PLAIN = re.compile(r"[\w.:/@-]+", re.ASCII)
"""What stands in an example as it is."""
FILM = """{"type": "image_url", "image_url": {"url": "data:image/png;base64,'$(base64 -w0 film.png)'"}}"""
CHAT = f"""echo '{{"model": "MODEL", "messages": [{{"role": "user", "content": [{FILM}]}}]}}' > chat.json
curl -s ADDRESS/v1/chat/completions -H "Content-Type: application/json" -d @chat.json"""
VERDICT = """receipt=$(curl -s -F images=@film.png ADDRESS/v1/reports | grep -o '"receipt": *"[^"]*"' | cut -d '"' -f 4)
curl -s ADDRESS/v1/verdicts -H "Content-Type: application/json" \\
  -d '{"receipt": "'$receipt'", "verdict": "accept", "key": "'$RANDOM$RANDOM$RANDOM-0123456789'"}'"""
EXAMPLES: Mapping[str, str] = {
    "/v1/models/{name}": "curl -s ADDRESS/v1/models/MODEL",
    "/v1/chat/completions": CHAT,
    "/v1/reports": 'curl -s -F images=@film.png -F indication="Cough." ADDRESS/v1/reports',
    "/v1/evidence": 'curl -s -F images=@film.png -F report="The heart is large." ADDRESS/v1/evidence',
    "/v1/preview": "curl -s -F images=@film.dcm ADDRESS/v1/preview -o preview.png",
    "/v1/documents": 'curl -s -F images=@film.dcm -F report="The heart is large." \\\n'
    '  -H "Accept: application/fhir+json" ADDRESS/v1/documents',
    "/v1/pdf": 'curl -s ADDRESS/v1/pdf -H "Content-Type: application/json" \\\n'
    '  -d \'{"report": "The heart is large."}\' -o report.pdf',
    "/v1/verdicts": VERDICT,
    "/v1/queue/{ticket}": "curl -s ADDRESS/v1/queue/0123456789abcdef",
}
"""Path → how it is asked; the others are asked by their address alone."""


@dataclass(frozen=True)
class Member:
    """A field of a form, a member of JSON or a parameter; `where` is body, query, path or header."""

    name: str
    kind: str
    meaning: str
    required: bool = False
    where: str = "body"


@dataclass(frozen=True)
class Content:
    """A request's or an answer's body.

    Attributes:
        media_type: of the body.
        members: what it holds.
        neutral: members that are taken only where they ask for nothing.
        ignored: names of those that have no effect.
    """

    media_type: str
    members: tuple[Member, ...]
    neutral: tuple[Member, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """A method of an address."""

    method: str
    path: str
    meaning: str
    parameters: tuple[Member, ...]
    asked: tuple[Content, ...]
    answers: tuple[Content, ...]
    example: str

    @property
    def anchor(self) -> str:
        """The name of its place on a page."""
        return f"{self.method.lower()}{re.sub(r'[^a-z]+', '-', self.path).rstrip('-')}"


def operations(document: Schema, address: str, model: str) -> list[Operation]:
    """All operations of an OpenAPI document, in its order.

    Args:
        document: as FastAPI makes it.
        address: of the server, for the examples.
        model: the name of its model, for the examples.
    """
    address = address if PLAIN.fullmatch(address) else UNKNOWN_ADDRESS
    model = model if PLAIN.fullmatch(model) else UNKNOWN_MODEL
    return [
        operation_of(method, path, found, EXAMPLES.get(path, f"curl -s ADDRESS{path}"), address, model)
        for path, methods in document["paths"].items()
        for method, found in methods.items()
        if method in METHODS
    ]


def operation_of(method: str, path: str, found: Schema, example: str, address: str, model: str) -> Operation:
    """One of them; refusals are left out, which are the same everywhere."""
    parameters = [
        Member(one["name"], kind_of(one["schema"]), meaning_of(one["schema"]), one.get("required", False), one["in"])
        for one in found.get("parameters", ())
    ]
    return Operation(
        method.upper(),
        path,
        found.get("description", ""),
        tuple(parameters),
        contents(found.get("requestBody", {})),
        contents(found["responses"]["200"]),
        example.replace("ADDRESS", address).replace("MODEL", model),
    )


def contents(body: Schema) -> tuple[Content, ...]:
    """The media types of a body; those without a schema after those with members."""
    found = []
    for media_type, content in body.get("content", {}).items():
        members = tuple(members_of(content.get("schema", {}), "", 0))
        ignored = tuple(dict.fromkeys(member.name for member in members if member.meaning == IGNORED))
        neutral = tuple(member for member in members if member.meaning == ASKS_FOR_NOTHING)
        shown = tuple(member for member in members if member.meaning not in (IGNORED, ASKS_FOR_NOTHING))
        found.append(Content(media_type, shown, neutral, ignored))
    return tuple(sorted(found, key=lambda content: not content.members))


def members_of(schema: Schema, before: str, depth: int) -> Iterator[Member]:
    """The members of a schema, each before its own members."""
    if depth == DEEPEST:
        return
    for one in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        for name, own in one.get("properties", {}).items():
            required = name in one.get("required", ())
            yield Member(f"{before}{name}", kind_of(own), meaning_of(own), required)
            yield from members_of(own, f"{before}{name}.", depth + 1)
        if isinstance(one.get("items"), dict):
            yield from members_of(one["items"], f"{before.rstrip('.')}[].", depth)
        if one is not schema and ("anyOf" in one or "oneOf" in one):
            yield from members_of(one, before, depth)


def kind_of(schema: Schema) -> str:
    """A schema's type in words.

    >>> kind_of({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 4}, {"type": "null"}]})
    'integer from 1 to 4, or null'
    >>> kind_of({"type": "array", "items": {"type": "string"}}), kind_of({"enum": ["none", None]})
    ('array of string', 'none, or null')
    """
    if "enum" in schema or "const" in schema:
        return in_words([_shown(value) for value in schema.get("enum", [schema.get("const")])])
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if branches:
        return in_words(list(dict.fromkeys(map(kind_of, branches))))
    kinds = schema.get("type", "any value")
    words = in_words(list(kinds)) if isinstance(kinds, list) else str(kinds)
    if schema.get("format") == "binary":
        return "file"
    if kinds == "array" and schema.get("items"):
        words = f"array of {kind_of(schema['items'])}"
    return f"{words}{limits_of(schema)}"


def limits_of(schema: Schema) -> str:
    """What numbers and lengths are allowed, as a part of a line; empty where any are."""
    low = schema.get("minimum")
    high = schema.get("maximum")
    found = ""
    if low is not None and high is not None:
        found = f" from {low:g} to {high:g}" if high < 1e6 else f" of at least {low:g}"
    elif low is not None:
        found = f" of at least {low:g}"
    elif "exclusiveMinimum" in schema and high is not None:
        found = f" above {schema['exclusiveMinimum']:g}, to {high:g}"
    if "maxLength" in schema:
        return f" of at most {schema['maxLength']} characters"
    most = schema.get("maxItems")
    return f"{found}; at most {most}" if most is not None and schema.get("minItems") != most else found


def in_words(words: list[str]) -> str:
    """Alternatives as a line."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, or {words[-1]}"


def meaning_of(schema: Schema) -> str:
    """What a member means, and its default where that is no null."""
    default = schema.get("default")
    words = [str(schema["description"]).rstrip(".")] if "description" in schema else []
    if default not in (None, [], {}, "") and words != [IGNORED]:
        words.append(f"default {_shown(default)}")
    return "; ".join(words)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
