"""What `--help` prints: the common flags explained and the others by name, or all of them. Parses no flag's value."""

import argparse
import copy
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from r2gengpt.cli.bridge import DEFAULT, ONE_OF
from r2gengpt.errors import InputError

LINES = 60
"""The most lines of the first page, 80 columns wide."""
ALL = "all"
Chosen = Callable[[argparse.Action], bool]


class Formatter(argparse.HelpFormatter):
    """A line begins with a flag's first spelling and what its value is."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=30, **options)

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if action.metavar is None and action.choices is not None:
            return lambda size: ("|".join(map(str, action.choices or ())),) * size
        return super()._metavar_formatter(action, default_metavar)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        value = self._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
        if not action.option_strings:
            return value
        shown = "-h, --help" if action.dest == "help" else action.option_strings[0]
        return f"{shown} {value}".rstrip()


def page(parser: argparse.ArgumentParser, word: str | None = None) -> str:
    """The help of a command: the first page, all flags, or those with a word in their names.

    Raises:
        InputError: no flag has the word in its name.
    """
    if word == ALL:
        return whole(parser, lambda action: True)
    if word is not None:
        wanted = word.lstrip("-").replace("-", "_")
        chosen: Chosen = lambda action: any(wanted in name.replace("-", "_") for name in action.option_strings)  # noqa: E731
        if not any(map(chosen, parser._actions)):
            words = f"no flag of {parser.prog} has that in its name ({ALL}: every flag)"
            raise InputError(words, field="help", value=word)
        return whole(parser, chosen)
    text = whole(parser, lambda action: True)
    if len(text.splitlines()) <= LINES or not common_of(parser):
        return text
    return first_page(parser)


def common_of(parser: argparse.ArgumentParser) -> tuple[str, ...]:
    """The flags that most calls of a command need, first things first."""
    found: tuple[str, ...] = getattr(parser, "common", ())
    return found


def first_page(parser: argparse.ArgumentParser) -> str:
    """Common flags explained, the others by name; names are cut short where they would fill more than `LINES`."""
    begin = opening(parser)
    for most in range(12, 0, -1):
        text = "\n".join([begin, *others(parser, most)])
        if len(text.splitlines()) <= LINES:
            break
    return text


def opening(parser: argparse.ArgumentParser) -> str:
    """Usage, what the command does, an example, its arguments and its common flags."""
    named = {action.dest: action for action in parser._actions}
    formatter = start(parser)
    formatter.start_section("arguments")
    formatter.add_arguments([action for action in parser._actions if is_needed(action)])
    formatter.end_section()
    formatter.start_section("common flags")
    formatter.add_arguments([brief(named[name]) for name in common_of(parser) if not is_needed(named[name])])
    formatter.end_section()
    return formatter.format_help()


def brief(action: argparse.Action) -> argparse.Action:
    """A flag with the first clause of its help, its words and its default."""
    shown = copy.copy(action)
    text, separator, default = str(action.help).partition(DEFAULT)
    first, *rest = text.split("; ")
    shown.help = "; ".join([first, *(clause for clause in rest if clause.startswith(ONE_OF))]) + separator + default
    return shown


def whole(parser: argparse.ArgumentParser, chosen: Chosen) -> str:
    """All chosen flags, by group, the common ones first."""
    named = {action.dest: action for action in parser._actions}
    common = [named[name] for name in common_of(parser)]
    needed = [action for action in parser._actions if is_needed(action)]
    formatter = start(parser)
    first = [action for action in common if action not in needed]
    groups = [("arguments", needed), ("common flags", first)]
    for group in parser._action_groups:
        rest = [action for action in group._group_actions if action not in (*common, *needed)]
        groups.append(("further flags" if group.title in TITLES else str(group.title), rest))
    for title, actions in groups:
        if kept := [action for action in actions if chosen(action)]:
            formatter.start_section(title)
            formatter.add_arguments(kept)
            formatter.end_section()
    return formatter.format_help().rstrip()


TITLES = ("options", "positional arguments")
"""The names of argparse's own groups."""


def is_needed(action: argparse.Action) -> bool:
    """Whether a command does nothing without the argument."""
    return action.required or not action.option_strings


def start(parser: argparse.ArgumentParser) -> argparse.HelpFormatter:
    """A page that has the usage, what the command does, and an example."""
    formatter = Formatter(parser.prog)
    needed = [formatter._format_action_invocation(action) for action in parser._actions if is_needed(action)]
    formatter.add_usage(" ".join([parser.prog, *needed, "[FLAG VALUE ...]"]).replace("%", "%%"), [], [])
    formatter.add_text(parser.description)
    if example := getattr(parser, "example", ""):
        formatter.start_section("example")
        formatter.add_text(example)
        formatter.end_section()
    return formatter


def others(parser: argparse.ArgumentParser, most: int) -> Iterator[str]:
    """Lines of the flags that are not explained on the first page, by group, at most so many lines a group."""
    width = Formatter(parser.prog)._width
    explained = {*common_of(parser), "help"}
    where = f"further flags; --help {ALL} explains them, --help WORD those so named"
    yield from textwrap.wrap(f"{where}:", width)
    for group in parser._action_groups:
        names = [a.dest for a in group._group_actions if a.dest not in explained and not is_needed(a)]
        if not names:
            continue
        if group.title not in TITLES:
            yield f"  {textwrap.shorten(str(group.title), width - 3, placeholder=' …')}:"
        lines = textwrap.wrap(" ".join(names), width - 4, break_on_hyphens=False)
        if len(lines) > most:
            shown = sum(len(line.split()) for line in lines[: most - 1])
            lines = [*lines[: most - 1], f"… {len(names) - shown} more"]
        yield from (f"    {line}" for line in lines)
