"""A report's tokens up to the first stop string: once it is finished, and while it is written. Chooses no token."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from r2gengpt.generation.sentences import TextPieces, TokenWords, sentence_tokens, text_and_ends, tidied_away
from r2gengpt.report import Report, Sentence
from r2gengpt.text.sentences import sentence_spans
from r2gengpt.text.stopping import StopWatch, stop_place


class Listener:
    """Hears a report's tokens as they come, and hands on its words up to the first stop string.

    Args:
        words: knows the tokens.
        stops: as `StopWatch` has them.
        on_text: gets the text; None: it is only looked for stop strings.
    """

    def __init__(self, words: TokenWords, stops: Sequence[str], on_text: Callable[[str], None] | None) -> None:
        self.watch = StopWatch(stops, on_text or (lambda text: None))
        self.pieces = TextPieces(words, self.watch.take)

    def show(self, token: int) -> bool:
        """One new token; whether the text has come to a stop string."""
        self.pieces.show(token)
        return self.watch.stopped

    def end(self) -> None:
        """No token comes any more."""
        self.pieces.end()
        self.watch.end()


def stopped(report: Report, processor: TokenWords, stops: Sequence[str]) -> Report:
    """The report up to the first stop string, as if it had ended there; as it is where it holds none.

    Its tokens are those up to and with the one that ends the stop string. What was said of it as a whole is left out.

    Args:
        report: as it was written.
        processor: knows the tokens.
        stops: the strings.
    """
    place = stop_place(report.text, stops)
    if place is None:
        return report
    end = min(place + len(stop) for stop in stops if report.text.startswith(stop, place))
    ids, logprobs = report.token_ids, report.token_logprobs
    if ids:
        whole, ends = text_and_ends(processor, ids)
        count = bisect_left(ends, tidied_away(whole) + end) + 1
        ids, logprobs = ids[:count], logprobs[:count]
    return replace(
        report,
        text=report.text[:place],
        tokens=len(ids),
        logprob=sum(logprobs) / len(logprobs) if logprobs else report.logprob,
        finish="stop",
        sentences=_sentences(report, processor, place),
        review=(),
        token_ids=ids,
        token_logprobs=logprobs,
    )


def _sentences(report: Report, processor: TokenWords, place: int) -> tuple[Sentence, ...]:
    """The sentences before a place of the text; one that is cut keeps the agreement of the whole one."""
    starts = [start for start, _ in sentence_spans(report.text)]
    spans = sentence_spans(report.text[:place])
    old = [report.sentences[bisect_right(starts, start) - 1] for start, _ in spans]
    if not report.token_ids:
        texts = [report.text[first:last] for first, last in spans]
        return tuple(replace(one, text=text) for one, text in zip(old, texts, strict=True))
    found = []
    for one, (text, tokens) in zip(old, sentence_tokens(processor, report.token_ids, place), strict=True):
        mean = sum(report.token_logprobs[token] for token in tokens) / len(tokens)
        found.append(replace(one, text=text, tokens=len(tokens), logprob=mean))
    return tuple(found)
