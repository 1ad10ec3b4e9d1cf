"""`r2gengpt label`: what reports say of the 14 observations, as a CSV in CheXpert's form. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.cli.bridge import Parser, add_flags, parsed
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable_file
from r2gengpt.options import Checked, option


@dataclass(frozen=True)
class LabelConfig(Checked):
    """Whose reports are read, by what, and where the labels go."""

    predictions: str | None = option(None, "generated reports: JSON lines, {id: [text]} JSON, or CSV", unit="FILE")
    references: str | None = option(
        None, "instead: an annotation file, or the references in a file of predictions", unit="FILE"
    )
    split: str | None = option(
        None, "split of an annotation file; None: test, where it is one", choices=("train", "val", "test")
    )
    output: str = option("labels.csv", "CSV to write: 1 present, 0 absent, -1 uncertain, blank", unit="FILE")
    labeler: str = option(
        "rules",
        "rules; chexbert: by RadEval (the extra clinical), which leaves absent blank",
        choices=("rules", "chexbert"),
    )

    def reports(self) -> dict[str, str]:
        """Study id → report; several references of a study are read as one.

        Raises:
            InputError: neither file or both are named, or one cannot be read.
        """
        from r2gengpt.evaluation.predictions import read_predictions, read_references

        if self.predictions is not None and self.references is None:
            if self.split is not None:
                raise InputError("has no effect: `predictions` have no splits", field="split", value=self.split)
            return read_predictions(Path(self.predictions))
        if self.references is not None and self.predictions is None:
            found = read_references(Path(self.references), self.split)
            return {study: "\n".join(texts) for study, texts in found.items()}
        raise InputError("name --predictions or --references, one of them: the file of reports to label")


FLAGS = (LabelConfig,)
COMMON = ("predictions", "references", "split", "output", "labeler")
"""The flags that most calls need."""


def parser() -> Parser:
    """Flags of the command."""
    made = Parser(
        "r2gengpt label",
        "Write what reports say of CheXpert's 14 observations, a row a study, as CheXpert's own files do.",
        common=COMMON,
        example="r2gengpt label --predictions predictions.jsonl --output labels.csv",
    )
    add_flags(made, FLAGS)
    return made


def main(argv: Sequence[str]) -> None:
    """Parse, label, write; prints the path of the file."""
    flags = parsed(parser(), argv, FLAGS)
    config = flags.settled(LabelConfig)
    output = Path(config.output)
    check_writable_file(output, "output")
    flags.check_output(config.output, "predictions", "references")
    from r2gengpt.evaluation.label_file import labels_of, write_labels

    write_labels(output, labels_of(config.reports(), config.labeler))
    print(config.output)
