"""What is wrong with a JSON body, by pydantic, as a refusal that names the field and repeats no value."""

from collections.abc import Iterator

from pydantic import ValidationError

from r2gengpt.serving.failures import INVALID, ApiError

CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
}
"""pydantic's kinds of faults → OpenAI's codes; the others are values of another type or out of range."""
WORDS = {
    "extra_forbidden": "is no field of this server",
    "union_tag_invalid": "must have the type text or image_url",
    "union_tag_not_found": "must have the type text or image_url",
}
"""pydantic's kinds of faults → words, where its own would repeat what a client sent."""
LONGEST_NAME = 60


def first_fault(error: ValidationError, whole: str = "") -> ApiError:
    """The first fault of a body as a refusal, without its value; `whole` is the field that the body stood in."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where, kind = ".".join(map(shown_name, _steps(fault["loc"]))) or whole, fault["type"]
    words = WORDS.get(kind, fault["msg"].removeprefix("Value error, "))
    return ApiError(400, f"{where + ': ' if where else ''}{words}", CODES.get(kind, INVALID), param=where or None)


def _steps(place: tuple[int | str, ...]) -> Iterator[int | str]:
    """A fault's place as the request has it: pydantic names the kind of a part after its number."""
    for at, step in enumerate(place):
        if not (at >= 2 and place[at - 2] == "content" and isinstance(place[at - 1], int)):
            yield step


def shown_name(step: int | str) -> str:
    """A step of a fault's place; names of unknown fields are the client's."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(step))
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"
