"""`r2gengpt doctor`: what is installed here, what will be slow and why, and what mends it. Changes nothing."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from r2gengpt.cli import bridge
from r2gengpt.cli.advice import Advice, advice
from r2gengpt.cli.surroundings import Surroundings, look_around
from r2gengpt.errors import RunError
from r2gengpt.text.written import json_text

WIDTH = 100


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt doctor",
        "Versions, extras, devices and caches; then what will be slow or will not work here, why, and the command "
        "that mends it. Exit code 1: a package that every command needs is missing or too old.",
        example="r2gengpt doctor",
    )
    made.add_argument("--format", default="text", choices=("text", "json"), help="what is printed (default: text)")
    return made


def main(argv: list[str]) -> None:
    """Parse, look and print.

    Raises:
        RunError: what every command needs is not there.
    """
    form = bridge.parse(parser(), argv).format
    here = look_around()
    found = advice(here)
    if form == "json":
        print(json_text({**asdict(here), "advice": [asdict(one) for one in found]}, indent=1, ascii_only=True))
    else:
        print("\n".join([*inventory(here), "", *advice_lines(found)]))
    if here.wrong or here.torch.fault:
        raise RunError(f"does not run here: {', '.join(here.wrong) or 'torch'}")


def row(title: str, *words: str) -> Iterator[str]:
    """A title and its text, which keeps to its column."""
    text = ", ".join(filter(None, words)) or "none"
    yield from textwrap.wrap(f"{title:<10}{text}", WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False)


def inventory(here: Surroundings) -> Iterator[str]:
    """What is there."""
    program, python, system = here.versions
    yield from row("r2gengpt", f"{program}, Python {python}, {system}")
    yield from row("machine", f"{here.machine.words}; {here.machine.processor}")
    yield from row("packages", *(f"{name} {version}" for name, version in here.packages.items()))
    yield from row("extras", *(name for name, missing in here.extras.items() if not missing))
    yield from row("", *(f"{name} lacks {' '.join(missing)}" for name, missing in here.extras.items() if missing))
    yield from row(
        "embedded", f"{here.cache.fault or 'here'} ({here.cache.directory}, {here.cache.free / 1e9:.1f} GB free)"
    )
    yield from row("hub", f"{', '.join(here.hub.models) or 'no model'} ({here.hub.directory})")


def advice_lines(found: Sequence[Advice]) -> Iterator[str]:
    """What to know, each with its reason and its remedy."""
    if not found:
        yield "Nothing is slow or missing."
        return
    yield "What is slow or does not work here, why, and what mends it:"
    for one in found:
        yield from textwrap.wrap(f"- {one.what}: {one.why}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        yield f"    {one.mend}"
