"""`r2gengpt completion SHELL`: a script by which a shell completes commands, flags, their words and files."""

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import fields

from r2gengpt.cli import bridge
from r2gengpt.cli.help import ALL, brief
from r2gengpt.cli.main import COMMANDS, module_of

SHELLS = ("bash", "zsh", "fish")
DIRECTORIES = ("DIR",)
FILES = ("FILE", "PATH", "DIR|FILE", "NAME|DIR", "MODEL", "IMAGE", "FILE.csv", "FILE.pth", "A", "B")
"""Values that are completed as files."""
WHERE = {
    "bash": "r2gengpt completion bash > ~/.local/share/bash-completion/completions/r2gengpt",
    "zsh": "r2gengpt completion zsh > DIR/_r2gengpt   # DIR of $fpath",
    "fish": "r2gengpt completion fish > ~/.config/fish/completions/r2gengpt.fish",
}
"""Where each shell looks for it."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt completion",
        "Print a script by which a shell completes commands, flags, their words and files. "
        "It names what this version has: make it anew after an update.",
        example=WHERE["bash"],
    )
    made.add_argument("shell", choices=SHELLS, help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    return made


def main(argv: list[str]) -> None:
    """Parse and print."""
    shell = bridge.parse(parser(), argv).shell
    import shtab

    print(shtab.complete(program(), shell))


def program() -> argparse.ArgumentParser:
    """Every command with its flags, for whoever reads them: it parses nothing."""
    whole = argparse.ArgumentParser("r2gengpt", add_help=False)
    whole.add_argument("-h", "--help", action="store_true", help="the commands")
    whole.add_argument("--version", action="store_true", help="the version")
    commands = whole.add_subparsers()
    add_commands(commands.add_parser("help", help="what a command does, and its flags"))
    for name, what in COMMANDS.items():
        module = importlib.import_module(module_of(name))
        if hasattr(module, "KINDS"):
            kinds = commands.add_parser(name, help=what).add_subparsers()
            for kind, row in module.KINDS.items():
                made = completed(row.parser(), {})
                kinds.add_parser(kind, parents=[made], add_help=False, help=made.description)
        else:
            made = completed(module.parser(), words_of(module))
            commands.add_parser(name, parents=[made], add_help=False, help=what)
    return whole


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The names of commands as the words after `help`."""
    parser.add_argument("command", choices=tuple(COMMANDS), help="a command")


def words_of(module: object) -> dict[str, tuple[str, ...]]:
    """Setting → the words that it takes, of a command's settings."""
    every = [field for config in getattr(module, "FLAGS", ()) for field in fields(config)]
    chosen = {field.name: tuple(field.metadata["choices"]) for field in every if field.metadata["choices"]}
    return chosen | {field.name: ("True", "False") for field in every if field.type in (bool, bool | None)}


def completed(parser: argparse.ArgumentParser, words: Mapping[str, tuple[str, ...]]) -> argparse.ArgumentParser:
    """A command's parser, each flag under its first spelling, and with what completes its value."""
    import shtab

    for action in parser._actions:
        action.help = brief(action).help
        if action.dest == "help":
            action.choices = (ALL,)
        else:
            action.option_strings = action.option_strings[:1]
            action.choices = words.get(action.dest, action.choices)
        if action.metavar in (*DIRECTORIES, *FILES):
            kind = shtab.DIRECTORY if action.metavar in DIRECTORIES else shtab.FILE
            vars(action)["complete"] = kind  # shtab's own attribute, which argparse's types do not know
        if action.metavar == "True|False":
            action.choices = ("True", "False")
    return parser
