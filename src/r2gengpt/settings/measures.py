"""How models are measured. Measures nothing."""

from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import Checked, check_fields, option


@dataclass(frozen=True)
class SeedsConfig(Checked):
    """How many whole runs a training is."""

    seeds: int = option(
        1,
        "whole runs, with consecutive seeds from `seed` on, each in a directory seed-N of `savedmodel_path`; "
        "summary.json there has mean and sd of their scores. What is finished is not run again",
        low=1,
        high=100,
        unit="RUNS",
    )


METEOR_NAMES = ("python", "jar", "none")


@dataclass(frozen=True)
class HonestyConfig(Checked):
    """What a test measures beside the model."""

    shuffle_images: bool = option(
        False, "write a second time, with images shuffled between studies: the difference is the grounding gap"
    )
    nearest_image: str = option(
        "auto",
        "baseline: the training report whose images are nearest; auto: with `feature_cache`, or where there are at "
        "most 5,000 training images to read",
        choices=("auto", "True", "False"),
    )
    nearest_labels: str = option(
        "auto",
        "baseline: the training report whose labels are nearest to what the finding head sees; auto: where they are "
        "given, or at most 5,000 training reports are to be read for them",
        choices=("auto", "True", "False"),
    )
    oracle_hint: str = option(
        "auto",
        "ceiling: write a second time, with the true labels in the hint; auto: for at most 1,000 studies",
        choices=("auto", "True", "False"),
    )
    text_only: str = option(
        "auto",
        "baseline: write a second time, with grey in place of the films; auto: of a model trained with `context`",
        choices=("auto", "True", "False"),
    )
    meteor: str = option(
        "python",
        "python: METEOR 1.5 (the extra metrics); jar: the same by its jar, which needs Java and seconds to start",
        choices=METEOR_NAMES,
    )
    headline: str | None = option(
        None,
        "metric that the verdict rests on, as side_f1; to be named before the first test; None: label F1",
        unit="METRIC",
    )
    calibrate: bool = option(
        False,
        "fit the confidence of sentences on the val split first, and keep it beside the weights, in calibration.json",
    )
    patient_of: str | None = option(
        None,
        "regular expression that finds the patient in a study's id (its first group, or all of it): patients are "
        "resampled then; None: the patient or subject_id that the annotation names, if any",
        unit="REGEX",
    )


@dataclass(frozen=True)
class AuditConfig:
    """Which studies an audit asks about, and whom."""

    annotation: str = option("", "annotation file, with labels or reports that tell them", unit="FILE")
    base_dir: str = option("", "what its image paths are relative to", unit="DIR")
    split: str = option("test", "which split", choices=("test", "val", "train"))
    output: str = option("audit", "where answers.jsonl, audit.json and audit.html go; started again, it goes on",
                         unit="DIR")  # fmt: skip
    sources: tuple[str, ...] = option((), "only studies of these sources; none: all", unit="SOURCE")
    studies: int = option(
        100, "how many are drawn, from each source and finding in turn; each is asked about up to ten times",
        low=2, high=100_000, unit="STUDIES",
    )  # fmt: skip
    seed: int = option(0, "seed of what is drawn", low=0, unit="SEED")
    endpoint: str | None = option(
        None,
        "an OpenAI-compatible server in place of a model, as http://host:8000/v1: films are sent there",
        unit="URL",
    )
    endpoint_model: str | None = option(None, "the model's name there", unit="NAME")
    endpoint_prompt: str = option(
        "Generate a comprehensive and detailed diagnosis report for this chest xray image.",
        "what it is asked for",
        unit="TEXT",
    )
    endpoint_key: str = option("OPENAI_API_KEY", "environment variable that holds its key", unit="VARIABLE")
    endpoint_timeout: float = option(120.0, "seconds that an answer may take", above=0.0, unit="SECONDS")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("annotation", "base_dir", "output"):
            if not getattr(self, name).strip():
                raise InputError(f"`{name}` is missing: name a {'file' if name == 'annotation' else 'directory'}")
        if (self.endpoint is None) is not (self.endpoint_model is None):
            raise InputError("`endpoint` and `endpoint_model` belong together: give both, or a `model`")
