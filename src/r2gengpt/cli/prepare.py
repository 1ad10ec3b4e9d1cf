"""`r2gengpt prepare`: a data set's release to annotation.json, or a drawn data set. Parses and hands over."""

from collections.abc import Callable, Sequence
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.cli.console import start_logging
from r2gengpt.errors import InputError

USAGE = """\
usage: r2gengpt prepare iu_xray    --reports NLMCXR_reports.tgz --output annotation.json [flags]
       r2gengpt prepare mimic_cxr  --release DIR --output annotation.json [flags]
       r2gengpt prepare synthetic  --output DIR [flags]

iu_xray: the IU X-ray release's reports; mimic_cxr: PhysioNet's csv and report files; synthetic: drawn chest films.
r2gengpt prepare KIND --help lists the flags."""


def _flag(parser: bridge.Parser, name: str, help: str, **options: Any) -> None:
    """A flag under its name with underscores and with dashes."""
    forms = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    shown = "" if options.get("default") is None else f" (default: {options['default']})"
    parser.add_argument(*forms, dest=name, help=help + shown, **options)


def _switch(parser: bridge.Parser, name: str, help: str) -> None:
    """A flag that takes True, False, or nothing for True."""
    _flag(parser, name, help, type=bridge.parse_bool, nargs="?", const=True, default=False)


def _parse(parser: bridge.Parser, argv: Sequence[str], *required: str) -> dict[str, Any]:
    """The flags' values; those required are checked last, so that a misspelt one is reported as unknown."""
    given = vars(bridge.parse(parser, argv))
    for name in required:
        if given[name] is None:
            raise InputError(f"--{name} is missing (see {parser.prog} --help)")
    return given


def _iu_xray(argv: Sequence[str]) -> str:
    parser = bridge.Parser(prog="r2gengpt prepare iu_xray", allow_abbrev=False)
    _flag(parser, "reports", "NLMCXR_reports.tgz, as released", metavar="FILE")
    _flag(parser, "output", "annotation file to write", metavar="FILE")
    _flag(parser, "split_from", "annotation file whose studies and split to take, as R2Gen's", metavar="FILE")
    _flag(
        parser,
        "layout",
        "image names: release (CXR1_1_IM-0001-3001.png), or r2gen (CXR1_1_IM-0001/0.png, as in --split_from)",
        choices=("release", "r2gen"),
        default="release",
    )
    _flag(parser, "images_dir", "leave out images that are not in this directory", metavar="DIR")
    _flag(parser, "image_ext", "ending of image files in the release layout (with --images_dir others are found too)",
          default="png")  # fmt: skip
    _flag(parser, "min_views", "images a study needs; R2Gen's studies have at least 2", type=int, default=1)
    _flag(parser, "seed", "of the random split without --split_from (70/10/20 by patient)", type=int, default=42)
    given = _parse(parser, argv, "reports", "output")
    from r2gengpt.data.prepare_iu_xray import prepare_iu_xray

    return _summary(prepare_iu_xray(**given))


def _mimic_cxr(argv: Sequence[str]) -> str:
    parser = bridge.Parser(prog="r2gengpt prepare mimic_cxr", allow_abbrev=False)
    _flag(parser, "release", "directory of the -split and -metadata csv files", metavar="DIR")
    _flag(parser, "output", "annotation file to write", metavar="FILE")
    _flag(parser, "reports", "directory of the reports' files/, or mimic-cxr-reports.zip; default: --release")
    _flag(
        parser,
        "section",
        "what becomes the report; studies without it are left out",
        choices=("findings", "impression", "both"),
        default="findings",
    )
    _switch(parser, "one_image", "one example an image, as R2Gen has it, instead of one a study with all its views")
    _flag(parser, "images_dir", "leave out images that are not below this directory", metavar="DIR")
    _flag(parser, "image_ext", "ending of image files (with --images_dir others are found too)", default="jpg")
    given = _parse(parser, argv, "release", "output")
    from r2gengpt.data.prepare_mimic_cxr import prepare_mimic_cxr

    return _summary(prepare_mimic_cxr(**given))


def _synthetic(argv: Sequence[str]) -> str:
    parser = bridge.Parser(prog="r2gengpt prepare synthetic", allow_abbrev=False)
    _flag(parser, "output", "new directory to write", metavar="DIR")
    for split, default in (("train", 64), ("val", 16), ("test", 16)):
        _flag(parser, split, f"{split} studies", type=int, default=default)
    _flag(parser, "seed", "fixes every pixel and word", type=int, default=0)
    _flag(parser, "size", "side of the films in pixels", type=int, default=224)
    given = _parse(parser, argv, "output")
    from r2gengpt.data.synthetic import write_synthetic

    path = write_synthetic(given.pop("output"), **given)
    return f"{_counts(given)}: {path}"


def _counts(studies: Any) -> str:
    return ", ".join(f"{studies[split]} {split}" for split in ("train", "val", "test"))


def _summary(done: Any) -> str:
    """The final line: studies written, studies left out, remarks, and the file."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in done.skipped.items()) or "none"
    return f"{'; '.join((_counts(done.studies), f'left out: {left_out}', *done.notes))}: {done.path}"


KINDS: dict[str, Callable[[Sequence[str]], str]] = {
    "iu_xray": _iu_xray,
    "mimic_cxr": _mimic_cxr,
    "synthetic": _synthetic,
}


def main(argv: Sequence[str]) -> None:
    """Parse and run; prints counts and the file written.

    Raises:
        InputError: unknown kind or flag, or what the preparation refuses.
    """
    if not argv:
        raise InputError(f"prepare what? Choose from {', '.join(KINDS)}")
    kind, rest = argv[0].replace("-", "_") if argv[0][:1] != "-" else argv[0], argv[1:]
    if kind in ("-h", "--help", "help"):
        print(USAGE)
        return
    if kind not in KINDS:
        raise InputError(f"unknown data set {argv[0]}{bridge.nearest(kind, KINDS)}: choose from {', '.join(KINDS)}")
    start_logging(libraries=False)
    print(KINDS[kind](rest))
