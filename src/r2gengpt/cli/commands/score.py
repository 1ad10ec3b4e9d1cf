"""`r2gengpt score`: two files of texts in, a table or JSON of scores out. No model; imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli.bridge import Parser, add_flags, parsed
from r2gengpt.cli.console import flag
from r2gengpt.config import LENGTHS
from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option
from r2gengpt.settings import METEOR_NAMES
from r2gengpt.text.written import json_text

if TYPE_CHECKING:
    from r2gengpt.metrics.measure import MetricChoice
    from r2gengpt.metrics.protocols import BoundProtocol, Edit
    from r2gengpt.metrics.records import Scores

PROTOCOL_NAMES = ("clean", "r2gen", "r2gengpt", "ptb", "raw")
CLINICAL_NAMES = (
    "bertscore", "radeval_bertscore", "radgraph", "green", "ratescore", "crimson", "f1chexbert", "radcliq", "srrbert",
)  # fmt: skip


@dataclass(frozen=True)
class ConventionConfig:
    """Against what texts are scored, and by which convention."""

    references: str | None = option(
        None,
        "annotation file, or a format of the predictions; None: the references that the predictions' file holds",
        unit="FILE",
    )
    split: str | None = option(
        None, "split of an annotation file; None: test, where it is one", choices=("train", "val", "test")
    )
    protocol: str = option("clean", "scoring convention", choices=PROTOCOL_NAMES)
    dataset: str = option("plain", "whose report cleaner; plain: lower case, punctuation apart", choices=tuple(LENGTHS))
    train: str | None = option(
        None, "annotation file whose train split gives baselines and the r2gen vocabulary", unit="FILE"
    )
    tokenizer: str | None = option(
        None, "protocol r2gengpt: the model's tokenizer.json, or the directory that has it", unit="PATH"
    )
    max_length: int | None = option(
        None, "protocol r2gengpt: tokens of a reference; None: by --dataset", low=1, unit="TOKENS"
    )
    meteor: str = option(
        "python",
        "python: METEOR 1.5 (the extra metrics); jar: the same by its jar, which needs Java and seconds to start",
        choices=METEOR_NAMES,
    )
    patient_of: str | None = option(
        None,
        "regular expression that finds the patient in a study's id (its first group, or all of it): patients are "
        "resampled then; None: the patient or subject_id that the references' file names, if any",
        unit="REGEX",
    )
    labels: bool = option(False, "clinical labels by rules too")
    clinical: tuple[str, ...] = option(
        (), f"metrics by models through RadEval (the extra clinical), of {', '.join(CLINICAL_NAMES)}", unit="METRIC"
    )
    bootstrap: int = option(1000, "resamples for the 95 % intervals; 0: none", low=0, high=100_000, unit="RESAMPLES")
    seed: int = option(0, "seed of the resamples and of the random baselines", low=0, unit="SEED")
    format: str = option("text", "output", choices=("text", "json"))

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.clinical:
            if name not in CLINICAL_NAMES:
                raise InputError(f"--clinical {name}: choose from {', '.join(CLINICAL_NAMES)}")

    def truncation(self) -> "tuple[Edit | None, str]":
        """How the protocol r2gengpt cuts references, where --tokenizer says with which tokenizer, and its name.

        Raises:
            InputError: a tokenizer or a length for a protocol that cuts nothing.
        """
        if self.protocol != "r2gengpt":
            for name, value in (("tokenizer", self.tokenizer), ("max_length", self.max_length)):
                if value is not None:
                    raise InputError(f"has no effect: `protocol` {self.protocol} cuts nothing", field=name, value=value)
        if self.tokenizer is None:
            return None, ""
        from r2gengpt.metrics.protocols import truncation

        length = self.max_length if self.max_length is not None else LENGTHS[self.dataset][0]
        return truncation(Path(self.tokenizer), length)

    def train_reports(self) -> list[str] | None:
        """The reports of --train, where it is given."""
        from r2gengpt.evaluation.predictions import read_train_reports

        return read_train_reports(Path(self.train)) if self.train is not None else None

    def rules(self) -> "BoundProtocol":
        """The protocol with all that it needs.

        Raises:
            InputError: it lacks something, or a file or its content is wrong.
        """
        from r2gengpt.metrics.protocols import PROTOCOLS, bind

        cut, name = self.truncation()
        protocol = PROTOCOLS[self.protocol]
        return bind(protocol, self.dataset, train=self.train_reports(), truncate=cut, truncate_name=name)

    def choice(self) -> "MetricChoice":
        """What is measured."""
        return self._chosen(None)

    def _chosen(self, headline: str | None) -> "MetricChoice":
        from r2gengpt.metrics.measure import choose

        return choose(labels=self.labels, meteor=self.meteor, clinical=self.clinical, headline=headline)

    def patients(self, studies: Sequence[str], named: Mapping[str, str]) -> Mapping[str, str]:
        """Study id → patient: by --patient_of, or those that the file names."""
        from r2gengpt.evaluation.predictions import patients_by_rule

        return named if self.patient_of is None else patients_by_rule(studies, self.patient_of)


@dataclass(frozen=True)
class ScoreConfig(ConventionConfig):
    """What is scored, and by which convention."""

    headline: str | None = option(
        None,
        "metric that the verdict rests on; to be named before the first look; None: label F1, CIDEr-D or ROUGE-L, "
        "the first that is measured",
        unit="METRIC",
    )
    predictions: str | None = option(None, "JSON lines, the original's {id: [text]} JSON, or CSV", unit="FILE")
    details: bool = option(False, "every baseline and label average too, in a table wider than 100 columns")

    def choice(self) -> "MetricChoice":
        """What is measured, and by which of it the verdict is."""
        return self._chosen(self.headline)


FLAGS = (ScoreConfig,)
COMMON = (
    "predictions", "references", "dataset", "protocol", "train",
    "labels", "details", "format", "bootstrap", "patient_of",
)  # fmt: skip
"""The flags that most calls need."""


def parser() -> Parser:
    """Flags of the command."""
    made = Parser(
        "r2gengpt score",
        "Score generated reports against references: BLEU-1 to 4, ROUGE-L, CIDEr-D and METEOR under a named "
        "convention, with intervals, and beside them what programs reach that never look at an image.",
        common=COMMON,
        example="r2gengpt score --predictions predictions.jsonl --references annotation.json",
    )
    add_flags(made, FLAGS)
    return made


def main(argv: Sequence[str]) -> None:
    """Score two files and print the result."""
    config = parsed(parser(), argv, FLAGS).settled(ScoreConfig)
    scores = run(config).spelt(flag)
    if config.format == "json":
        print(json_text(scores.to_json(), indent=2, ascii_only=True))
        return
    from r2gengpt.metrics.summary import terminal_text

    print(terminal_text(scores, details=config.details))


def run(config: ScoreConfig) -> "Scores":
    """Read what the flags name and score it.

    Raises:
        InputError: a flag is missing, or a file or its content is wrong.
    """
    from r2gengpt.evaluation.predictions import read_predictions, read_reference_file, read_scored
    from r2gengpt.metrics.protocols import PROTOCOLS
    from r2gengpt.metrics.score import score

    if config.predictions is None:
        raise InputError("--predictions is missing: the file of generated reports")
    cut, cut_name = config.truncation()
    if config.references is None:
        field, source = "predictions", config.predictions
        predictions, references = read_scored(Path(source), config.split)
    else:
        field, source = "references", config.references
        references = read_reference_file(Path(source), config.split)
        predictions = read_predictions(Path(config.predictions))
    return score(
        predictions,
        references.texts,
        PROTOCOLS[config.protocol],
        dataset=config.dataset,
        train=config.train_reports(),
        truncate=cut,
        truncate_name=cut_name,
        choice=config.choice(),
        patients=config.patients(list(references.texts), references.patients),
        resamples=config.bootstrap,
        seed=config.seed,
        names=(f"--predictions {config.predictions}", f"--{field} {source}"),
    )
