"""`r2gengpt test`: a trained model on a split of an annotation file → predictions, scores, report page."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.config import (
    DataConfig,
    DecodeConfig,
    EvidenceConfig,
    HonestyConfig,
    ModelConfig,
    PlacementConfig,
    ReviewConfig,
    TrainConfig,
)
from r2gengpt.errors import InputError

CONFIGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig)
BESIDE = (HonestyConfig, ReviewConfig, EvidenceConfig)
"""What is measured beside the model: no setting of it, and not stored with it."""
MOVABLE = ("vision_model", "lm_model")
"""Model settings that may differ from the checkpoint's: where the parts lie."""


def merge_settings(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The stored settings with what the user gave on top; model flags may not contradict what was trained.

    Raises:
        InputError: a model flag differs from the checkpoint's value; both are named.
    """
    for f in fields(ModelConfig):
        if f.name in given and f.name in stored and f.name not in MOVABLE and given[f.name] != stored[f.name]:
            raise InputError(f"--{f.name} {given[f.name]}: the checkpoint was trained with {stored[f.name]}")
    return {**stored, **given}


def main(argv: list[str]) -> None:
    """Parse and run; prints the score table and the path of the page."""
    parser = bridge.Parser(prog="r2gengpt test", allow_abbrev=False, description=__doc__)
    bridge.add_flags(parser, (*CONFIGS, *BESIDE))
    parser.add_argument("--model", metavar="DIR", help="trained model: a checkpoint or run directory, or embedded")
    parser.add_argument("--split", default="test", choices=("test", "val", "train"), help="which split to score")
    parser.add_argument("--output", metavar="DIR", help="where the files go (default: results-SPLIT beside the model)")
    space = bridge.parse(parser, argv)
    given = bridge.given_values(space, (*CONFIGS, *BESIDE))
    asked, review = bridge.make(HonestyConfig, given), bridge.make(ReviewConfig, given)
    maps = bridge.make(EvidenceConfig, given)
    for name in ("evidence_studies", "evidence_method"):
        if name in given and not maps.evidence:
            raise InputError(f"--{name} {given[name]} belongs to --evidence True: give that")
    given = {name: value for name, value in given.items() if name not in {**vars(asked), **vars(review), **vars(maps)}}
    evaluate_given(given, space.split, space.model, space.output, asked, review, maps)


def evaluate_given(
    given: dict[str, Any],
    split: str,
    model: str | None = None,
    output: str | None = None,
    asked: HonestyConfig | None = None,
    review: ReviewConfig | None = None,
    maps: EvidenceConfig | None = None,
) -> None:
    """Score a model on a split by flags; `model`, --ckpt_file and --delta_file all name the checkpoint.

    Raises:
        InputError: no checkpoint named, or settings that do not fit it.
    """
    from r2gengpt.cli.console import return_large_blocks, start_logging

    start_logging()
    return_large_blocks()
    from r2gengpt.build import place
    from r2gengpt.checkpoint import data_of_run
    from r2gengpt.cli.models import index_for, load_model, locate_model, shares
    from r2gengpt.data.files import check_writable, named_directory
    from r2gengpt.evaluation.calibrate import check_calibratable, settled_calibration
    from r2gengpt.evaluation.honesty import nearest_row, plan_honesty, with_shuffled_row
    from r2gengpt.evaluation.run import Evaluation, predict_studies, write_evaluation
    from r2gengpt.generation.confidence import with_confidence
    from r2gengpt.generation.decoding import decodings
    from r2gengpt.generation.evidence import check_method
    from r2gengpt.generation.gather import agreed
    from r2gengpt.metrics.table import score_table

    options = bridge.make(TrainConfig, given)
    if given.get("device_map") == "auto":
        options = in_one_process(options)
    named, flag = named_model(options, model)
    asked, below = asked or HonestyConfig(), (review or ReviewConfig()).abstain_below
    directory, settings = locate_model(named, flag, given)
    settings = {**data_of_run(directory, flag), **settings}
    data = bridge.make(DataConfig, {**settings, **own_cache(given)})
    beside = Path() if named == "embedded" else Path(named).parent if Path(named).is_file() else Path(named)
    target = named_directory(output, "--output") if output is not None else beside / f"results-{split}"
    check_writable(target, "--output")
    if data.feature_cache is not None:
        check_writable(Path(data.feature_cache), "--feature_cache")
    splits = read_splits(data, options, (split, "val") if asked.calibrate else (split,))
    studies, fitted = with_patients(splits[split], asked.patient_of), splits["val"] if asked.calibrate else ()
    if asked.calibrate:
        check_calibratable(directory)
    honesty = plan_honesty(asked, data, studies, split)
    reports = train_reports(data)
    with shares(options) as share:
        built, settings, directory = agreed(lambda: load_model(named, flag, given))  # last: it may take minutes
        place(built.model, share.device, settings.get("quantization", "none"))
        if maps is not None and maps.evidence:
            agreed(lambda: check_method(built.model, maps.evidence_method))
        decode = decodings(settings, given, directory).whole
        reading = data.num_workers, data.prefetch_factor
        needed = tuple(dict.fromkeys((*studies, *fitted, *honesty.train)))
        features = agreed(lambda: stored_features(built, data, needed, share.device))
        how = {"features": features, "meteor": asked.meteor}
        plan = Evaluation(studies, reports, data.dataset, decode, data.test_batch_size, *reading, **how)
        if decode.speculate:
            index = agreed(lambda: index_for(built, directory, reports, data.dataset, keep=not share.rank))
            plan = replace(plan, index=index)
        rows = nearest_row(built, plan, honesty, share)
        predictions = predict_studies(built, plan, share.rank, share.world)
        calibration = settled_calibration(built, plan, fitted, predictions, directory, share, below)
        predictions = [with_confidence(prediction, calibration, below) for prediction in predictions]
        others = with_shuffled_row(rows, built, plan, honesty, share)
        if share.rank:  # the first process has all predictions, and writes and speaks for all
            return
        data_name = f"{data.annotation}, split {split}, {len(studies)} studies"
        provenance = provenance_of(directory.name if named == "embedded" else named, settings, data_name, decode)
        drawn = map_maker(maps, built, plan, predictions)
        scores = write_evaluation(predictions, plan, target, provenance, others, honesty.missing, calibration, drawn)
    print(score_table(scores))
    print(target / "report.html")


def provenance_of(name: str, settings: Mapping[str, Any], data: str, decode: DecodeConfig) -> dict[str, str]:
    """What the report page says of how its scores came about."""
    return {
        "model": name,
        "vision encoder": settings["vision_model"],
        "language model": settings["lm_model"],
        "data": data,
        "decoding": ", ".join(f"{f.name} {getattr(decode, f.name)}" for f in fields(DecodeConfig)),
    }


def with_patients(studies: tuple[Any, ...], pattern: str | None) -> tuple[Any, ...]:
    """The studies with the patients that --patient_of finds in their ids, or as they are without it.

    Raises:
        InputError: it is no regular expression, or finds nothing in an id.
    """
    from r2gengpt.evaluation.predictions import patients_by_rule

    if pattern is None:
        return studies
    patients = patients_by_rule([study.id for study in studies], pattern)
    return tuple(replace(study, patient=patients[study.id]) for study in studies)


def map_maker(maps: EvidenceConfig | None, built: Any, plan: Any, predictions: Any) -> Any:
    """What makes the evidence maps of some studies once they are scored, or None where none are asked for."""
    if maps is None or not maps.evidence:
        return None
    from r2gengpt.data.loading import StudyDataset
    from r2gengpt.evaluation.evidence import chosen_places, evidence_of_studies

    def make(scores: Any) -> Any:
        places = chosen_places(scores.per_study["cider"], maps.evidence_studies)
        dataset = StudyDataset(plan.studies, built.processor, plan.dataset, features=plan.features)
        reports = [prediction.prediction for prediction in predictions]
        return evidence_of_studies(built, dataset, reports, places, maps.evidence_method)

    return make


def read_splits(data: DataConfig, options: TrainConfig, names: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    """The studies of splits as far as --limit_test_batches goes, checked.

    Raises:
        InputError: a split, an image or a reference is missing.
    """
    from r2gengpt.data.annotation import check_images, read_annotation
    from r2gengpt.data.containers import DicomChoice
    from r2gengpt.evaluation.run import check_references

    dicom = DicomChoice(data.frame, data.force, data.mixed_patients)
    splits = {
        name: limited(studies, options.limit_test_batches, data.test_batch_size)
        for name, studies in read_annotation(data.annotation, data.base_dir, names, dicom=dicom).items()
    }
    for studies in splits.values():
        check_images(studies)
        check_references(studies)
    return splits


def own_cache(given: Mapping[str, Any]) -> dict[str, Any]:
    """The cache that this command was given, not the training run's; and nothing is augmented in a test."""
    cache = {name: given[name] for name in ("feature_cache", "feature_cache_dtype") if name in given}
    return {"feature_cache": None, "feature_cache_dtype": "float32", **cache, "augment": False}


def stored_features(built: Any, data: DataConfig, studies: tuple[Any, ...], device: Any) -> Any:
    """The features of the studies' images where a cache is asked for (those missing are built), else None.

    Raises:
        InputError: the directory cannot be written to or has no room, or an image cannot be read.
    """
    if data.feature_cache is None:
        return None
    from r2gengpt.data.feature_filling import cached_features

    threads = max(1, data.num_workers)
    where = data.feature_cache, data.feature_cache_dtype
    return cached_features(*where, built.model, built.processor, studies, device=device, threads=threads)


def in_one_process(options: TrainConfig) -> TrainConfig:
    """The same in one process, which has all devices to spread the model over.

    Raises:
        InputError: several processes are asked for.
    """
    if options.devices not in ("auto", "1") or options.num_nodes != 1:
        asked = f"--devices {options.devices} --num_nodes {options.num_nodes}"
        raise InputError(f"--device_map auto: needs one process over all devices, but {asked} starts several")
    return replace(options, devices="1")


def named_model(options: TrainConfig, model: str | None) -> tuple[str, str]:
    """The checkpoint's name and the flag that gave it.

    Raises:
        InputError: none was named, or two.
    """
    if model is not None and options.start_from is not None:
        raise InputError(f"--model {model} and --ckpt_file {options.start_from} both name the model: give one")
    named = model or options.start_from
    if named is None:
        raise InputError("--ckpt_file is needed: the checkpoint directory, or original .pth, to test (or --model)")
    return named, "--ckpt_file" if model is None else "--model"


def limited(studies: tuple[Any, ...], limit: float, batch_size: int) -> tuple[Any, ...]:
    """The first share (at most 1.0) or number of batches of the studies, at least one study."""
    count = round(len(studies) * limit) if limit <= 1.0 else int(limit) * batch_size
    return studies[: max(1, count)]


def train_reports(data: DataConfig) -> list[str]:
    """Reports of the same file's train split, for the baselines; none where the file has no such split."""
    import json

    from r2gengpt.evaluation.predictions import read_train_reports

    content = json.loads(Path(data.annotation).read_text(encoding="utf-8-sig"))
    return read_train_reports(Path(data.annotation), "--annotation") if content.get("train") else []
