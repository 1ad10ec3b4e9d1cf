"""The report's document with the members that a JSON schema asks for: whether it has them, and what they hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r2gengpt.serving.chat_request import ResponseFormat
from r2gengpt.serving.documents import REPORT
from r2gengpt.serving.failures import UNSUPPORTED, ApiError
from r2gengpt.serving.faults import shown_name

WHERE = "response_format"
Schema = Mapping[str, Any]
KNOWN = (
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "oneOf",
    "$ref",
    "enum",
    "nullable",
)
"""Keywords that are looked at."""
SAYING = ("title", "description", "default", "examples", "$defs", "definitions", "$schema", "$id", "$comment", "strict")
"""Keywords that ask for nothing."""
MOST_PARTS = 200
EMPTY: Mapping[str, Any] = {"array": (), "string": ""}
"""What stands for a member that a report has not got, by its type."""


@dataclass(frozen=True)
class Members:
    """What the content is of a document: all of it, or what a schema asks for."""

    schema: Schema | None = None

    def of(self, document: Mapping[str, Any]) -> Any:
        """The content for one report's document."""
        return document if self.schema is None else _Asked(self.schema).cut(self.schema, REPORT, document)


def members_of(asked: ResponseFormat | None) -> Members | None:
    """What is asked for; None where it is the text.

    Raises:
        ApiError: a schema that the document of a report does not fit.
    """
    if asked is None or asked.type == "text":
        return None
    if asked.json_schema is None:
        return Members()
    schema = asked.json_schema.schema_
    _Asked(schema).check(schema, REPORT, "")
    return Members(schema)


class _Asked:
    """A client's schema, and where its references lead.

    Args:
        root: the whole of it.
    """

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.looked_at = 0

    def followed(self, schema: Any, where: str) -> Schema:
        """A part of the schema, or what it refers to.

        Raises:
            ApiError: no schema, or a reference that leads nowhere.
        """
        for _ in range(8):
            if schema is True:
                return {}
            if not isinstance(schema, dict):
                raise refusal(where, "is no schema")
            if "$ref" not in schema:
                return schema
            steps, schema = str(schema["$ref"]).split("/"), self.root
            for step in steps[1:] if steps[0] == "#" else [""]:
                schema = schema.get(step, False) if isinstance(schema, dict) else False
        raise refusal(where, "refers to itself")

    def check(self, part: Any, own: Schema, where: str) -> None:
        """Refuse a part of the schema that not every value of our own schema fits.

        Raises:
            ApiError: so it is; the member is named.
        """
        schema = self.followed(part, where)
        self.looked_at += 1
        if self.looked_at > MOST_PARTS:
            raise refusal(where, f"has a schema of more than {MOST_PARTS} parts")
        for word in schema:
            if word not in (*KNOWN, *SAYING):
                raise refusal(where, f"asks for {shown_name(word)}, which this server does not see to")
        branches = branches_of(schema)
        if branches:
            if {"properties", "required", "items", "enum"} & set(schema):
                raise refusal(where, "asks for anyOf and more at once, which this server does not see to")
            self._check_any(branches, own, where)
            return
        missing = types_of(own) - allowed(schema)
        if missing:
            words = f"is {' or '.join(sorted(types_of(own)))} here, and the schema does not take {sorted(missing)[0]}"
            raise refusal(where, words)
        values, mine = schema.get("enum"), own.get("enum", [])
        if values is not None and not (isinstance(values, list) and mine and all(one in values for one in mine)):
            raise refusal(where, "may have other values than those of enum")
        self._check_inside(schema, own, where)

    def _check_any(self, branches: list[Any], own: Schema, where: str) -> None:
        """Each type of our own needs a branch that takes it; raises as `check`."""
        for kind in sorted(types_of(own)):
            fitting = [one for one in branches if kind in allowed(self.followed(one, where))]
            if not fitting:
                raise refusal(where, f"may be {kind} here, and the schema does not take that")
            self.check(fitting[0], {**own, "type": kind}, where)

    def _check_inside(self, schema: Schema, own: Schema, where: str) -> None:
        """Members of an object and items of a list; raises as `check`."""
        if "items" in schema and "items" in own:
            self.check(schema["items"], own["items"], where)
        if not names_members(schema) and schema.get("additionalProperties", True) not in (True, {}):
            raise refusal(where, "asks for additionalProperties, which this server does not see to")
        for name, part in asked_members(schema).items():
            place = f"{where}.{name}" if where else name
            mine = own.get("properties", {})
            if name not in mine:
                has = f"it has {', '.join(mine)}" if mine else "its members are not promised"
                raise refusal(where, f"has no member {shown_name(name)}: {has}")
            self.check(part, mine[name], place)

    def cut(self, part: Any, own: Schema, value: Any) -> Any:
        """What a checked schema asks for, of a value."""
        schema = self.followed(part, "")
        kind = next((kind for kind in types_of(own) if is_of(value, kind)), "")
        for branch in branches_of(schema):
            if kind in allowed(self.followed(branch, "")):
                return self.cut(branch, own, value)
        if isinstance(value, list | tuple):
            return [self.cut(schema.get("items", True), own.get("items", {}), one) for one in value]
        if not isinstance(value, dict) or not names_members(schema):
            return value
        mine = own.get("properties", {})
        return {
            name: self.cut(part, mine[name], value.get(name, EMPTY.get(str(mine[name]["type"]))))
            for name, part in asked_members(schema).items()
        }


def refusal(where: str, words: str) -> ApiError:
    """Why a schema cannot be served."""
    name = ".".join(map(shown_name, where.split("."))) if where else "the report"
    return ApiError(400, f"{WHERE}: {name} {words}", UNSUPPORTED, param=WHERE)


def types_of(own: Schema) -> set[str]:
    """The types that our own values may have."""
    kinds = own.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def allowed(schema: Schema) -> set[str]:
    """The types that a schema takes; a number may be whole."""
    kinds = schema.get("type", ["array", "boolean", "integer", "null", "number", "object", "string"])
    listed = kinds if isinstance(kinds, list) else [kinds]
    found = {kind for kind in listed if isinstance(kind, str)}
    if schema.get("nullable") is True:
        found.add("null")
    return found | {"integer"} if "number" in found else found


def branches_of(schema: Schema) -> list[Any]:
    """The alternatives of a schema."""
    found = schema.get("anyOf", schema.get("oneOf", []))
    return found if isinstance(found, list) else []


def names_members(schema: Schema) -> bool:
    """Whether a schema names members; one that does not takes the whole object."""
    return bool(asked_members(schema)) or schema.get("additionalProperties") is False


def asked_members(schema: Schema) -> dict[str, Any]:
    """The members of an object that a schema asks for."""
    properties, required = schema.get("properties"), schema.get("required")
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return {**dict.fromkeys(names, True), **(properties if isinstance(properties, dict) else {})}


def is_of(value: Any, kind: str) -> bool:
    """Whether a value is of a type of JSON."""
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "null": (type(None),),
        "array": (list, tuple), "object": (dict,),
    }  # fmt: skip
    return isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool))
