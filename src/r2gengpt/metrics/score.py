"""From texts to scores with intervals, baselines and a signature. Reads no file and prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r2gengpt.errors import InputError
from r2gengpt.metrics import baselines
from r2gengpt.metrics.bootstrap import ci95, resampled_sums
from r2gengpt.metrics.measure import COLUMNS, METRICS, measure, scores_of
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.protocols import Edit, Protocol, Rules, bind, join_words
from r2gengpt.metrics.signature import Signature

NOT_AVAILABLE = {"meteor": "this version does not run the METEOR 1.5 jar"}


@dataclass(frozen=True)
class Score:
    """A metric's value and its 95 % interval (None: not resampled, or one study)."""

    value: float
    ci95: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"value": …, "ci95": [low, high]}`, without the interval where there is none."""
        return {"value": self.value} | ({} if self.ci95 is None else {"ci95": list(self.ci95)})


@dataclass(frozen=True)
class Row:
    """A baseline: what its texts are, and its scores by metric."""

    text: str
    metrics: Mapping[str, Score]


@dataclass(frozen=True)
class Scores:
    """The scores of one set of predictions.

    `per_study` holds for each metric an array in the order of `ids`. `distinct` counts different outputs,
    `commonest_share` is the share of the commonest one; `verbatim_in_train` the share of studies whose reference is in
    the train split word for word (None: train split not given).
    """

    signature: Signature
    ids: tuple[str, ...]
    metrics: Mapping[str, Score]
    per_study: Mapping[str, Floats] = field(repr=False)
    baselines: Mapping[str, Row]
    distinct: int
    commonest_share: float
    verbatim_in_train: float | None
    not_available: Mapping[str, str]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "signature": str(self.signature),
            "n": len(self.ids),
            "metrics": _metrics_json(self.metrics),
            "baselines": {
                name: {"text": row.text, "metrics": _metrics_json(row.metrics)} for name, row in self.baselines.items()
            },
            "outputs": {"distinct": self.distinct, "commonest_share": self.commonest_share},
            "references_verbatim_in_train": self.verbatim_in_train,
            "not_available": dict(self.not_available),
            "notes": list(self.notes),
            "bootstrap": {"resamples": self.resamples, "seed": self.seed},
        }


def _metrics_json(metrics: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_json() for name, score in metrics.items()}


def score(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    protocol: Protocol,
    *,
    dataset: str = "plain",
    train: Sequence[str] | None = None,
    truncate: Edit | None = None,
    truncate_name: str = "model-tokens",
    resamples: int = 1000,
    seed: int = 0,
    names: tuple[str, str] = ("predictions", "references"),
) -> Scores:
    """Score generated reports against their references.

    An empty hypothesis scores as coco-caption has it (0); an empty reference is refused, there being nothing to find.

    Args:
        hypotheses: study id → generated text.
        references: study id → its reference texts, in any order of studies.
        protocol: one of `protocols.PROTOCOLS`.
        dataset: whose cleaner: iu_xray, mimic_cxr or plain.
        train: reports of the train split, for two baselines and for the protocol r2gen.
        truncate: see `protocols.bind`.
        truncate_name: see `protocols.bind`.
        resamples: of the bootstrap over studies; 0: no intervals.
        seed: of the bootstrap and of the random baselines.
        names: what error messages call the two sets of texts.

    Raises:
        InputError: ids differ, no studies, an empty reference, or something that the protocol needs is missing.
    """
    check_ids(hypotheses, references, names)
    rules = bind(protocol, dataset, train=train, truncate=truncate, truncate_name=truncate_name)
    ids = tuple(references)
    wanted = [_references(study, references[study], rules, names[1]) for study in ids]
    texts = [rules.hypothesis(hypotheses[study]) for study in ids]
    reports = [rules.report(report) for report in train or () if report.strip()]
    systems = {"": texts, **_baseline_texts(texts, rules, reports, seed)}
    columns = [measure(system, wanted) for system in systems.values()]
    rows = dict(zip(systems, _rows(columns, resamples, seed), strict=True))
    per_study = scores_of(columns[0], 1)
    about = _about(rules, systems, seed)
    return Scores(
        signature=rules.signature,
        ids=ids,
        metrics=rows.pop(""),
        per_study={name: per_study[:, i] for i, name in enumerate(METRICS)},
        baselines={name: Row(about[name], row) for name, row in rows.items()},
        distinct=len(set(texts)),
        commonest_share=baselines.commonest_share(texts),
        verbatim_in_train=(
            baselines.share_found([[rules.report(text) for text in references[study]] for study in ids], reports)
            if reports
            else None
        ),
        not_available=NOT_AVAILABLE | _missing(bool(reports), len(ids)),
        notes=(*_notes(texts), *_not_cleaned(texts, rules)),
        resamples=resamples,
        seed=seed,
    )


def check_ids(hypotheses: Mapping[str, object], references: Mapping[str, object], names: tuple[str, str]) -> None:
    """Refuse sets of texts that are not of the same studies.

    Raises:
        InputError: counts both differences and names the first id of each, or says that there are no studies.
    """
    if not references:
        raise InputError(f"{names[1]}: holds no studies")
    missing = [study for study in references if study not in hypotheses]
    extra = [study for study in hypotheses if study not in references]
    if missing or extra:
        parts = [
            f"{len(some)} of {len(whole)} studies {lack} (first: {some[0]})"
            for some, whole, lack in (
                (missing, references, f"in {names[1]} have no text in {names[0]}"),
                (extra, hypotheses, f"in {names[0]} have no text in {names[1]}"),
            )
            if some
        ]
        raise InputError("; ".join(parts))


def _references(study: str, texts: Sequence[str], rules: Rules, name: str) -> list[str]:
    edited = [rules.reference(text) for text in texts]
    if not texts or not all(text.strip() and edit.strip() for text, edit in zip(texts, edited, strict=True)):
        raise InputError(f"{name}: the reference of study {study} is empty")
    return edited


def _baseline_texts(texts: list[str], rules: Rules, reports: list[str], seed: int) -> dict[str, list[str]]:
    """Baseline name → its outputs, as the protocol has them."""
    studies = len(texts)
    systems = {"constant": [rules.report(baselines.CONSTANT_REPORT)] * studies}
    if reports:
        systems["most_frequent"] = [baselines.most_frequent(reports)] * studies
        systems["random_train"] = baselines.random_reports(reports, studies, seed)
    if studies > 1:
        systems["shuffled"] = baselines.shuffled(texts, seed)
    return systems


def _about(rules: Rules, systems: Mapping[str, list[str]], seed: int) -> dict[str, str]:
    """Baseline name → its text, or how its texts were chosen."""
    about = {
        "random_train": f"one report of the train split for each study, drawn with seed {seed}",
        "shuffled": f"the predictions moved between studies, seed {seed}",
    }
    return about | {name: systems[name][0] for name in ("constant", "most_frequent") if name in systems}


def _rows(columns: Sequence[Floats], resamples: int, seed: int) -> list[dict[str, Score]]:
    """Each system's scores; all systems are resampled with the same draws."""
    studies = columns[0].shape[0]
    values = [scores_of(system.sum(axis=0), studies) for system in columns]
    if resamples == 0 or studies < 2:
        return [{name: Score(float(value[i])) for i, name in enumerate(METRICS)} for value in values]
    sums = resampled_sums(np.concatenate(columns, axis=1), resamples, seed)
    limits = [ci95(scores_of(part, studies)) for part in np.split(sums, sums.shape[1] // COLUMNS, axis=1)]
    return [
        {name: Score(float(value[i]), (float(low[i]), float(high[i]))) for i, name in enumerate(METRICS)}
        for value, (low, high) in zip(values, limits, strict=True)
    ]


def _missing(has_train: bool, studies: int) -> dict[str, str]:
    missing: dict[str, str] = {}
    if not has_train:
        missing |= dict.fromkeys(("most_frequent", "random_train"), "needs the reports of the train split (--train)")
    if studies == 1:
        missing["shuffled"] = "needs two studies"
    return missing


def _notes(texts: Sequence[str]) -> tuple[str, ...]:
    """What a reader of the scores must know, in words."""
    studies, notes = len(texts), []
    if studies == 1:
        notes.append("one study: cider is 0 by its definition (every idf is log 1), and nothing can be resampled")
    if baselines.is_collapsed(texts):
        notes.append(
            f"collapsed: {len(set(texts))} distinct output(s) for {studies} studies; "
            "the model may not look at the images"
        )
    if empty := sum(not text.strip() for text in texts):
        notes.append(f"empty outputs, which score 0: {empty} of {studies}")
    return tuple(notes)


def _not_cleaned(texts: Sequence[str], rules: Rules) -> list[str]:
    """A note where a protocol takes outputs as they are and they are not in the form of its references."""
    if rules.hypothesis is rules.report:
        return []
    foreign = sum(join_words(rules.report(text)) != join_words(text) for text in texts)
    return [f"{foreign} of {len(texts)} outputs are not in the cleaned form that references have"] if foreign else []
