"""From texts to scores with intervals, baselines and a signature. Reads no file and prints nothing."""

from collections.abc import Mapping, Sequence

import numpy as np

from r2gengpt.errors import InputError
from r2gengpt.metrics import baselines
from r2gengpt.metrics.bootstrap import ci95, resampled_sums
from r2gengpt.metrics.choice import Choice, choose
from r2gengpt.metrics.families import Family
from r2gengpt.metrics.measure import measure, metric_names, scores_of
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.protocols import Edit, Protocol, Rules, bind, join_words
from r2gengpt.metrics.records import Row, Score, Scores
from r2gengpt.metrics.systems import Reports, System, blind_systems


def score(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    protocol: Protocol,
    *,
    dataset: str = "plain",
    train: Sequence[str] | None = None,
    truncate: Edit | None = None,
    truncate_name: str = "model-tokens",
    choice: Choice | None = None,
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
        choice: what is measured; None: all that can be measured here.
        resamples: of the bootstrap over studies; 0: no intervals.
        seed: of the bootstrap and of the random baselines.
        names: what error messages call the two sets of texts.

    Raises:
        InputError: ids differ, no studies, an empty reference, or something that the protocol needs is missing.
    """
    check_ids(hypotheses, references, names)
    rules = bind(protocol, dataset, train=train, truncate=truncate, truncate_name=truncate_name)
    families, not_available = (found := choose() if choice is None else choice).families, found.not_available
    ids = tuple(references)
    wanted = [_references(study, references[study], rules, names[1]) for study in ids]
    given = [hypotheses[study] for study in ids]
    texts = [rules.hypothesis(text) for text in given]
    pool = Reports.of(train or (), rules)
    beside = blind_systems(texts, given, pool, rules, seed)
    originals = [references[study] for study in ids]
    columns = [
        measure(system.texts, wanted, families, written=system.written, wanted=originals)
        for system in (System("", texts, given), *beside.values())
    ]
    own, *others = _rows(columns, families, resamples, seed)
    per_study = scores_of(columns[0], 1, families)
    return Scores(
        signature=rules.signature,
        ids=ids,
        metrics=own,
        per_study={name: per_study[:, i] for i, name in enumerate(own)},
        families=families,
        columns=columns[0],
        baselines={name: Row(beside[name].about, row) for name, row in zip(beside, others, strict=True)},
        distinct=len(set(texts)),
        commonest_share=baselines.commonest_share(texts),
        verbatim_in_train=_verbatim([references[study] for study in ids], pool, rules),
        not_available={**not_available, **_missing(bool(pool.texts), len(ids))},
        notes=(*_notes(texts), *_not_cleaned(texts, rules), *(family.note for family in families if family.note)),
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


def _rows(columns: Sequence[Floats], families: Sequence[Family], resamples: int, seed: int) -> list[dict[str, Score]]:
    """Each system's scores; all systems are resampled with the same draws."""
    studies = columns[0].shape[0]
    names, width = metric_names(families), sum(family.columns for family in families)
    values = [scores_of(system.sum(axis=0), studies, families) for system in columns]
    if resamples == 0 or studies < 2:
        return [{name: Score(float(value[i])) for i, name in enumerate(names)} for value in values]
    sums = resampled_sums(np.concatenate(columns, axis=1), resamples, seed)
    limits = [ci95(scores_of(part, studies, families)) for part in np.split(sums, sums.shape[1] // width, axis=1)]
    return [
        {name: Score(float(value[i]), (float(low[i]), float(high[i]))) for i, name in enumerate(names)}
        for value, (low, high) in zip(values, limits, strict=True)
    ]


def _verbatim(references: Sequence[Sequence[str]], pool: Reports, rules: Rules) -> float | None:
    """The share of studies with a reference that the train split has word for word; None without a train split."""
    if not pool.texts:
        return None
    return baselines.share_found([[rules.report(text) for text in several] for several in references], pool.texts)


def _missing(has_train: bool, studies: int) -> dict[str, str]:
    missing: dict[str, str] = {}
    if not has_train:
        missing |= dict.fromkeys(("most_frequent", "random_train"), "needs the reports of the train split (--train)")
    if studies == 1:
        missing["texts_shuffled"] = "needs two studies"
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
