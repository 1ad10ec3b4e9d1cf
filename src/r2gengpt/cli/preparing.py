"""The flags of `r2gengpt prepare` for releases of films with reports, and what all kinds share. Reads no release."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from r2gengpt.cli import bridge

SECTIONS = ("findings", "impression", "both")


@dataclass(frozen=True)
class Kind:
    """One kind of source: its flags, those of them that must be given, and what is done with their values.

    `annotation` is whether it writes an annotation file.
    """

    parser: Callable[[], bridge.Parser]
    required: tuple[str, ...]
    work: Callable[[dict[str, Any]], str]
    annotation: bool = True


def add_flag(parser: bridge.Parser, name: str, help: str, **options: Any) -> None:
    """A flag under its name with underscores and with dashes."""
    forms = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    shown = "" if options.get("default") is None else f" (default: {options['default']})"
    parser.add_argument(*forms, dest=name, help=help + shown, **options)


def add_switch(parser: bridge.Parser, name: str, help: str) -> None:
    """A flag that takes True, False, or nothing for True."""
    value = "True|False"
    add_flag(parser, name, help, type=bridge.parse_bool, nargs="?", const=True, default=False, metavar=value)


def counts(studies: Any) -> str:
    """How many studies each split has, in words."""
    return ", ".join(f"{studies[split]} {split}" for split in ("train", "val", "test"))


def summary(done: Any) -> str:
    """The final line: studies written, studies left out, remarks, and the file."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in done.skipped.items()) or "none"
    return f"{'; '.join((counts(done.studies), f'left out: {left_out}', *done.notes))}: {done.path}"


def _release(kind: str, description: str, example: str) -> bridge.Parser:
    """A parser with the flags that all releases of reports have."""
    parser = bridge.Parser(
        f"r2gengpt prepare {kind}", description, example=f"r2gengpt prepare {kind} {example} --output a.json"
    )
    add_flag(parser, "output", "annotation file to write", metavar="FILE")
    add_flag(parser, "images_dir", "leave out images that are not below this directory", metavar="DIR")
    add_flag(
        parser,
        "image_ext",
        "ending of image files; default: the release's (with --images_dir others are found)",
        metavar="ENDING",
    )
    add_switch(
        parser,
        "keep_shared_texts",
        "keep a training study whose text, of 12 words or more, is that of a held-out study",
    )
    return parser


def _section(parser: bridge.Parser, default: str) -> None:
    text = "what becomes the report; studies without it are left out"
    add_flag(parser, "section", text, choices=SECTIONS, default=default)


def _output(arguments: dict[str, Any]) -> Any:
    """What the shared flags ask for, taken out of the values."""
    from r2gengpt.data.prepare.release import Output

    path = arguments.pop("output")
    return Output(path, **{name: arguments.pop(name) for name in ("images_dir", "image_ext", "keep_shared_texts")})


def _rexrank_flags() -> bridge.Parser:
    parser = _release("rexrank", "ReXrank's studies to an annotation file.", "--test FILE.json")
    add_flag(parser, "test", "ReXrank's JSON of the studies to test on, as ReXRank_MIMICCXR_test.json", metavar="FILE")
    add_flag(parser, "val", "another one, for the validation split", metavar="FILE")
    _section(parser, "both")
    return parser


def _rexrank(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.rexrank import prepare_rexrank

    return summary(prepare_rexrank(output=_output(arguments), **arguments))


def _chexpert_plus_flags() -> bridge.Parser:
    parser = _release("chexpert_plus", "CheXpert Plus to an annotation file.", "--table FILE.csv")
    add_flag(parser, "table", "df_chexpert_plus_240401.csv, packed with gzip or not", metavar="FILE")
    add_flag(parser, "labels", "a file of labels of the release, as impression_fixed.json", metavar="FILE")
    _section(parser, "findings")
    return parser


def _chexpert_plus(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.chexpert_plus import prepare_chexpert_plus

    return summary(prepare_chexpert_plus(output=_output(arguments), **arguments))


def _rexgradient_flags() -> bridge.Parser:
    parser = _release("rexgradient", "ReXGradient-160K to an annotation file.", "--release DIR")
    text = "directory of the metadata files, or the one above it; --images_dir is the one that holds deid_png"
    add_flag(parser, "release", text, metavar="DIR")
    _section(parser, "findings")
    return parser


def _rexgradient(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.rexgradient import prepare_rexgradient

    return summary(prepare_rexgradient(output=_output(arguments), **arguments))


def _padchest_flags() -> bridge.Parser:
    parser = _release("padchest", "PadChest, in Spanish, to an annotation file.", "--table FILE.csv")
    text = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, packed with gzip or not"
    add_flag(parser, "table", text, metavar="FILE")
    add_switch(parser, "physicians_only", "leave labels away that a program gave to the report")
    return parser


def _padchest(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.padchest import prepare_padchest

    return summary(prepare_padchest(output=_output(arguments), **arguments))


RELEASES = {
    "rexrank": Kind(_rexrank_flags, ("test", "output"), _rexrank),
    "chexpert_plus": Kind(_chexpert_plus_flags, ("table", "output"), _chexpert_plus),
    "rexgradient": Kind(_rexgradient_flags, ("release", "output"), _rexgradient),
    "padchest": Kind(_padchest_flags, ("table", "output"), _padchest),
}
