"""`r2gengpt score`: two files of texts in, a table or JSON of scores out. No model; imports no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli.bridge import Parser, add_flags, given_values, make, parse
from r2gengpt.config import LENGTHS, check_fields, option
from r2gengpt.errors import InputError

if TYPE_CHECKING:
    from r2gengpt.metrics.protocols import Edit
    from r2gengpt.metrics.records import Scores

PROTOCOL_NAMES = ("clean", "r2gen", "r2gengpt", "ptb", "raw")


@dataclass(frozen=True)
class ScoreConfig:
    """What is scored, and by which convention."""

    predictions: str | None = option(None, "JSON lines, the original's {id: [text]} JSON, or CSV")
    references: str | None = option(
        None, "annotation file, or a format of --predictions; None: the references that --predictions holds"
    )
    split: str = option("test", "split of an annotation file", choices=("train", "val", "test"))
    protocol: str = option("clean", "scoring convention", choices=PROTOCOL_NAMES)
    dataset: str = option("plain", "whose report cleaner; plain: lower case, punctuation apart", choices=tuple(LENGTHS))
    train: str | None = option(None, "annotation file whose train split gives baselines and the r2gen vocabulary")
    tokenizer: str | None = option(None, "protocol r2gengpt: the model's tokenizer.json, or the directory that has it")
    max_length: int | None = option(None, "protocol r2gengpt: tokens of a reference; None: by --dataset", low=1)
    bootstrap: int = option(1000, "resamples for the 95 % intervals; 0: none", low=0, high=100_000)
    seed: int = option(0, "seed of the bootstrap and of the random baselines", low=0)
    format: str = option("text", "output", choices=("text", "json"))

    def __post_init__(self) -> None:
        check_fields(self)


def main(argv: Sequence[str]) -> None:
    """Score two files and print the result."""
    parser = Parser(
        prog="r2gengpt score",
        allow_abbrev=False,
        description="Score generated reports against references: BLEU-1 to 4, ROUGE-L and CIDEr-D under a named "
        "convention, with intervals, and beside them what programs reach that never look at an image.",
    )
    add_flags(parser, [ScoreConfig])
    config = make(ScoreConfig, given_values(parse(parser, argv), [ScoreConfig]))
    scores = run(config)
    if config.format == "json":
        print(json.dumps(scores.to_json(), indent=2, allow_nan=False))
        return
    from r2gengpt.metrics.table import score_table

    print(score_table(scores))


def run(config: ScoreConfig) -> "Scores":
    """Read what the flags name and score it.

    Raises:
        InputError: a flag is missing, or a file or its content is wrong.
    """
    from r2gengpt.evaluation.predictions import read_predictions, read_references, read_train_reports
    from r2gengpt.metrics.protocols import PROTOCOLS
    from r2gengpt.metrics.score import score

    if config.predictions is None:
        raise InputError("--predictions is missing: the file of generated reports")
    references = config.references if config.references is not None else config.predictions
    cut = _truncation(config) if config.protocol == "r2gengpt" else None
    return score(
        read_predictions(Path(config.predictions)),
        read_references(Path(references), config.split),
        PROTOCOLS[config.protocol],
        dataset=config.dataset,
        train=read_train_reports(Path(config.train)) if config.train is not None else None,
        truncate=cut[0] if cut is not None else None,
        truncate_name=cut[1] if cut is not None else "",
        resamples=config.bootstrap,
        seed=config.seed,
        names=(f"--predictions {config.predictions}", f"--references {references}"),
    )


def _truncation(config: ScoreConfig) -> "tuple[Edit, str] | None":
    """How the protocol r2gengpt cuts references, where --tokenizer says with which tokenizer."""
    if config.tokenizer is None:
        return None
    from r2gengpt.metrics.truncation import truncation

    length = config.max_length if config.max_length is not None else LENGTHS[config.dataset][0]
    return truncation(Path(config.tokenizer), length)
