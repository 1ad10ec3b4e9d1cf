"""`r2gengpt review`: what readers made of drafts, from a store of verdicts to a page. Keeps and changes no verdict."""

from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.cli.console import as_flag, start_logging
from r2gengpt.errors import spelt
from r2gengpt.files import check_no_input, check_writable_file
from r2gengpt.settings import VerdictsConfig
from r2gengpt.text.written import json_text

FLAGS = (VerdictsConfig,)
COMMON = ("verdicts", "output", "format", "reference", "reference_drafts", "recent_drafts")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt review",
        "What readers made of drafts: acceptance over time and by subgroup, findings most often corrected, and "
        "whether recent films, drafts and verdicts differ from those of a reference period. The page has counts only.",
        common=COMMON,
        example="r2gengpt review --verdicts verdicts.db --output review.html",
    )
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the first sentence, what needs a look, and the path of the page."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    config = parsed.settled(VerdictsConfig)
    if config.output is not None:
        check_writable_file(Path(config.output), "output")
        store = Path(config.verdicts.removeprefix("sqlite:///"))
        check_no_input(Path(config.output), [("verdicts", store)])
        parsed.check_output(config.output)
    start_logging(libraries=False)
    from r2gengpt.evaluation.page.review import write_review_page
    from r2gengpt.evaluation.page.review_tables import review_lines
    from r2gengpt.verdicts.address import shown_address
    from r2gengpt.verdicts.review.review import stored_review

    found = stored_review(config)
    if config.output is not None:
        write_review_page(Path(config.output), found, shown_address(config.verdicts))
    if config.format == "json":
        print(json_text(found.to_json(), indent=1, ascii_only=True))
        return
    print(*(spelt(line, as_flag) for line in review_lines(found)), sep="\n")
    if config.output is not None:
        print(config.output)
