"""`r2gengpt results`: scores of tests side by side, published figures beside those measured alike. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.files import check_no_input, check_writable_file
from r2gengpt.options import Checked, option
from r2gengpt.text.written import json_text


@dataclass(frozen=True)
class ResultsConfig(Checked):
    """What stands beside the scores, and where it goes."""

    output: str | None = option("results.html", "page to write; None: no page", unit="FILE")
    format: str = option("text", "what is printed", choices=("text", "json"))
    split: str = option("test", "whose results of a run are taken", choices=("test", "val", "train"))
    published: str | None = option(
        None, "JSON of published figures; None: those that come with the program", unit="FILE"
    )


FLAGS = (ResultsConfig,)
COMMON = ("output", "format", "split", "published")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt results",
        "Scores of several tests side by side, mean and sd over seeds, and published figures beside them where "
        "signature and number of studies are equal; the others apart, with the reason.",
        common=COMMON,
        example="r2gengpt results save/iu save/more/results-test --output results.html",
    )
    what = "scores.json, its directory, a run with results-test in it, or a directory of `train` --seeds"
    made.add_argument("results", metavar="PATH", nargs="+", help=what.replace("`train`", "train"))
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the tables, and the path of the page."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    config = parsed.settled(ResultsConfig)
    if config.output is not None:
        check_writable_file(Path(config.output), "output")
        parsed.check_output(config.output, "published")
    from r2gengpt.evaluation.collected import collected, files_of, read_ours
    from r2gengpt.evaluation.page.results import result_lines, write_results_page
    from r2gengpt.evaluation.published import read_published

    if config.output is not None:
        read = [file for path in parsed.space.results for file in files_of(Path(path), config.split)]
        check_no_input(Path(config.output), [("results", file) for file in read])
    published = read_published(None if config.published is None else Path(config.published))
    found = collected([read_ours(Path(path), config.split) for path in parsed.space.results], published)
    if config.output is not None:
        write_results_page(Path(config.output), found)
    if config.format == "json":
        print(json_text(found.to_json(), indent=1, ascii_only=True))
        return
    print(*result_lines(found), sep="\n")
    if config.output is not None:
        print(config.output)
