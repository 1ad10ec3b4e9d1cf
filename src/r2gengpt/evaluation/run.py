"""From a split of studies to predictions, scores and a report page. No training, no flags."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from r2gengpt.confidence.maps import Evidence, KeptBox, whole_film
from r2gengpt.confidence.review import Calibration
from r2gengpt.data.features.filling import Features
from r2gengpt.data.loading import StudyDataset, StudyLoader
from r2gengpt.data.ordering import sequential_batches
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.boxes import measured_boxes
from r2gengpt.evaluation.confidence import measured_confidence
from r2gengpt.evaluation.evidence import write_evidence
from r2gengpt.evaluation.findings import measured_findings
from r2gengpt.evaluation.page.page import report_page
from r2gengpt.evaluation.page.scores import scores_file
from r2gengpt.evaluation.page.sentences import read_evidence
from r2gengpt.evaluation.page.study import StudyRow
from r2gengpt.evaluation.predictions import write_predictions
from r2gengpt.files import write_whole
from r2gengpt.metrics.baselines import Baseline
from r2gengpt.metrics.measure import MetricChoice, choose
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import OF_TRAIN, score
from r2gengpt.processes import agreed, gathered
from r2gengpt.progress import Bar
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.version import __version__

log = logging.getLogger("r2gengpt.evaluation")
NO_REPORTS = "the annotation file has no reports of a train split"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation reads: studies, train reports for the baselines, features of a cache."""

    studies: Sequence[Study]
    train_reports: Sequence[str]
    dataset: str
    batch_size: int
    num_workers: int = 0
    prefetch_factor: int = 4
    protocol: str = "clean"
    features: Features | None = None
    choice: MetricChoice = field(default_factory=functools.partial(choose, labels=True))
    """What is measured."""
    blank: bool = False
    """Whether every film is of one grey."""
    kept: KeptBox = whole_film
    """What of a film of a width and height evidence maps lie on."""


@dataclass(frozen=True)
class BaselineRows:
    """Rows beside the model's scores by name, and what it wrote for shuffled images (empty: not asked for)."""

    rows: Mapping[str, Baseline]
    shuffled: Sequence[Report] = ()


NO_ROWS = BaselineRows({})


