"""The log-probabilities of a report's tokens, in OpenAI's shape. Computes none."""

from collections.abc import Mapping
from typing import Any

from r2gengpt.generation.sentences import PlaceInText, TokenWords, text_and_ends, tidied_away
from r2gengpt.serving.jobs import Answer


def logprobs_json(processor: TokenWords, answer: Answer) -> dict[str, Any]:
    """The tokens that the report's text comes from; their texts together are it.

    The end token is left out, and so are role words, white space around the text, and what follows a stop string. A
    token that makes no text by itself (the first bytes of a character) has none, and the next one has it all.
    """
    report, ids = answer.report, answer.report.token_ids
    whole, ends = text_and_ends(processor, ids)
    first = tidied_away(whole)
    last = first + len(report.text)
    content, start = [], 0
    for number, end in enumerate(ends):
        if end > first and start < last:
            token = whole[max(start, first) : min(end, last)]
            place = answer.places[number] if answer.places else PlaceInText(report.token_logprobs[number], {})
            own = _entry(token, place.logprob)
            content.append({**own, "top_logprobs": _likeliest(processor, answer, number, own, place.likeliest)})
        start = max(start, end)
    return {"content": content, "refusal": None}


def _entry(token: str, logprob: float) -> dict[str, Any]:
    """A token; one that is only a part of a character has no bytes of its own."""
    known = "\ufffd" not in token
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()) if known else None}


def _likeliest(
    processor: TokenWords, answer: Answer, number: int, own: dict[str, Any], likeliest: Mapping[int, float]
) -> list[dict[str, Any]]:
    """The likeliest tokens at a place, the one that stands there with its own text."""
    ids = answer.report.token_ids
    before = list(ids[number - 1 : number]) if number else []
    found = []
    for token, logprob in likeliest.items():
        known = own if token == ids[number] else _entry(_text_after(processor, before, token), logprob)
        found.append(dict(known))
    return found


def _text_after(processor: TokenWords, before: list[int], token: int) -> str:
    """The text that a token adds to the one before it; at the beginning of a report no white space opens it."""
    decode = processor.tokenizer.decode
    ahead, both = str(decode(before)) if before else "", str(decode([*before, token]))
    text = both[len(ahead) :] if both.startswith(ahead) else str(decode([token]))
    return text if before else text.lstrip()
