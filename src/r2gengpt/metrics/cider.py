"""CIDEr-D with sigma 6 and document frequencies of the references being scored. No stemmer, no tokenizer.

Source: Vedantam et al. 2015, in the form that coco-caption computes (`pycocoevalcap/cider/cider_scorer.py`): lengths
are counted in bigrams (the difference is that of words: a text without any scores 0), tf is the plain count, and idf is
log(studies) - log(studies whose references have the n-gram).
With one study every idf is log(1) = 0, so its score is 0 whatever it says; an n-gram in all studies weighs nothing.
"""

import numpy as np

from r2gengpt.metrics.ngrams import Corpus, Counts, Floats, Ints, NgramPair, distinct, look_up

SIGMA = 6.0


def cider_d(corpus: Corpus) -> Floats:
    """CIDEr-D in [0, 10] of each study, (S,); the corpus score is their mean."""
    studies, study = corpus.hypothesis_words.size, corpus.study
    longer = corpus.hypothesis_words[study] - corpus.reference_words
    penalty = np.exp(-(longer**2) / (2 * SIGMA**2))
    cosine = np.mean([_cosine(pair, study, studies) for pair in corpus.orders], axis=0)
    per_study = np.bincount(study, cosine * penalty, minlength=studies) / np.bincount(study, minlength=studies)
    return np.asarray(10.0 * per_study, dtype=np.float64)


def _cosine(pair: NgramPair, study: Ints, studies: int) -> Floats:
    """Clipped tf-idf cosine of each reference with its study's hypothesis for one order of n-grams, (R,)."""
    hypotheses, references = pair.hypotheses, pair.references
    idf = _idf(pair, study, studies)
    keys = hypotheses.text * pair.kinds + hypotheses.ngram
    written = look_up(keys, hypotheses.count, study[references.text] * pair.kinds + references.ngram)
    weight = idf[references.ngram]
    shared = np.minimum(written, references.count) * weight * (references.count * weight)
    dot = np.bincount(references.text, shared, minlength=study.size).astype(np.float64)  # no n-gram at all: integers
    norms = _norms(hypotheses, idf, studies)[study] * _norms(references, idf, study.size)
    return np.divide(dot, norms, out=dot, where=norms != 0)


def _idf(pair: NgramPair, study: Ints, studies: int) -> Floats:
    """log(S / studies whose references hold the n-gram); log(S) for one that no reference holds."""
    keys, _ = distinct(study[pair.references.text] * pair.kinds + pair.references.ngram)
    frequency = np.bincount(keys % max(pair.kinds, 1), minlength=pair.kinds)
    return np.asarray(np.log(float(studies)) - np.log(np.maximum(frequency, 1.0)), dtype=np.float64)


def _norms(counts: Counts, idf: Floats, texts: int) -> Floats:
    """Euclidean length of each text's tf-idf vector."""
    squares = np.bincount(counts.text, (counts.count * idf[counts.ngram]) ** 2, minlength=texts)
    return np.asarray(np.sqrt(squares), dtype=np.float64)
