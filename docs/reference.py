"""Writes docs/reference.md from the settings' classes: `python docs/reference.py > docs/reference.md`."""

import argparse
import importlib
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.cli.commands.prepare import KINDS
from r2gengpt.cli.main import COMMANDS, module_of
from r2gengpt.config import DECODE_PRESETS, DecodeConfig

WORDS = {int: "whole number", float: "number", str: "text", bool: "True or False", type(None): "None"}
HEAD = """# Reference: every flag and setting

`python docs/reference.py > docs/reference.md` writes this page from the program; do not edit it.
Underscores and dashes are the same in a flag. `--config FILE` reads a JSON object of the same names. Flags win over it.
`r2gengpt.load(MODEL, name=value)` takes the settings of the model, its decoding and its place by the same names.
"""


def parser_of(command: str, *words: str) -> argparse.ArgumentParser:
    """The parser of a command, or of one of its kinds."""
    module = importlib.import_module(module_of(command))
    parser: argparse.ArgumentParser = module.KINDS[words[0]].parser() if words else module.parser()
    return parser


def settings_of(command: str) -> list[type]:
    """The settings' classes whose fields are flags of a command, all of them."""
    known = getattr(importlib.import_module(module_of(command)), "FLAGS", ())
    taken = {action.dest for action in parser_of(command)._actions} if known else set()
    return [config for config in known if {field.name for field in fields(config)} <= taken]


def kind_of(hint: Any, field: Field[Any]) -> str:
    """The type of a setting in words, with its words or its range."""
    if isinstance(hint, types.UnionType):
        return ", or ".join(
            kind_of(part, field) if part is not type(None) else "None" for part in typing.get_args(hint)
        )
    if typing.get_origin(hint) is tuple:
        return f"list of {WORDS[typing.get_args(hint)[0]]}s"
    if choices := field.metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in choices)
    spans = {"low": "from {}", "above": "above {}", "high": "to {}"}
    limits = [words.format(field.metadata[name]) for name, words in spans.items() if field.metadata[name] is not None]
    return " ".join([WORDS[hint], *limits])


def default_of(value: object) -> str:
    """A default as it is typed."""
    if isinstance(value, tuple):
        return " ".join(f"`{item}`" for item in value) or "none"
    return f"`{value}`"


def cell(text: str) -> str:
    """A text that stands in a table."""
    return " ".join(text.replace("|", "\\|").split())


def table(rows: Sequence[Sequence[str]], *titles: str) -> Iterator[str]:
    """Rows under their titles."""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    yield from (f"| {' | '.join(map(cell, row))} |" for row in rows)


def setting_rows(config: type) -> Iterator[tuple[str, str, str, str]]:
    """The rows of a settings' class."""
    hints = typing.get_type_hints(config)
    for field in fields(config):
        names = [field.name, *(old for old, new in bridge.ALIASES.items() if new == field.name)]
        flags = ", ".join(f"`--{name}`" for name in names)
        yield flags, kind_of(hints[field.name], field), default_of(field.default), field.metadata["help"]


def own_rows(parser: argparse.ArgumentParser, taken: set[str]) -> Iterator[tuple[str, str, str]]:
    """The rows of a command's arguments that are no settings."""
    for action in parser._actions:
        if action.dest in ("help", "config") or action.dest in taken:
            continue
        name = f"`{action.option_strings[0] if action.option_strings else action.metavar or action.dest}`"
        kind = ", ".join(f"`{choice}`" for choice in action.choices or ()) or (action.metavar or "")
        yield name, str(kind), str(action.help)


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    users: dict[type, list[str]] = {}
    for command in COMMANDS:
        for config in settings_of(command):
            users.setdefault(config, []).append(command)
    yield "## Arguments of one command\n"
    for command in COMMANDS:
        taken = {field.name for config in settings_of(command) for field in fields(config)}
        for words in [(kind,) for kind in KINDS] if command == "prepare" else [()]:
            rows = list(own_rows(parser_of(command, *words), taken | {bridge.PRESET}))
            if rows:
                yield f"### `{' '.join(('r2gengpt', command, *words))}`\n"
                yield from table(rows, "argument", "value", "meaning")
                yield ""
    for config, commands in users.items():
        yield f"## {(config.__doc__ or '').splitlines()[0].rstrip('.')}\n"
        yield f"`{config.__name__}`, of {', '.join(f'`{command}`' for command in commands)}.\n"
        if config is DecodeConfig:
            for name, values in DECODE_PRESETS.items():
                flags = " ".join(f"--{key} {value}" for key, value in values.items())
                yield f"`--{bridge.PRESET} {name}` stands for `{flags}`.\n"
        yield from table(list(setting_rows(config)), "flag", "type", "default", "meaning")
        yield ""


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # a real stream
    print("\n".join(page()).rstrip())
