"""A model on a split, by the flags of `test`, and of `train` with --test: reads, scores, writes, prints the table."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import choice_of_model
from r2gengpt.cli.console import flag, return_large_blocks, start_logging
from r2gengpt.config import DataConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.files import check_no_input, check_readable
from r2gengpt.locate import Located, locate_writer
from r2gengpt.options import Override
from r2gengpt.settings import EvidenceConfig, HonestyConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch

    from r2gengpt.confidence.maps import Evidence
    from r2gengpt.data.features.filling import Features
    from r2gengpt.data.study import Study
    from r2gengpt.evaluation.honesty import Honesty
    from r2gengpt.evaluation.rexrank import Records
    from r2gengpt.evaluation.run import Evaluation
    from r2gengpt.metrics.measure import MetricChoice
    from r2gengpt.metrics.records import Scores
    from r2gengpt.processes import Share
    from r2gengpt.report import Report
    from r2gengpt.reporter import Reporter


@dataclass(frozen=True)
class Asked:
    """What is evaluated, and what is measured beside the model.

    Attributes:
        split: of the annotation file.
        model: the checkpoint; None: the one that the training flags name.
        output: where the files go; None: beside the model.
        honesty: rows beside the scores.
        abstain_below: sentences less sure than this are marked.
        maps: evidence maps of some studies.
        details: whether every row is printed.
        rexrank: ReXrank's file of the studies; given, rexrank.json is written.
    """

    split: str = "test"
    model: str | None = None
    output: str | None = None
    honesty: HonestyConfig = HonestyConfig()
    abstain_below: float | None = None
    maps: EvidenceConfig = EvidenceConfig()
    details: bool = False
    rexrank: str | None = None


def in_one_process(options: TrainConfig) -> TrainConfig:
    """The same in one process, which has all devices to spread the model over.

    Raises:
        InputError: several processes are asked for.
    """
    if options.devices not in ("auto", "1") or options.num_nodes != 1:
        asked = f"--devices {options.devices} --num_nodes {options.num_nodes}"
        raise InputError(f"--device_map auto: needs one process over all devices, but {asked} starts several")
    return replace(options, devices="1")


def limited(studies: "tuple[Study, ...]", limit: float, batch_size: int) -> "tuple[Study, ...]":
    """The first share (at most 1.0) or number of batches of the studies, at least one study."""
    count = round(len(studies) * limit) if limit <= 1.0 else int(limit) * batch_size
    return studies[: max(1, count)]


def evaluate(parsed: bridge.Parsed, asked: Asked) -> None:
    """Score a model on a split; `model`, --ckpt_file and --delta_file all name the checkpoint.

    Raises:
        InputError: no checkpoint named, or settings that do not fit it.
    """
    options = parsed.settled(TrainConfig)
    if parsed.values.get("device_map") == "auto":
        options = in_one_process(options)
    name, field = named_model(options, asked.model)
    located = locate_writer(replace(choice_of_model(parsed, name), field=field, abstain_below=asked.abstain_below))
    data, target = data_of(located, parsed), target_of(name, asked)
    check_readable(Path(data.annotation), f"`annotation` {data.annotation}")  # before anything large is loaded
    from r2gengpt.metrics.measure import choose

    choice = choose(labels=True, meteor=asked.honesty.meteor, headline=asked.honesty.headline)
    start_logging()
    return_large_blocks()
    from r2gengpt.cli.shares import shares
    from r2gengpt.evaluation.calibrate import check_calibratable
    from r2gengpt.evaluation.honesty import plan_honesty
    from r2gengpt.evaluation.rexrank import NAME, records_of
    from r2gengpt.metrics.summary import terminal_text

    calibrate = asked.honesty.calibrate
    splits = read_splits(data, options, (asked.split, "val") if calibrate else (asked.split,))
    studies = with_patients(splits[asked.split], asked.honesty.patient_of)
    if calibrate:
        check_calibratable(located.directory, retrieves=located.choice.retrieves)
    honesty = plan_honesty(asked.honesty, data, studies, asked.split)
    records = None
    if asked.rexrank is not None:
        check_no_input(target / NAME, [("rexrank", Path(asked.rexrank))])
        records = records_of(Path(asked.rexrank), studies)
    with shares(options) as share:
        work = EvaluationWork(
            asked,
            located,
            data,
            studies,
            splits["val"] if calibrate else (),
            train_reports(data),
            share,
            choice,
            records,
        )
        scores = work.scores(honesty, target)
    if scores is not None:  # the first process has all predictions, and writes and speaks for all
        print(terminal_text(scores, details=asked.details))
        print(target / "report.html")


@dataclass(frozen=True)
class EvaluationWork:
    """What one process of an evaluation works with.

    `fitted` are the studies that a calibration is fitted on, `records` those of ReXrank's file where one is given.
    """

    asked: Asked
    located: Located
    data: DataConfig
    studies: "Sequence[Study]"
    fitted: "Sequence[Study]"
    reports: "Sequence[str]"
    share: "Share"
    choice: "MetricChoice"
    records: "Records | None" = None

    def scores(self, honesty: "Honesty", target: Path) -> "Scores | None":
        """Write all reports and score them; None in all processes but the first."""
        from r2gengpt.evaluation.calibrate import settled_calibration
        from r2gengpt.evaluation.honesty import nearest_row, text_only_row, with_shuffled_row
        from r2gengpt.evaluation.labelled import plan_labels, with_label_rows
        from r2gengpt.evaluation.page.card import write_card
        from r2gengpt.evaluation.page.page import page_title
        from r2gengpt.evaluation.rexrank import NAME, write_rexrank
        from r2gengpt.evaluation.run import predict_studies, write_evaluation
        from r2gengpt.processes import agreed

        share, directory = self.share, self.located.directory
        reporter = agreed(self.reporter)  # last: it may take minutes
        plan = agreed(lambda: self.plan(reporter, honesty))
        asked = self.asked
        labelled = agreed(lambda: plan_labels(asked.honesty, reporter, self.data, self.studies, asked.split))
        rows = nearest_row(reporter, plan, honesty, share)
        reports = predict_studies(reporter, plan, share.rank, share.world)
        calibration = settled_calibration(reporter, plan, self.fitted, reports, directory, share)
        reporter = replace(reporter, calibration=calibration)
        reports = [reporter.judged(report) for report in reports]
        rows = with_label_rows(rows, reporter, plan, labelled, reports, share)
        rows, no_text = text_only_row(rows, reporter, plan, asked.honesty, share)
        others = with_shuffled_row(rows, reporter, plan, honesty, share)
        if share.rank:
            return None
        found = write_evaluation(
            reports,
            plan,
            target,
            self.provenance(reporter),
            others,
            {**honesty.missing, **labelled.missing, **no_text},
            calibration,
            self.map_maker(reporter, plan, reports),
            flag,
            page_title(self.model_name(), self.data.annotation, asked.split),
        )
        (target / NAME).unlink(missing_ok=True)  # of an earlier test
        if self.records is not None:
            write_rexrank(target / NAME, self.records, reports)
        write_card(target, f"Model card of {self.model_name()}", self.on_card(reporter), self.studies)
        return found

    def on_card(self, reporter: "Reporter") -> dict[str, str]:
        """What the card says of the model and the data."""
        from r2gengpt.evaluation.card import NOT_TOLD, licence_in

        own = self.located.directory / "README.md"
        return {
            **self.provenance(reporter),
            "licence": licence_in(own.read_text(encoding="utf-8")) if own.is_file() else NOT_TOLD,
            "trained on": str(reporter.stored.data.values.get("annotation", NOT_TOLD)),
        }

    def reporter(self) -> "Reporter":
        """The model on this process's device.

        Raises:
            InputError: it cannot be loaded, or has not the maps that are asked for.
        """
        from r2gengpt.locate import TrainTexts
        from r2gengpt.reporter import Reporter

        texts = TrainTexts(self.reports, self.data.dataset, keep=not self.share.rank)
        reporter = Reporter.of(self.located, device=self.share.device, texts=texts)
        if self.asked.maps.evidence:
            reporter.maps.check(self.map_method(reporter))
        return reporter

    def plan(self, reporter: "Reporter", honesty: "Honesty") -> "Evaluation":
        """What is read and how."""
        from r2gengpt.evaluation.run import Evaluation

        data = self.data
        needed = tuple(dict.fromkeys((*self.studies, *self.fitted, *honesty.train)))
        return Evaluation(
            self.studies,
            self.reports,
            data.dataset,
            data.test_batch_size,
            data.num_workers,
            data.prefetch_factor,
            features=stored_features(reporter, data, needed, self.share.device),
            choice=self.choice,
            kept=reporter.maps.box,
        )

    def model_name(self) -> str:
        """What the user calls the model; of the embedded one, its version."""
        name = self.located.choice.name
        return self.located.directory.name if name == "embedded" else name

    def provenance(self, reporter: "Reporter") -> dict[str, str]:
        """How the scores come about, for scores.json, the report page and the card."""
        from r2gengpt.evaluation.card import NOT_TOLD

        parts = reporter.stored.model.values
        return {
            "model": self.model_name(),
            "model_sha256": reporter.origin.model_sha256 or NOT_TOLD,
            "vision encoder": parts["vision_model"],
            "language model": parts["lm_model"],
            "data": f"{self.data.annotation}, split {self.asked.split}, {len(self.studies)} studies",
            "decoding": decoding_of(reporter),
        }

    def map_maker(
        self, reporter: "Reporter", plan: "Evaluation", reports: "Sequence[Report]"
    ) -> "Callable[[Scores], Iterable[Evidence]] | None":
        """What makes the evidence maps of some studies once they are scored, or None where none are asked for."""
        maps = self.asked.maps
        if not maps.evidence:
            return None
        from r2gengpt.data.loading import StudyDataset
        from r2gengpt.evaluation.evidence import chosen_places, evidence_of_studies

        def make(scores: "Scores") -> "Iterable[Evidence]":
            places = chosen_places(scores.per_study["cider"].tolist(), maps.evidence_studies)
            dataset = StudyDataset(plan.studies, reporter.words, plan.dataset)
            texts = [report.text for report in reports]
            return evidence_of_studies(reporter, dataset, texts, places, self.map_method(reporter))

        return make

    def map_method(self, reporter: "Reporter") -> str:
        """How maps are made."""
        return reporter.maps.method(self.asked.maps.evidence_method, quick=False)


def decoding_of(reporter: "Reporter") -> str:
    """How reports are written, in words."""
    if reporter.composer is not None:
        return f"writer retrieve: {reporter.composer.sources}"
    return ", ".join(f"{name} {value}" for name, value in asdict(reporter.decode).items())


def data_of(located: Located, parsed: bridge.Parsed) -> DataConfig:
    """How the studies are read: by the user, over the model's run, with a cache of this command alone.

    Raises:
        InputError: a setting is refused, or the cache cannot be written to.
    """
    from r2gengpt.checkpoint_files import data_of_run
    from r2gengpt.files import check_writable

    names = ("feature_cache", "feature_cache_dtype")
    cache = {name: parsed.values[name] for name in names if name in parsed.values}
    own = Override(DataConfig, {"feature_cache": None, "feature_cache_dtype": "float32", **cache, "augment": False})
    of_run = data_of_run(located.directory, located.choice.field)
    data = DataConfig(**of_run.under(located.stored.data).under(own).values)
    if data.feature_cache is not None:
        check_writable(Path(data.feature_cache), "feature_cache")
    return data


def target_of(name: str, asked: Asked) -> Path:
    """Where the files go.

    Raises:
        InputError: it cannot be written to.
    """
    from r2gengpt.files import check_writable, named_directory

    beside = Path() if name == "embedded" else Path(name).parent if Path(name).is_file() else Path(name)
    target = named_directory(asked.output, "output") if asked.output is not None else beside / f"results-{asked.split}"
    check_writable(target, "output")
    return target


def with_patients(studies: "tuple[Study, ...]", pattern: str | None) -> "tuple[Study, ...]":
    """The studies with the patients that --patient_of finds in their ids, or as they are without it.

    Raises:
        InputError: it is no regular expression, or finds nothing in an id.
    """
    from r2gengpt.evaluation.predictions import patients_by_rule

    if pattern is None:
        return studies
    patients = patients_by_rule([study.id for study in studies], pattern)
    return tuple(replace(study, patient=patients[study.id]) for study in studies)


def read_splits(data: DataConfig, options: TrainConfig, names: tuple[str, ...]) -> "dict[str, tuple[Study, ...]]":
    """The studies of splits as far as --limit_test_batches goes, checked.

    Raises:
        InputError: a split, an image or a reference is missing.
    """
    from r2gengpt.data.annotation import check_images, read_studies
    from r2gengpt.evaluation.run import check_references

    splits = {
        name: limited(studies, options.limit_test_batches, data.test_batch_size)
        for name, studies in read_studies(data, names).items()
    }
    for studies in splits.values():
        check_images(studies)
        check_references(studies)
    return splits


def stored_features(
    reporter: "Reporter", data: DataConfig, studies: "tuple[Study, ...]", device: "torch.device"
) -> "Features | None":
    """The features of the studies' images where a cache is asked for (those missing are built), else None.

    Raises:
        InputError: the directory cannot be written to or has no room, or an image cannot be read.
    """
    if data.feature_cache is None:
        return None
    from r2gengpt.data.study import with_earlier

    if reporter.words.reads_prior:
        studies = tuple(dict.fromkeys(with_earlier(studies)))
    return reporter.features(data, studies, device)


def named_model(options: TrainConfig, model: str | None) -> tuple[str, str]:
    """The checkpoint's name and the setting that gave it.

    Raises:
        InputError: none was named, or two.
    """
    if model is not None and options.start_from is not None:
        raise InputError(f"--model {model} and --ckpt_file {options.start_from} both name the model: give one")
    named = model or options.start_from
    if named is None:
        raise InputError("--ckpt_file is needed: the checkpoint directory, or original .pth, to test (or --model)")
    return named, "ckpt_file" if model is None else "model"


def train_reports(data: DataConfig) -> list[str]:
    """Reports of the same file's train split, for the baselines; none where the file has none there."""
    from r2gengpt.evaluation.predictions import is_label_only, read_train_reports

    train = json.loads(Path(data.annotation).read_text(encoding="utf-8-sig")).get("train") or []
    if isinstance(train, list) and all(isinstance(record, dict) and is_label_only(record) for record in train):
        return []
    return read_train_reports(Path(data.annotation), "annotation")
