"""How much each token of a training report counts: those of sentences with a positive finding more. Learns nothing."""

import functools

from r2gengpt.metrics.labels.observations import Label
from r2gengpt.metrics.labels.reading import label_report
from r2gengpt.model.processing import R2GenGPTProcessor
from r2gengpt.text.observations import NO_FINDING
from r2gengpt.text.sentences import sentence_spans, tokens_of

SENTENCES_KEPT = 1 << 16


@functools.lru_cache(SENTENCES_KEPT)
def has_positive(sentence: str) -> bool:
    """Whether a sentence says of an observation, No Finding left out, that it is there."""
    return any(label == Label.POSITIVE for name, label in label_report(sentence).items() if name != NO_FINDING)


def token_weights(report: str, processor: R2GenGPTProcessor, learnt: int, weight: float) -> list[float]:
    """The weights of a report's learnt tokens: `weight` in sentences with a positive finding, else 1.

    Args:
        report: as it is learnt.
        processor: whose tokens they are.
        learnt: how many tokens are learnt, the end token included where it is.
        weight: of tokens that count more.
    """
    weights = [1.0] * learnt
    spans = sentence_spans(report)
    for span, tokens in zip(spans, tokens_of(spans, processor.token_ends(report)), strict=True):
        if has_positive(report[slice(*span)]):
            for place in tokens:
                if place < learnt:
                    weights[place] = weight
    return weights
