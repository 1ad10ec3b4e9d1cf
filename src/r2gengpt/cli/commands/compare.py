"""`r2gengpt compare A B`: two files of predictions for the same studies → differences of scores. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gengpt.cli.bridge import Parser, add_flags, parsed
from r2gengpt.cli.commands.score import ConventionConfig
from r2gengpt.cli.console import flag
from r2gengpt.errors import InputError
from r2gengpt.options import option
from r2gengpt.text.written import json_text

if TYPE_CHECKING:
    from r2gengpt.evaluation.predictions import References
    from r2gengpt.evaluation.results import Results
    from r2gengpt.metrics.compare import Comparison
    from r2gengpt.metrics.records import Signature


@dataclass(frozen=True)
class CompareConfig(ConventionConfig):
    """Against what two systems are compared, and by which convention."""

    swaps: int = option(1000, "swaps of the approximate randomisation; 0: none", low=0, high=100_000, unit="SWAPS")


FLAGS = (CompareConfig,)
COMMON = ("references", "dataset", "protocol", "train", "labels", "bootstrap", "swaps", "format", "patient_of", "split")
"""The flags that most calls need."""


def parser() -> Parser:
    """Flags of the command."""
    made = Parser(
        "r2gengpt compare",
        "The differences of all scores, second minus first, with paired bootstrap intervals and the p of a "
        "paired bootstrap and of approximate randomisation. p are not corrected for the number of metrics.",
        common=COMMON,
        example="r2gengpt compare save/run-1 save/run-2",
    )
    what = "predictions in a format of `score`, or a scores.json, its directory or its run, with predictions beside it"
    made.add_argument("first", metavar="A", help=what)
    made.add_argument("second", metavar="B", help="the same of the other system")
    add_flags(made, FLAGS)
    return made


def main(argv: Sequence[str]) -> None:
    """Compare two files and print the result."""
    flags = parsed(parser(), argv, FLAGS)
    config, space = flags.settled(CompareConfig), flags.space
    comparison = run(space.first, space.second, config, frozenset(flags.values)).spelt(flag)
    if config.format == "json":
        print(json_text(comparison.to_json(), indent=2, ascii_only=True))
        return
    from r2gengpt.metrics.table import comparison_table

    print(comparison_table(comparison, (space.first, space.second)))


def run(first: str, second: str, config: CompareConfig, named: frozenset[str]) -> "Comparison":
    """Read what was named and compare it; `named` are the settings that the user has set.

    Raises:
        InputError: a file or its content is wrong, other studies, or scores of another convention.
    """
    from r2gengpt.evaluation.predictions import read_predictions, read_reference_file, read_scored
    from r2gengpt.evaluation.results import locate_results
    from r2gengpt.metrics.compare import compare
    from r2gengpt.metrics.records import check_comparable

    results = [locate_results(Path(path), name, config.split) for path, name in ((first, "A"), (second, "B"))]
    signatures = [found.signature for found in results if found.signature is not None]
    if len(signatures) == 2:
        check_comparable(*signatures)
    if signatures:
        config = in_convention_of(signatures[0], config, named)
    if config.references is not None:
        ours, theirs = (read_predictions(found.predictions, found.name) for found in results)
        references = read_reference_file(Path(config.references), config.split)
    else:
        read = (read_scored(found.predictions, config.split, found.name) for found in results)
        (ours, in_ours), (theirs, in_theirs) = read
        references = shared_references(results, (in_ours, in_theirs))
    rules = config.rules()
    for signature in signatures:
        check_comparable(signature, rules.signature)
    labels = [f"{found.name} {found.predictions}" for found in results]
    return compare(
        ours,
        theirs,
        references.texts,
        rules,
        choice=config.choice(),
        patients=config.patients(list(references.texts), references.patients),
        resamples=config.bootstrap,
        swaps=config.swaps,
        seed=config.seed,
        names=(labels[0], labels[1], f"--references {config.references}" if config.references else labels[0]),
    )


def in_convention_of(signature: "Signature", config: CompareConfig, named: frozenset[str]) -> CompareConfig:
    """The settings with protocol and data set of stored scores, where the user named no others."""
    stored: dict[str, Any] = {"protocol": signature.protocol}
    if signature.dataset != "none":
        stored["dataset"] = signature.dataset
    return replace(config, **{name: value for name, value in stored.items() if name not in named})


def shared_references(results: "Sequence[Results]", held: "Sequence[References]") -> "References":
    """The references that both files of predictions hold.

    Raises:
        InputError: both files hold references, and not the same ones for a study of both.
    """
    ours, theirs = held
    differ = [study for study, texts in ours.texts.items() if theirs.texts.get(study, texts) != texts]
    if differ:
        raise InputError(
            f"A {results[0].predictions} and B {results[1].predictions} hold different references for {len(differ)} "
            f"studies, first {differ[0]}: name the right ones with --references"
        )
    return ours
