"""All metrics of one set of texts as columns that add up over studies. No protocol: texts come ready to split."""

from collections.abc import Sequence

import numpy as np

from r2gengpt.metrics.bleu import bleu, bleu_statistics
from r2gengpt.metrics.cider import cider_d
from r2gengpt.metrics.ngrams import Floats, corpus
from r2gengpt.metrics.rouge import rouge_l

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
COLUMNS = 12
"""Ten of BLEU (`BleuStatistics.columns`), then ROUGE-L and CIDEr-D."""


def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """The statistics of each study, (S, `COLUMNS`), as `scores_of` reads them.

    CIDEr-D's document frequencies are those of all references given here, also when studies are resampled later.
    """
    counted = corpus(hypotheses, references)
    return np.column_stack([bleu_statistics(counted).columns(), rouge_l(hypotheses, references), cider_d(counted)])


def scores_of(sums: Floats, studies: int) -> Floats:
    """The scores in `METRICS`' order, (…, 6), of sums of statistics over `studies` studies, (…, `COLUMNS`).

    With `studies` 1 and the statistics themselves these are the scores of each study: BLEU is then sentence BLEU as
    coco-caption gives it (not smoothed: 0 to eight digits where no 4-gram matches).
    """
    return np.concatenate([bleu(sums[..., :10]), sums[..., 10:] / studies], axis=-1)
