"""Flags from dataclasses and back: flat names, one JSON file of the same keys. No logic of any command."""

import argparse
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from r2gengpt.cli.console import ARGUMENTS, FLAGS, flag
from r2gengpt.config import DECODE_PRESETS, DecodeConfig
from r2gengpt.data.strict import read_json_object
from r2gengpt.errors import InputError, spelt
from r2gengpt.files import check_no_input
from r2gengpt.options import LARGEST, Override, nearest

T = typing.TypeVar("T")

ALIASES = {
    "llama_model": "lm_model",
    "llm_model": "lm_model",
    "prompt": "instruction",
    "n_beams": "beam_size",
    "delta": "model",
}
"""Old name → today's flag."""
PRESET = "decode_preset"
"""A flag that stands for several; it stays among the values that the user set, and is a field of nothing."""

WORDS = 24
"""The most signs of a flag's words that stand in place of a value."""
DEFAULT = " (default: "
ONE_OF = "one of "
"""How help tells a flag's default and its words."""


class HelpAction(argparse.Action):
    """Prints the page that is asked for, and ends the program."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        words = "this page; of all flags; or of those with WORD in their names"
        super().__init__(
            option_strings, dest, nargs="?", default=argparse.SUPPRESS, metavar="all|WORD", help=words, **options
        )

    def __call__(self, parser: Any, space: object, word: Any, flag: str | None = None) -> None:
        """Print and end.

        Raises:
            InputError: no flag has the word in its name.
        """
        from r2gengpt.cli.help import page

        print(page(parser, word), flush=True)
        parser.exit()


class Parser(argparse.ArgumentParser):
    """argparse whose errors are `InputError`s: one line, and unknown flags with the nearest name.

    Args:
        prog: the words that call the command.
        description: what the command does.
        common: names of the flags that most calls need; help explains them first.
        example: a call that works.
        add_help: whether there is `--help`.
    """

    def __init__(
        self,
        prog: str | None = None,
        description: str | None = None,
        *,
        common: Sequence[str] = (),
        example: str = "",
        add_help: bool = True,
    ) -> None:
        super().__init__(prog, description=description, add_help=False, allow_abbrev=False)
        self.common, self.example = tuple(common), example
        if add_help:
            self.add_argument("-h", "--help", action=HelpAction)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage text."""
        raise InputError(message)


def parse_bool(text: str) -> bool:
    """True/False in any case, yes/no, 1/0."""
    word = text.lower()
    if word in ("true", "yes", "1"):
        return True
    if word in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text}: must be True or False")


@dataclass(frozen=True)
class _Kind:
    """A field's type taken apart: the scalar, whether None is allowed, whether it is a list."""

    scalar: type
    optional: bool
    many: bool

    def convert(self, text: str) -> Any:
        if self.optional and text.lower() == "none":
            return None
        if self.scalar is bool:
            return parse_bool(text)
        try:
            return self.scalar(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text}: must be {_WORDS[self.scalar]}") from None

    def check(self, value: Any, name: str) -> Any:
        """The JSON value in the field's own type."""
        if value is None and self.optional:
            return None
        if self.many and isinstance(value, list):
            return tuple(_Kind(self.scalar, False, False).check(item, name) for item in value)
        if self.scalar is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value) if abs(value) <= LARGEST else value  # `check_fields` names the limit
        if self.many or not isinstance(value, self.scalar) or (isinstance(value, bool) and self.scalar is not bool):
            wanted = f"a list of {self.scalar.__name__}" if self.many else _WORDS[self.scalar]
            raise InputError(f"--config: {name} is {json.dumps(value)}, must be {wanted}")
        return value


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def _kind(hint: Any) -> _Kind:
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    many = typing.get_origin(hint) is tuple
    return _Kind(typing.get_args(hint)[0] if many else hint, optional, many)


def _kinds(configs: Iterable[type]) -> dict[str, _Kind]:
    return {name: _kind(hint) for config in configs for name, hint in typing.get_type_hints(config).items()}


def _names(name: str) -> list[str]:
    """`--lm_model` and `--lm-model`, for the field and its old names."""
    every = [name, *(old for old, new in ALIASES.items() if new == name)]
    return list(dict.fromkeys(f"--{form}" for n in every for form in (n, n.replace("_", "-"))))


def help_of(text: str, *, default: object, choices: Sequence[str] | None, value: str) -> str:
    """A flag's help: its text, its words where neither that nor its value tells them, and its default."""
    words_there = re.findall(r"[\w.-]+", f"{text} {value}")
    words = f"; {ONE_OF}{', '.join(choices)}" if choices and not set(choices) <= set(words_there) else ""
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{text}{words}" + (f"{DEFAULT}{shown})" if shown not in (None, "") else "")


def value_of(name: str, *, choices: Sequence[str] | None, unit: str | None, is_bool: bool) -> str:
    """What stands for a flag's value: its unit, its words where they are few, or the last part of its name."""
    if is_bool:
        return "True|False"
    if choices and len("|".join(choices)) <= WORDS:
        return "|".join(choices)
    return unit or name.split("_")[-1].upper()


