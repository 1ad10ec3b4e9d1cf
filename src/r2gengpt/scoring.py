"""Scores of texts from Python, as `r2gengpt score` and `r2gengpt compare` give them. Reads no file, needs no torch."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypeVar

from r2gengpt.config import LENGTHS
from r2gengpt.errors import InputError
from r2gengpt.metrics import compare as comparing
from r2gengpt.metrics import score as scoring
from r2gengpt.metrics.compare import Comparison
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS, bind
from r2gengpt.metrics.records import Scores
from r2gengpt.options import Checked, option
from r2gengpt.settings import METEOR_NAMES

T = TypeVar("T")
Texts = Mapping[str, str] | Mapping[int, str] | Sequence[str]
"""Texts by study id, or in one order for all."""
Patients = Mapping[str, str | int | None] | Mapping[int, str | int | None]
"""Study id → patient; None: not known."""
Dataset = Literal["plain", "iu_xray", "mimic_cxr"]


@dataclass(frozen=True)
class _HowScored(Checked):
    """How texts are scored; each is refused by its name before anything is measured."""

    protocol: str = option("clean", "scoring convention", choices=tuple(PROTOCOLS))
    dataset: str = option("plain", "whose report cleaner", choices=tuple(LENGTHS))
    labels: bool = option(False, "clinical labels by rules too")
    meteor: str = option("none", "which METEOR", choices=METEOR_NAMES)
    headline: str | None = option(None, "metric that the verdict rests on")
    resamples: int = option(1000, "of the bootstrap", low=0)
    swaps: int = option(0, "of the approximate randomisation", low=0)
    seed: int = option(0, "of all that is drawn", low=0)


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
    patients: Patients | None = None,
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
        InputError: a value of another type or out of its range, ids differ, there are no studies, a reference is empty,
            the protocol lacks something, or the headline is not measured.
    """
    _HowScored(protocol, dataset, labels, meteor, headline, resamples, seed=seed)
    return scoring.score(
        by_study(predictions, "predictions"),
        {study: [text] for study, text in by_study(references, "references").items()},
        PROTOCOLS[protocol],
        dataset=dataset,
        train=train_texts(train),
        choice=choose(labels=labels, meteor=meteor, headline=headline),
        patients=known_patients(patients),
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
    patients: Patients | None = None,
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
        InputError: a value of another type or out of its range, the three are not of the same studies, there are none,
            or a reference is empty.
    """
    _HowScored(protocol, dataset, labels, meteor, None, resamples, swaps, seed)
    return comparing.compare(
        by_study(first, "first"),
        by_study(second, "second"),
        {study: [text] for study, text in by_study(references, "references").items()},
        bind(PROTOCOLS[protocol], dataset, train=train_texts(train)),
        choice=choose(labels=labels, meteor=meteor),
        patients=known_patients(patients),
        resamples=resamples,
        swaps=swaps,
        seed=seed,
    ).spelt()


def by_study(texts: Texts, field: str) -> Mapping[str, str]:
    """Texts by study id; those that come in an order are numbered. `field` is what errors call them.

    Raises:
        InputError: one text by itself, a set, which has no order, or what is no text.
    """
    if not isinstance(texts, Mapping):
        return {str(place): text for place, text in enumerate(listed(texts, field))}
    for study, text in texts.items():
        check_text(text, field, f"the text of study {study}")
    return by_id(texts, field)


def by_id(values: Mapping[Any, T], field: str) -> dict[str, T]:
    """Values by study id, a text or a whole number, as text: 7 and "7" are one study, as in files.

    Raises:
        InputError: an id is something else, or two are one.
    """
    found: dict[str, T] = {}
    for study, value in values.items():
        name = named(study, field, "a study id")
        if name in found:
            raise InputError(f"{field}: study {name} is given twice", field=field)
        found[name] = value
    return found


def named(value: object, field: str, what: str) -> str:
    """An id as text.

    Raises:
        InputError: it is no text and no whole number; `what` is which part of the field it is.
    """
    if isinstance(value, bool) or not isinstance(value, str | Integral):
        words = f"{field}: {what} is of type {type(value).__name__}, must be a text or a whole number"
        raise InputError(words, field=field)
    return str(value)


def listed(texts: object, field: str) -> list[str]:
    """Texts in their order.

    Raises:
        InputError: one text by itself, a set, which has no order, or what is no text.
    """
    if isinstance(texts, str | bytes | Set) or not isinstance(texts, Iterable):
        words = f"{field}: is of type {type(texts).__name__}, must hold texts in an order or by study"
        raise InputError(words, field=field)
    found = list(texts)
    for place, text in enumerate(found):
        check_text(text, field, f"text {place}")
    return found


def train_texts(train: Sequence[str] | None) -> list[str] | None:
    """The reports of the train split, if any. Raises as `listed`."""
    return None if train is None else listed(train, "train")


def known_patients(patients: Patients | None) -> Mapping[str, str] | None:
    """Whose studies these are.

    Raises:
        InputError: it is no mapping from study to patient, both texts or whole numbers; None is a patient not known.
    """
    if patients is None:
        return None
    if not isinstance(patients, Mapping):
        raise InputError(f"patients: is of type {type(patients).__name__}, must map study to patient", field="patients")
    known = {study: patient for study, patient in by_id(patients, "patients").items() if patient is not None}
    return {study: named(patient, "patients", f"the patient of study {study}") for study, patient in known.items()}


def check_text(value: object, field: str, what: str) -> None:
    """Refuse what is no text.

    Raises:
        InputError: so it is; `what` is which part of the field it is.
    """
    if not isinstance(value, str):
        raise InputError(f"{field}: {what} is of type {type(value).__name__}, must be a text", field=field)