def predict_studies(
    reporter: Reporter, plan: Evaluation, rank: int = 0, world: int = 1, title: str = "reports"
) -> list[Report]:
    """A report for each study, in order, with a bar of that title on stderr.

    Several processes take a batch each, bring the results together, and go on: all end with all predictions, those of
    one process, and none works on for long after another one has ended.

    Raises:
        InputError: an image cannot be read, or lengths do not fit; in every process.
    """
    count = len(plan.studies)
    loader = StudyLoader(
        StudyDataset(plan.studies, reporter.words, plan.dataset, features=plan.features, blank=plan.blank),
        lambda _: sequential_batches(count, plan.batch_size, rank=rank, world=world),
        reporter.prompts,
        num_workers=plan.num_workers,
        prefetch_factor=plan.prefetch_factor,
    )
    decode = reporter.decode.for_dataset(plan.dataset)
    batches = iter(loader)
    done: list[Report] = []
    with Bar(desc=title, total=count, disable=rank > 0) as bar:
        for first in range(0, -(-count // plan.batch_size), world):
            seeded = replace(decode, decode_seed=decode.decode_seed + first + rank)  # by the batch's place in the set
            following = itertools.islice(batches, 1)  # nothing where the last round has no batch for this process
            mine = agreed(lambda: list(reporter.predict(following, seeded)))  # noqa: B023
            for found in gathered(mine):
                done += found
                bar.update(len(found))
    reporter.log_drafts()
    return done


def check_references(studies: Sequence[Study]) -> None:
    """Refuse, before anything is predicted, what could not be scored.

    Raises:
        InputError: no studies, or one without a reference report.
    """
    without = [study.id for study in studies if not study.report.strip()]
    if without or not studies:
        what = (
            f"{len(without)} studies have no report to score against, first {without[0]}"
            if without
            else "the split has no studies"
        )
        raise InputError(f"`annotation`: {what}")


def patients_of(plan: Evaluation) -> dict[str, str]:
    """The patient of each study where one is known, by the study's id."""
    return {study.id: study.patient for study in plan.studies if study.patient}


def scored(
    predictions: Sequence[Report],
    plan: Evaluation,
    others: BaselineRows,
    missing: Mapping[str, str] | None,
    calibration: Calibration | None,
) -> Scores:
    """The scores of the texts and of what stands beside them, their confidence, and what the films' labels tell.

    Arguments as in `write_evaluation`.
    """
    scores = score(
        {report.id: report.text for report in predictions},
        {study.id: [study.report] for study in plan.studies},
        PROTOCOLS[plan.protocol],
        dataset=plan.dataset,
        train=plan.train_reports or None,
        beside=others.rows,
        missing={**(missing or {}), **({} if plan.train_reports else dict.fromkeys(OF_TRAIN, NO_REPORTS))},
        patients=patients_of(plan),
        choice=plan.choice,
    )
    found = measured_confidence(predictions, plan.studies, calibration)
    if isinstance(found, str):
        scores = replace(scores, not_available={**scores.not_available, "confidence": found})
    else:
        scores = replace(scores, confidence=found)
    return replace(scores, findings=measured_findings(predictions, plan.studies))


def page_rows(predictions: Sequence[Report], plan: Evaluation, scores: Scores, directory: Path) -> list[StudyRow]:
    """What the page shows of each study, with the evidence maps that lie in the directory."""
    evidence = read_evidence(directory / "evidence.jsonl")
    return [
        StudyRow(
            study.id,
            tuple(study.image_paths),
            report,
            {name: float(values[index]) for name, values in scores.per_study.items()},
            evidence.get(study.id),
            study.dicom,
        )
        for index, (study, report) in enumerate(zip(plan.studies, predictions, strict=True))
    ]


def write_evaluation(
    predictions: Sequence[Report],
    plan: Evaluation,
    directory: Path,
    provenance: Mapping[str, str],
    others: BaselineRows = NO_ROWS,
    missing: Mapping[str, str] | None = None,
    calibration: Calibration | None = None,
    maps: Callable[[Scores], Iterable[Evidence]] | None = None,
    spell: Callable[[str], str] = str,
    title: str = "Chest X-ray reports",
) -> Scores:
    """Score, and write predictions.jsonl, scores.json and report.html, each whole.

    What was written for shuffled images goes to predictions-images-shuffled.jsonl, evidence maps to evidence.jsonl;
    where there are none, those of an earlier test are removed. Its scores.json and report.html go first: no kill leaves
    them beside other predictions.

    Args:
        predictions: one for each study of the plan, in order.
        plan: what was predicted and how.
        directory: where the three files go.
        provenance: names and values of how the scores came about: model, its `model_sha256`, data, settings.
        others: further rows of the scores.
        missing: why such a row is not there.
        calibration: by which the predictions' sentences got their confidence; None: they have none.
        maps: makes evidence maps of some studies, which may depend on the scores.
        spell: how settings are named in reasons.
        title: of the page; `page_title` names model and data.
    """
    scores = scored(predictions, plan, others, missing, calibration).spelt(spell)
    for name in ("scores.json", "report.html"):
        (directory / name).unlink(missing_ok=True)
    patients = patients_of(plan)
    for name, several in (("predictions", predictions), ("predictions-images-shuffled", others.shuffled)):
        if several:
            named = (replace(report, patient=patients.get(report.id, "")) for report in several)
            write_predictions(directory / f"{name}.jsonl", named)
        else:
            (directory / f"{name}.jsonl").unlink(missing_ok=True)
    if maps is None:
        (directory / "evidence.jsonl").unlink(missing_ok=True)
    else:
        drawn = list(maps(scores))
        write_evidence(directory / "evidence.jsonl", drawn)
        if boxes := measured_boxes(drawn, plan.studies, plan.kept):
            scores = replace(scores, findings={**(scores.findings or {}), "boxes": boxes})
    provenance = {**provenance, "r2gengpt": __version__}
    content = {**scores.to_json(), "provenance": provenance}
    write_whole(directory / "scores.json", scores_file(content))
    page = report_page(title, page_rows(predictions, plan, scores, directory), content, provenance)
    write_whole(directory / "report.html", page, "output")
    return scores
