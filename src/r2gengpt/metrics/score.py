"""From texts to scores with intervals, baselines and a signature. Reads no file and prints nothing."""

from collections.abc import Mapping, Sequence

import numpy as np

from r2gengpt.errors import InputError
from r2gengpt.metrics import baselines
from r2gengpt.metrics.baselines import Baseline, Reports, System, blind_systems
from r2gengpt.metrics.bootstrap import ci95, patient_numbers, resampled_sums
from r2gengpt.metrics.families import MetricFamily
from r2gengpt.metrics.measure import MetricChoice, choose, headline_of, measure, metric_names, scores_of
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.paired import Difference, Resampling, differences, metric_difference
from r2gengpt.metrics.protocols import BoundProtocol, Edit, Protocol, bind, join_words
from r2gengpt.metrics.records import BaselineScores, Score, Scores
from r2gengpt.metrics.verdict import CEILINGS, CHANCE, Verdict, judge

IMAGES_SHUFFLED = "images_shuffled"
NEEDS_A_MODEL = {
    "nearest_image": "needs the images and a model (r2gengpt test)",
    IMAGES_SHUFFLED: "needs the images and a model (r2gengpt test `shuffle_images` True)",
}
"""Rows that only the caller can bring, with why they are not there."""
OF_TRAIN = ("most_frequent", "random_train")
"""Rows of reports of the train split."""
SHOWN = 5
"""Ids that a message lists."""


