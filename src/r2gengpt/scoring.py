"""Scores of texts from Python, as `r2gengpt score` and `r2gengpt compare` give them. Reads no file, needs no torch."""

from collections.abc import Mapping, Sequence
from typing import Literal

from r2gengpt.errors import InputError
from r2gengpt.metrics import compare as comparing
from r2gengpt.metrics import score as scoring
from r2gengpt.metrics.compare import Comparison
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS, Protocol, bind
from r2gengpt.metrics.records import Scores

Texts = Mapping[str, str] | Sequence[str]
"""Texts by study id, or in one order for all."""
Dataset = Literal["plain", "iu_xray", "mimic_cxr"]


def score(
    predictions: Texts,
    references: Texts,
    *,
    protocol: str = "clean",
    dataset: Dataset = "plain",
    train: Sequence[str] | None = None,
    labels: bool = False,
    meteor: str = "none",
    headline: str | None = None,
    patients: Mapping[str, str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Scores of generated reports: BLEU-1 to 4, ROUGE-L, CIDEr-D, with intervals and baselines.

    >>> scores = score(["The lungs are clear."], ["The lungs are clear."], resamples=0)
    >>> scores.metrics["rouge_l"].value
    1.0

    Args:
        predictions: the generated reports, by study id or in an order.
        references: the true ones, likewise.
        protocol: the convention: clean, ptb, raw, or r2gen, which needs `train`.
        dataset: whose report cleaner; plain: lower case, punctuation apart.
        train: reports of the train split, for baselines.
        labels: clinical labels by rules too.
        meteor: python, jar (Java) or none.
        headline: the metric that the verdict rests on; None: label F1, CIDEr-D or ROUGE-L, the first that is measured.
        patients: study id → patient, who is resampled then.
        resamples: of the bootstrap; 0: no intervals.
        seed: of the bootstrap and of the random baselines.

    Raises:
        InputError: ids differ, there are no studies, a reference is empty, the protocol lacks something, or the
            headline is not measured.
    """
    return scoring.score(
        by_study(predictions),
        {study: [text] for study, text in by_study(references).items()},
        protocol_of(protocol),
        dataset=dataset,
        train=train,
        choice=choose(labels=labels, meteor=meteor, headline=headline),
        patients=patients,
        resamples=resamples,
        seed=seed,
    ).spelt()


def compare(
    first: Texts,
    second: Texts,
    references: Texts,
    *,
    protocol: str = "clean",
    dataset: Dataset = "plain",
    train: Sequence[str] | None = None,
    labels: bool = False,
    meteor: str = "none",
    patients: Mapping[str, str] | None = None,
    resamples: int = 1000,
    swaps: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Differences of all scores of two systems, second minus first, with paired intervals and p.

    >>> compared = compare(["no effusion"], ["lungs are clear"], ["lungs are clear"], resamples=0, swaps=0)
    >>> round(compared.differences["rouge_l"].value, 2)
    1.0

    Args:
        first: reports of one system, by study id or in an order.
        second: of the other one.
        references: the true ones.
        protocol: as `score` has it.
        dataset: likewise.
        train: reports of the train split, which the protocol r2gen needs.
        labels: clinical labels by rules too.
        meteor: python, jar (Java) or none.
        patients: study id → patient, who is drawn and swapped then.
        resamples: of the paired bootstrap; 0: none.
        swaps: of the approximate randomisation; 0: none.
        seed: of both.

    Raises:
        InputError: the three are not of the same studies, there are none, or a reference is empty.
    """
    return comparing.compare(
        by_study(first),
        by_study(second),
        {study: [text] for study, text in by_study(references).items()},
        bind(protocol_of(protocol), dataset, train=train),
        choice=choose(labels=labels, meteor=meteor),
        patients=patients,
        resamples=resamples,
        swaps=swaps,
        seed=seed,
    ).spelt()


def by_study(texts: Texts) -> Mapping[str, str]:
    """Texts by study id; those that come in an order are numbered."""
    if isinstance(texts, str):
        raise InputError("a list of texts, or a mapping from study to text, is needed, not one text")
    return texts if isinstance(texts, Mapping) else {str(place): text for place, text in enumerate(texts)}


def protocol_of(name: str) -> Protocol:
    """The convention of a name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise InputError(f"choose from {', '.join(PROTOCOLS)}", field="protocol", value=name)
    return PROTOCOLS[name]
