"""How the routes that take forms look in the OpenAPI document. Reads nothing."""

from collections.abc import Sequence
from typing import Any

from r2gengpt.serving.uploads import (
    FORCE_FIELD,
    FRAME_FIELD,
    IMAGE_FIELD,
    MIXED_FIELD,
    MOST_FRAMES,
    REPORT_FIELD,
    TEXT_FIELD,
)

PROPERTIES: dict[str, dict[str, Any]] = {
    IMAGE_FIELD: {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "format": "binary"},
        "description": "PNG, JPEG or DICOM files: the views of ONE study",
    },
    TEXT_FIELD: {"type": "string", "description": "why the images were taken; becomes part of the prompt"},
    REPORT_FIELD: {"type": "string", "description": "the text whose sentences are mapped"},
    FRAME_FIELD: {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_FRAMES,
        "description": "DICOM of several frames: this one",
    },
    FORCE_FIELD: {"type": "boolean", "description": "read DICOM that is not a CR, DX or DR image of the chest"},
    MIXED_FIELD: {"type": "boolean", "description": "take DICOM of two patients or two studies for one study"},
}
TEXT_KINDS = ("text/", "application/json")


def form_document(fields: Sequence[str], *answers: str, required: Sequence[str] = (IMAGE_FIELD,)) -> dict[str, Any]:
    """A route's own part of the document: a form of these fields, an answer of one of these media types."""
    form = {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {name: PROPERTIES[name] for name in fields},
    }
    content = {kind: {"schema": {"type": "string"} if kind.startswith(TEXT_KINDS) else {}} for kind in answers}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": {"200": {"content": content}},
    }
