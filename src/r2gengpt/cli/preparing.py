"""How a kind of source of `r2gengpt prepare` tells its flags, and what is done with their values. Reads no release."""

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.cli.console import quiet_libraries
from r2gengpt.config import DataConfig
from r2gengpt.errors import InputError

log = logging.getLogger("r2gengpt.cli")
SECTIONS = ("findings", "impression", "both")
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Flag:
    """A flag under its name with underscores and with dashes; `plain`: an argument without one.

    `options` are argparse's own.
    """

    name: str
    help: str
    options: Mapping[str, Any]
    plain: bool

    def add_to(self, parser: bridge.Parser) -> None:
        """Let a parser take it; its default stands in its help."""
        if self.plain:
            parser.add_argument(self.name, help=self.help, **self.options)
            return
        forms = dict.fromkeys((f"--{self.name}", f"--{self.name.replace('_', '-')}"))
        shown = "" if self.options.get("default") is None else f" (default: {self.options['default']})"
        parser.add_argument(*forms, dest=self.name, help=self.help + shown, **self.options)


def flag(name: str, help: str, *, plain: bool = False, **options: Any) -> Flag:
    """A flag with argparse's options."""
    return Flag(name, help, options, plain)


def switch(name: str, help: str) -> Flag:
    """A flag that takes True, False, or nothing for True."""
    return flag(name, help, type=bridge.parse_bool, nargs="?", const=True, default=False, metavar="True|False")


def section(default: str) -> Flag:
    """The flag that says which section becomes the report."""
    text = "what becomes the report; studies without it are left out"
    return flag("section", text, choices=SECTIONS, default=default)


OUTPUT = flag("output", "annotation file to write", metavar="FILE")
RELEASE = (
    OUTPUT,
    flag("images_dir", "leave out images that are not below this directory", metavar="DIR"),
    flag(
        "image_ext",
        "ending of image files; default: the release's (with --images_dir others are found)",
        metavar="ENDING",
    ),
    switch("keep_shared_texts", "keep a training study whose text, of 12 words or more, is that of a held-out study"),
)
"""What `data.prepare.release.Output` is made of; the flags that releases of films with reports have in common."""


def counts(studies: Any) -> str:
    """How many studies each split has, in words."""
    return ", ".join(f"{studies[split]} {split}" for split in ("train", "val", "test"))


@dataclass(frozen=True)
class Unread:
    """A flag that nothing reads where `when` holds of all values, and why in words."""

    name: str
    when: Callable[[Arguments], bool]
    why: str


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        name: of the kind; `prepare_NAME` of `data.prepare.NAME` does the work.
        description: what becomes of what.
        example: how a call goes on after the kind.
        flags: what it takes.
        required: those of the flags that must be given.
        unread: flags without effect beside others.
        work: does the work in another way and gives the final line; None: as `name` says.
        annotation: whether it writes an annotation file.
    """

    name: str
    description: str
    example: str
    flags: tuple[Flag, ...]
    required: tuple[str, ...]
    unread: tuple[Unread, ...] = ()
    work: Callable[[Arguments], str] | None = None
    annotation: bool = True

    def parser(self) -> bridge.Parser:
        """Its flags."""
        prog = f"r2gengpt prepare {self.name}"
        made = bridge.Parser(prog, self.description, example=f"{prog} {self.example}")
        for one in self.flags:
            one.add_to(made)
        return made

    def prepare(self, arguments: Arguments) -> str:
        """Do the work; gives the final line: studies written, studies left out, remarks, and the file.

        Raises:
            InputError: what the preparation refuses.
        """
        for one in self.unread:
            default = next(flag.options.get("default") for flag in self.flags if flag.name == one.name)
            if arguments[one.name] != default and one.when(arguments):
                log.warning("`%s` %s: no effect %s", one.name, arguments[one.name], one.why)
        if self.work is not None:
            return self.work(arguments)
        if "keep_shared_texts" in arguments:
            from r2gengpt.data.prepare.release import Output

            path, *asked = (arguments.pop(one.name) for one in RELEASE)
            arguments["output"] = Output(path, *asked)
        done = getattr(importlib.import_module(f"r2gengpt.data.prepare.{self.name}"), f"prepare_{self.name}")(
            **arguments
        )
        left_out = ", ".join(f"{count} {reason}" for reason, count in done.skipped.items()) or "none"
        return f"{'; '.join((counts(done.studies), f'left out: {left_out}', *done.notes))}: {done.path}"


def prepare_guard(arguments: Arguments) -> str:
    """A model and its films to the film guard beside its weights.

    Raises:
        InputError: no such model or annotation, a model without a finding head, films that cannot be read, too few.
    """
    for name, least in (("films", 1), ("changed", 1), ("seed", 0)):
        if arguments[name] < least:
            raise InputError(f"must be at least {least}", field=name, value=arguments[name], limit=least)
    from r2gengpt.confidence.film_guard import GUARD, write_guard
    from r2gengpt.locate import ModelChoice
    from r2gengpt.report import NO_HEAD
    from r2gengpt.reporter import Reporter
    from r2gengpt.training.data import read_splits
    from r2gengpt.training.guarding import Sample, guard_of

    quiet_libraries()
    model, films = arguments["model"], arguments["films"]
    splits = read_splits(DataConfig(annotation=arguments["annotation"], base_dir=arguments["base_dir"]), reports=False)
    reporter = Reporter.load(ModelChoice(name=model))
    if not reporter.tells_findings:
        raise InputError(NO_HEAD, field="model", value=model)
    guard = guard_of(reporter.built, splits, Sample(films, arguments["changed"], arguments["seed"]))
    path = Path(arguments["output"]) if arguments["output"] else reporter.directory / GUARD
    write_guard(path, guard)
    return f"{min(films, len(splits['train']))} train, {min(films, len(splits['val']))} val films: {path}"


def write_synthetic(arguments: Arguments) -> str:
    """Drawn films with their annotation."""
    from r2gengpt.data.prepare.synthetic import write_synthetic

    path = write_synthetic(arguments.pop("output"), **arguments)
    return f"{counts(arguments)}: {path}"
