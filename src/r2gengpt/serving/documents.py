"""How the routes that take forms look in the OpenAPI document. Reads nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from r2gengpt.serving.uploads import (
    FORCE_FIELD,
    FRAME_FIELD,
    IMAGE_FIELD,
    KNOWN_FIELD,
    MIXED_FIELD,
    MOST_FRAMES,
    PRIOR_DAYS,
    PRIOR_FIELD,
    PRIOR_REPORT,
    REPORT_FIELD,
    TEXT_FIELD,
)
from r2gengpt.text.context import MOST_DAYS, MOST_YEARS
from r2gengpt.text.observations import LIKELY, NOT_ASSESSED, POSSIBLE, UNLIKELY

OF_PRIOR = "for a model that was trained with earlier studies"
OF_CONTEXT = "in the prompt of a model that was trained with context"
PROPERTIES: dict[str, dict[str, Any]] = {
    IMAGE_FIELD: {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "format": "binary"},
        "description": "PNG, JPEG or DICOM files: the views of ONE study",
    },
    TEXT_FIELD: {"type": "string", "description": "why the images were taken; becomes part of the prompt"},
    "technique": {"type": "string", "description": f"how they were taken; {OF_CONTEXT}"},
    "comparison": {"type": "string", "description": f"what they are to be compared with; {OF_CONTEXT}"},
    "age": {
        "type": "number",
        "minimum": 0,
        "maximum": MOST_YEARS,
        "description": f"the patient's, in years; {OF_CONTEXT}",
    },
    "sex": {"type": "string", "enum": ["M", "F"], "description": f"the patient's; {OF_CONTEXT}"},
    "view": {"type": "string", "description": f"the views, as PA; {OF_CONTEXT}"},
    PRIOR_FIELD: {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": f"the views of the patient's study before; {OF_PRIOR}",
    },
    PRIOR_REPORT: {"type": "string", "description": f"the report of that study; {OF_PRIOR}"},
    PRIOR_DAYS: {
        "type": "number",
        "minimum": 0,
        "maximum": MOST_DAYS,
        "description": f"how many days before; of DICOM by its dates; {OF_PRIOR}",
    },
    REPORT_FIELD: {
        "type": "string",
        "description": "the text that is mapped, or put into a form",
    },
    KNOWN_FIELD: {
        "type": "string",
        "description": 'JSON: {"film_findings": […], "review": […], "edited": false}, as an answer had them',
    },
    FRAME_FIELD: {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_FRAMES,
        "description": "DICOM of several frames: this one",
    },
    FORCE_FIELD: {"type": "boolean", "description": "read what is no chest film too, by its header or its looks"},
    MIXED_FIELD: {"type": "boolean", "description": "take DICOM of two patients or two studies for one study"},
}
_CHANCE = {"type": "number", "minimum": 0, "maximum": 1}
FINDING: dict[str, Any] = {
    "type": "object",
    "required": ["name", "probability", "interval", "verdict"],
    "properties": {
        "name": {"type": "string", "description": "of the observation, as Pleural Effusion"},
        "probability": _CHANCE,
        "interval": {"type": "array", "items": _CHANCE, "minItems": 2, "maxItems": 2, "description": "95 %"},
        "verdict": {"type": "string", "enum": [LIKELY, POSSIBLE, UNLIKELY, NOT_ASSESSED]},
    },
}
SENTENCE: dict[str, Any] = {
    "type": "object",
    "required": ["text", "tokens", "logprob", "agreement", "confidence", "needs_review"],
    "properties": {
        "text": {"type": "string"},
        "tokens": {"type": "integer"},
        "logprob": {"type": "number"},
        "agreement": {"type": ["number", "null"]},
        "confidence": {"type": ["number", "null"]},
        "needs_review": {"type": "boolean"},
        "reason": {"type": "string", "description": "why it needs review"},
        "source": {"type": "string", "description": "the training study that it was taken from"},
    },
}


_TEXT, _TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
WARNINGS: dict[str, Any] = {**_TEXTS, "description": "what is to be known of the answer; absent where there is nothing"}
REVIEW: dict[str, Any] = {**_TEXTS, "description": "why the report needs review"}
REPORT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {**_TEXT, "description": "of this answer"},
        "created": {"type": "integer", "description": "seconds since 1970"},
        "notice": {**_TEXT, "description": "that it is a draft"},
        "note": {**_TEXT, "description": "what is doubtful about whose images these are; absent where nothing is"},
        "findings": {**_TEXT, "description": "the report's text"},
        "sentences": {"type": "array", "items": SENTENCE, "description": "of the text, in its order"},
        "film_findings": {"type": "array", "items": FINDING, "description": "what the films show, by the finding head"},
        "review": REVIEW,
        "finish_reason": {**_TEXT, "enum": ["stop", "length"], "description": "stop: the report came to its end"},
        "tokens": {"type": "integer", "description": "written, the end token included"},
        "logprob": {"type": "number", "description": "mean natural-log probability of a token"},
        "warnings": WARNINGS,
        "provenance": {"type": "object", "description": "hashes, decode settings, versions, images"},
    },
}
"""The document of a report, as `POST /v1/reports` gives it."""


CHOICE: dict[str, Any] = {
    "type": "object",
    "required": ["index", "message", "finish_reason", "logprobs"],
    "properties": {
        "index": {"type": "integer"},
        "message": {
            "type": "object",
            "properties": {
                "role": {"const": "assistant"},
                "content": {**_TEXT, "description": "the report's text, or the JSON that is asked for"},
                "refusal": {"type": "null"},
            },
        },
        "finish_reason": {"enum": ["stop", "length"], "description": "stop beside JSON, which is always whole"},
        "logprobs": {
            "type": ["object", "null"],
            "description": "`content`: each token with `token`, `logprob`, `bytes` and `top_logprobs`",
        },
        "seed": {"type": "integer", "description": "of a drawn choice, where there are several"},
    },
}
USAGE: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
    "description": "image tokens and end tokens included, all choices added",
}
COMPLETION: dict[str, Any] = {
    "id": _TEXT,
    "object": {"const": "chat.completion"},
    "created": REPORT["properties"]["created"],
    "model": _TEXT,
    "choices": {"type": "array", "items": CHOICE},
    "usage": USAGE,
    **{name: REPORT["properties"][name] for name in ("notice", "note", "provenance")},
}
"""The members of a chat completion, besides what is known of the report."""


def answer_document(film: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an answer with a report's sentences; what films show and `review` stand only where there are any.

    Args:
        film: the name that findings of the films stand under.
        more: other properties.
    """
    shown = {"type": "array", "items": FINDING, "description": "what the films show, by the model's finding head"}
    fields = {"sentences": {"type": "array", "items": SENTENCE}, film: shown, "review": REVIEW, "warnings": WARNINGS}
    return {"type": "object", "properties": {**more, **fields}}


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
