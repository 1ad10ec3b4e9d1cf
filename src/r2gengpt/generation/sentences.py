"""A report from its tokens: in pieces while they come, then as a record. No model, no PyTorch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from r2gengpt.errors import RunError
from r2gengpt.generation.beams import NO_NUMBERS, Written
from r2gengpt.report import Report, Sentence
from r2gengpt.text.sentences import same_sentence, sentence_spans, tidy_report, tokens_of


class TokenWords(Protocol):
    """What a processor knows of tokens; `R2GenGPTProcessor` is one, and so is the edge runtime's, without PyTorch."""

    @property
    def tokenizer(self) -> Any:
        """Has `decode` and `batch_decode` of token ids."""

    @property
    def end_token_id(self) -> int:
        """The token that ends a report."""


@dataclass(frozen=True)
class PlaceInText:
    """A place of a report: the log-probability of the token that stands there, and the likeliest tokens with theirs."""

    logprob: float
    likeliest: Mapping[int, float]


def report_of(processor: TokenWords, written: Written, *, study: str, reference: str = "") -> Report:
    """A finished report as a record.

    Args:
        processor: knows the tokens.
        written: the report.
        study: id of the study.
        reference: the study's own report, empty where none is known.

    Raises:
        RunError: the language model's scores are no numbers, so that nothing was chosen by them.
    """
    if not written.logprobs or any(map(math.isnan, written.logprobs)):
        raise RunError(NO_NUMBERS)
    return Report(
        id=study,
        text=report_text(processor, written.ids),
        reference=reference,
        tokens=len(written.ids),
        logprob=sum(written.logprobs) / len(written.logprobs),
        finish="stop" if written.ids[-1] == processor.end_token_id else "length",
        sentences=report_sentences(processor, written.ids, written.logprobs, written.beams),
        token_ids=tuple(written.ids),
        token_logprobs=tuple(written.logprobs),
    )


def report_sentences(
    processor: TokenWords,
    ids: Sequence[int],
    logprobs: Sequence[float],
    beams: Sequence[Sequence[int]] = (),
) -> tuple[Sentence, ...]:
    """The sentences of a report in order.

    Args:
        processor: knows the tokens.
        ids: new tokens of the report, with or without its end token, which belongs to no sentence.
        logprobs: natural-log probability of each.
        beams: the new tokens of each report that beam search ended with, this one among them; empty without beams.
    """
    cut = sentence_tokens(processor, ids)
    others = [_said(report_text(processor, beam)) for beam in beams]
    found = []
    for text, tokens in cut:
        said = same_sentence(text)
        agreement = sum(said in other for other in others) / len(others) if others else None
        mean = sum(logprobs[token] for token in tokens) / len(tokens)
        found.append(Sentence(text, len(tokens), mean, agreement))
    return tuple(found)


def sentence_tokens(processor: TokenWords, ids: Sequence[int], most: int | None = None) -> list[tuple[str, list[int]]]:
    """The sentences of a report's tokens in order, each with the numbers of its tokens.

    Args:
        processor: knows the tokens.
        ids: new tokens of the report.
        most: characters that the report has; the rest is none of it.
    """
    whole, ends = text_and_ends(processor, ids)
    text, before = tidy_report(whole), tidied_away(whole)
    text = text[:most]
    spans = sentence_spans(text)
    tokens_by_sentence = tokens_of([(first + before, last + before) for first, last in spans], ends)
    return [(text[first:last], tokens) for (first, last), tokens in zip(spans, tokens_by_sentence, strict=True)]


def report_text(processor: TokenWords, ids: Sequence[int]) -> str:
    """The report of new tokens, as the processor's `decode_reports` gives it."""
    return tidy_report(processor.tokenizer.decode(_body(processor, ids), skip_special_tokens=True))


class TextPieces:
    """Hands out whole words; the pieces together are the report's text.

    A word is whole once the next one has begun. White space goes out with the word behind it, so that none is left to
    be taken away at the end.

    Args:
        words: knows the tokens.
        on_text: gets each piece.
    """

    def __init__(self, words: TokenWords, on_text: Callable[[str], None]) -> None:
        self.words, self.on_text = words, on_text
        self.ids: list[int] = []
        self.sent = ""

    def show(self, token: int) -> None:
        """One token more."""
        self.ids.append(token)
        text = report_text(self.words, self.ids)
        last = len(text.split()[-1]) if text.split() else 0
        self._give(text[: len(text) - last].rstrip())

    def end(self) -> None:
        """No token comes any more: the last word is whole."""
        self._give(report_text(self.words, self.ids))

    def _give(self, text: str) -> None:
        """Hand out what is new of a text."""
        if len(text) > len(self.sent):
            piece, self.sent = text[len(self.sent) :], text
            self.on_text(piece)


def text_and_ends(processor: TokenWords, ids: Sequence[int]) -> tuple[str, list[int]]:
    """The text of new tokens, not yet tidied, and how long it is up to and with each of them (without the end token).

    A token counts as far as what is written by then is the beginning of the whole: half a character, and a blank that
    a tokenizer takes away again before a full stop, do not.
    """
    body = _body(processor, ids)
    prefixes = [body[: length + 1] for length in range(len(body))]
    texts: list[str] = processor.tokenizer.batch_decode(prefixes, skip_special_tokens=True) if prefixes else []
    whole = texts[-1] if texts else ""
    ends, longest = [], 0
    for text in texts:
        longest = max(longest, _shared(text, whole))
        ends.append(longest)
    return whole, ends


def token_pieces(processor: TokenWords, report: Report) -> list[tuple[int, str]]:
    """The tokens that a report's text comes from, each as its place and the text it adds; together they are it.

    The end token is left out, and so are role words, white space around the text, and what follows a stop string. A
    token that makes no text by itself (the first bytes of a character) has none, and the next one has it all.
    """
    whole, ends = text_and_ends(processor, report.token_ids)
    first = tidied_away(whole)
    last = first + len(report.text)
    found, start = [], 0
    for place, end in enumerate(ends):
        if end > first and start < last:
            found.append((place, whole[max(start, first) : min(end, last)]))
        start = max(start, end)
    return found


def token_text(processor: TokenWords, before: Sequence[int], token: int) -> str:
    """The text that a token adds to those before it; at the beginning of a report no white space opens it."""
    decode = processor.tokenizer.decode
    ahead, both = str(decode(list(before))) if before else "", str(decode([*before, token]))
    text = both[len(ahead) :] if both.startswith(ahead) else str(decode([token]))
    return text if before else text.lstrip()


def tidied_away(whole: str) -> int:
    """How many characters `tidy_report` takes off the beginning: white space and role words."""
    return len(whole.rstrip()) - len(tidy_report(whole))


def _shared(first: str, second: str) -> int:
    """How many characters both begin with."""
    if second.startswith(first):
        return len(first)
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), len(second))


def _body(processor: TokenWords, ids: Sequence[int]) -> list[int]:
    """The tokens before the end token."""
    row, end = list(ids), processor.end_token_id
    return row[: row.index(end)] if end in row else row


def _said(report: str) -> set[str]:
    """The sentences of a report in the form in which they are compared."""
    return {same_sentence(report[first:last]) for first, last in sentence_spans(report)}