def score(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    protocol: Protocol,
    *,
    dataset: str = "plain",
    train: Sequence[str] | None = None,
    truncate: Edit | None = None,
    truncate_name: str = "model-tokens",
    choice: MetricChoice | None = None,
    beside: Mapping[str, Baseline] | None = None,
    missing: Mapping[str, str] | None = None,
    patients: Mapping[str, str] | None = None,
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
        beside: further rows by name; the row `images_shuffled` gives the grounding gap.
        missing: why a row is not among them, over what `NEEDS_A_MODEL` has to say.
        patients: study id → patient; where all are known, patients are resampled instead of studies.
        resamples: of the bootstrap; 0: no intervals.
        seed: of the bootstrap and of the random baselines.
        names: what error messages call the two sets of texts.

    Raises:
        InputError: ids differ, no studies, an empty reference, or something that the protocol needs is missing.
    """
    check_ids(hypotheses, references, names)
    rules = bind(protocol, dataset, train=train, truncate=truncate, truncate_name=truncate_name)
    choice = choose() if choice is None else choice
    families, not_available = choice.families, choice.not_available
    ids = tuple(references)
    wanted = [edited_references(study, references[study], rules, names[1]) for study in ids]
    written = [hypotheses[study] for study in ids]
    texts = [rules.hypothesis(text) for text in written]
    pool = Reports.of(train or (), rules)
    brought = {name: extra.system(ids, rules) for name, extra in (beside or {}).items()}
    others = {**blind_systems(texts, written, pool, rules, seed), **brought}
    originals = [references[study] for study in ids]
    columns = [
        measure(system.texts, wanted, families, written=system.written, wanted=originals)
        for system in (System("", texts, written), *others.values())
    ]
    draws = Resampling(resamples, resamples, seed, patient_numbers(ids, patients or {}))
    own, *rows = _rows(columns, families, draws)
    baseline_rows = dict(zip(others, rows, strict=True))
    by_name = dict(zip(others, columns[1:], strict=True))
    per_study = scores_of(columns[0], 1, families)
    verdict = _verdict(
        headline_of(metric_names(families), choice.headline),
        {"": own, **baseline_rows},
        {"": columns[0], **by_name},
        families,
        texts,
        draws,
    )
    return Scores(
        signature=rules.signature,
        ids=ids,
        metrics=own,
        per_study={name: per_study[:, i] for i, name in enumerate(own)},
        families=families,
        columns=columns[0],
        baselines={name: BaselineScores(others[name].about, row) for name, row in baseline_rows.items()},
        verdict=verdict,
        distinct=verdict.distinct,
        commonest_share=baselines.commonest_share(texts),
        collapsed=verdict.collapsed,
        verbatim_in_train=_verbatim([references[study] for study in ids], pool, rules),
        not_available={**not_available, **_missing(bool(pool.texts), len(ids)), **_not_brought(others, missing or {})},
        grounding_gap=_gap(by_name.get(IMAGES_SHUFFLED), columns[0], families, draws),
        notes=(
            *_notes(texts),
            *_few_draws(resamples),
            *_not_cleaned(texts, rules),
            *unknown_patients(ids, patients or {}),
            *(family.note for family in families if family.note),
        ),
        resamples=resamples,
        seed=seed,
        patients=verdict.patients,
    )


def check_ids(hypotheses: Mapping[str, object], references: Mapping[str, object], names: tuple[str, str]) -> None:
    """Refuse sets of texts that are not of the same studies.

    Raises:
        InputError: counts both differences and lists the first ids of each, or says that there are no studies.
    """
    if not references:
        raise InputError(f"{names[1]}: holds no studies")
    missing = [study for study in references if study not in hypotheses]
    extra = [study for study in hypotheses if study not in references]
    if missing or extra:
        parts = [
            f"{len(some)} of {len(whole)} studies {lack} ({', '.join(some[:SHOWN])}{', …' * (len(some) > SHOWN)})"
            for some, whole, lack in (
                (missing, references, f"in {names[1]} have no text in {names[0]}"),
                (extra, hypotheses, f"in {names[0]} have no text in {names[1]}"),
            )
            if some
        ]
        raise InputError("; ".join(parts))


def edited_references(study: str, texts: Sequence[str], rules: BoundProtocol, name: str) -> list[str]:
    """A study's references in the protocol's form.

    Raises:
        InputError: one is empty, also where only the protocol leaves nothing of it; `name` is the file's.
    """
    edited = [rules.reference(text) for text in texts]
    if not texts or not all(text.strip() and edit.strip() for text, edit in zip(texts, edited, strict=True)):
        raise InputError(f"{name}: the reference of study {study} is empty")
    return edited


def _rows(columns: Sequence[Floats], families: Sequence[MetricFamily], draws: Resampling) -> list[dict[str, Score]]:
    """Each system's scores; all systems are resampled with the same draws."""
    studies = columns[0].shape[0]
    names = metric_names(families)
    values = [scores_of(system.sum(axis=0), studies, families) for system in columns]
    if draws.resamples == 0 or draws.units(studies) < 2:
        return [{name: Score(float(value[i])) for i, name in enumerate(names)} for value in values]
    whole = np.concatenate([np.ones((studies, 1)), *columns], axis=1)
    sums = resampled_sums(whole, draws.resamples, draws.seed, draws.patients)
    counts, parts = sums[:, 0], np.split(sums[:, 1:], len(columns), axis=1)
    limits = [ci95(scores_of(part, counts, families)) for part in parts]
    return [
        {name: Score(float(value[i]), (float(low[i]), float(high[i]))) for i, name in enumerate(names)}
        for value, (low, high) in zip(values, limits, strict=True)
    ]


def _verbatim(references: Sequence[Sequence[str]], pool: Reports, rules: BoundProtocol) -> float | None:
    """The share of studies with a reference that the train split has word for word; None without a train split."""
    if not pool.texts:
        return None
    return baselines.share_found([[rules.report(text) for text in several] for several in references], pool.texts)


def _missing(has_train: bool, studies: int) -> dict[str, str]:
    missing: dict[str, str] = {}
    if not has_train:
        missing |= dict.fromkeys(OF_TRAIN, "needs the reports of the train split (`train`)")
    if studies == 1:
        missing["texts_shuffled"] = "needs two studies"
    return missing


def _not_brought(systems: Mapping[str, System], missing: Mapping[str, str]) -> dict[str, str]:
    return {name: why for name, why in {**NEEDS_A_MODEL, **missing}.items() if name not in systems}


def _gap(
    shuffled: Floats | None, own: Floats, families: Sequence[MetricFamily], draws: Resampling
) -> Mapping[str, Difference] | None:
    """Scores minus those with shuffled images, in pairs; None where the model did not write for shuffled images."""
    return None if shuffled is None else differences(shuffled, own, families, draws)


def _verdict(
    metric: str,
    rows: Mapping[str, Mapping[str, Score]],
    columns: Mapping[str, Floats],
    families: Sequence[MetricFamily],
    texts: Sequence[str],
    draws: Resampling,
) -> Verdict:
    """How the model, the row without a name, stands to the others by a metric."""
    rivals = {name: row[metric].value for name, row in rows.items() if name and name not in CEILINGS}
    return judge(
        metric,
        rows[""][metric].value,
        rivals,
        {name: metric_difference(metric, columns[name], columns[""], families, draws) for name in rivals},
        studies=len(texts),
        patients=draws.patients_drawn,
        distinct=len(set(texts)),
        collapsed=baselines.is_collapsed(texts),
    )


def unknown_patients(ids: Sequence[str], patients: Mapping[str, str]) -> list[str]:
    """A note where patients are named, but not of all studies."""
    known = sum(bool(patients.get(study)) for study in ids)
    if not patients or known == len(ids):
        return []
    return [f"{len(ids) - known} of {len(ids)} studies name no patient: resampled by study, not by patient"]


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


def _few_draws(resamples: int) -> list[str]:
    """A note where so little is drawn that no p can be small enough for a verdict."""
    if not 0 < resamples < 1 / CHANCE:
        return []
    return [f"{resamples} resamples are too few for a verdict: no p of theirs is below {CHANCE}, so all is level"]


def _not_cleaned(texts: Sequence[str], rules: BoundProtocol) -> list[str]:
    """A note where a protocol takes outputs as they are and they are not in the form of its references."""
    if rules.hypothesis is rules.report:
        return []
    foreign = sum(join_words(rules.report(text)) != join_words(text) for text in texts)
    return [f"{foreign} of {len(texts)} outputs are not in the cleaned form that references have"] if foreign else []