def add_flags(parser: argparse.ArgumentParser, configs: Iterable[type], only: Sequence[str] | None = None) -> None:
    """Add a flag for every field of the dataclasses (those named in `only`), one help group each, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help="JSON file of the same names; flags win over it")
    for config in configs:
        group = parser.add_argument_group((config.__doc__ or config.__name__).split(".")[0])
        if config is DecodeConfig and only is None:
            values = " ".join(f"--{name} {value}" for name, value in DECODE_PRESETS["original"].items())
            group.add_argument(f"--{PRESET}", f"--{PRESET.replace('_', '-')}", dest=PRESET, default=argparse.SUPPRESS,
                               choices=tuple(DECODE_PRESETS), help=f"original: {values}")  # fmt: skip
        hints = typing.get_type_hints(config)
        for f in [f for f in fields(config) if only is None or f.name in only]:
            kind = _kind(hints[f.name])
            choices, unit = f.metadata["choices"], f.metadata["unit"]
            value = value_of(f.name, choices=choices, unit=unit, is_bool=kind.scalar is bool)
            text = help_of(f.metadata["help"], default=f.default, choices=choices, value=value)
            convert: Callable[[str], Any] = kind.convert
            extra: dict[str, Any] = {}
            if kind.many:
                extra["nargs"] = "+"
            elif kind.scalar is bool:
                extra.update(nargs="?", const=True)
            group.add_argument(
                *_names(f.name),
                dest=f.name,
                type=convert,
                default=argparse.SUPPRESS,
                metavar=value,
                help=spelt(text, flag).replace("%", "%%"),
                **extra,
            )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse, refusing unknown flags by name with the nearest known one.

    Raises:
        InputError: unknown flag, missing or malformed value.
    """
    FLAGS.update(name.lstrip("-") for action in parser._actions for name in action.option_strings)
    plain = [action for action in parser._actions if not action.option_strings]
    ARGUMENTS.update(str(name) for action in plain for name in (action.dest, action.metavar))
    space, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        known = [name for action in parser._actions for name in action.option_strings]
        if flag.startswith("-"):
            raise InputError(f"unknown flag {flag}{nearest(flag, known)}")
        raise InputError(f"unexpected argument {flag}")
    return space


def given_values(space: argparse.Namespace, configs: Sequence[type]) -> dict[str, Any]:
    """What the user set: the `--config` file's keys under the flags of the command line.

    Raises:
        InputError: the file has an unknown key or a value of the wrong type.
    """
    kinds = _kinds(configs) | ({PRESET: _Kind(str, False, False)} if DecodeConfig in configs else {})
    values: dict[str, Any] = {}
    if space.config is not None:
        spelt: dict[str, str] = {}
        for key, value in read_json_object(Path(space.config), f"--config {space.config}").items():
            name = key.replace("-", "_")
            name = ALIASES.get(name, name)
            if spelt.setdefault(name, key) != key:
                raise InputError(f"--config {space.config}: {spelt[name]} and {key} are one setting: leave one out")
            if name not in kinds:
                raise InputError(f"--config {space.config}: unknown key {key}{nearest(key, kinds)}")
            values[name] = kinds[name].check(value, name)
    for name, value in vars(space).items():
        if name in kinds:
            values[name] = tuple(value) if isinstance(value, list) else value
    if values.get(PRESET, "original") not in DECODE_PRESETS:
        raise InputError(f"--{PRESET} {values[PRESET]}: choose from {', '.join(DECODE_PRESETS)}")
    return values


@dataclass(frozen=True)
class Parsed:
    """What the user has set: flags that are no settings, and settings by their name."""

    space: argparse.Namespace
    values: Mapping[str, Any]

    @property
    def preset(self) -> str | None:
        """The name of the decode preset, if one was set."""
        return self.values.get(PRESET)

    def override(self, kind: type[T]) -> Override[T]:
        """Those settings of a class that the user has set."""
        return Override.of(kind, self.values)

    def settled(self, kind: type[T]) -> T:
        """Settings of a class, open ones by default.

        Raises:
            InputError: a value is refused, or another flag overrules it.
        """
        return self.override(kind).settled()

    @property
    def decode(self) -> Override[DecodeConfig]:
        """Settings of decoding, the preset's among them."""
        preset = Override(DecodeConfig, DECODE_PRESETS.get(self.preset or "", {}))
        return preset.under(self.override(DecodeConfig))

    def check_output(self, output: str | None, *inputs: str) -> None:
        """Refuse an output that is `config` or another file that the user named as an input: it would be lost.

        Args:
            output: where the command writes; None: nowhere.
            inputs: the flags and arguments that name files; one may name several.

        Raises:
            InputError: so it is.
        """
        every = {**vars(self.space), **self.values}
        named = [(name, every.get(name) or ()) for name in ("config", *inputs)]
        files = [(name, [value] if isinstance(value, str) else value) for name, value in named]
        if output is not None:
            check_no_input(Path(output), [(name, Path(text)) for name, some in files for text in some])


def parsed(
    parser: argparse.ArgumentParser, argv: Sequence[str], configs: Sequence[type], only: Sequence[str] | None = None
) -> Parsed:
    """Parse flags and `--config`; of the settings, those named in `only`.

    Raises:
        InputError: as `parse` and `given_values`.
    """
    space = parse(parser, argv)
    values = given_values(space, configs)
    return Parsed(space, {name: value for name, value in values.items() if only is None or name in only})
