"""`r2gengpt prepare`: a data set's release to annotation.json, or a drawn data set. Parses and hands over."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.cli.console import flag, start_logging
from r2gengpt.cli.preparing import RELEASES, Kind, add_flag, add_switch, counts, summary
from r2gengpt.errors import InputError, spelt
from r2gengpt.files import check_no_input, open_regular
from r2gengpt.options import nearest

log = logging.getLogger("r2gengpt.cli")
ANNOTATION = re.compile(rb'\s*\{\s*"(train|val|test)"\s*:')
"""How an annotation file begins."""
USAGE = """\
usage: r2gengpt prepare iu_xray       --reports NLMCXR_reports.tgz --output annotation.json [flags]
       r2gengpt prepare mimic_cxr     --release DIR --output annotation.json [flags]
       r2gengpt prepare rexrank       --test FILE.json --output annotation.json [flags]
       r2gengpt prepare chexpert_plus --table FILE.csv --output annotation.json [flags]
       r2gengpt prepare rexgradient   --release DIR --output annotation.json [flags]
       r2gengpt prepare padchest      --table FILE.csv --output annotation.json [flags]
       r2gengpt prepare films FILE.csv --images DIR --output annotation.json [flags]
       r2gengpt prepare verdicts      --verdicts FILE|URL --films DIR --salt_file FILE --output annotation.json [flags]
       r2gengpt prepare guard         --model DIR --annotation FILE.json --base_dir DIR [flags]
       r2gengpt prepare synthetic     --output DIR [flags]

iu_xray: the IU X-ray release's reports; mimic_cxr: PhysioNet's csv and report files; rexrank: a test set of the
leaderboard; chexpert_plus: CheXpert's films with their reports; rexgradient: ReXGradient-160K; padchest: films with
labels and reports in Spanish; films: films with labels, as ChestX-ray14's Data_Entry_2017.csv; verdicts: final texts
that readers of drafts left; guard: what a model's films are like, so that others are noticed; synthetic: drawn
chest films.
r2gengpt prepare KIND --help lists the flags."""


def _iu_xray_flags() -> bridge.Parser:
    parser = bridge.Parser(
        "r2gengpt prepare iu_xray",
        "Reports of the IU X-ray release to an annotation file.",
        example="r2gengpt prepare iu_xray --reports NLMCXR_reports.tgz --output iu.json",
    )
    add_flag(parser, "reports", "NLMCXR_reports.tgz, as released", metavar="FILE")
    add_flag(parser, "output", "annotation file to write", metavar="FILE")
    add_flag(parser, "split_from", "annotation file whose studies and split to take, as R2Gen's", metavar="FILE")
    add_flag(
        parser,
        "layout",
        "image names: release (CXR1_1_IM-0001-3001.png), or r2gen (CXR1_1_IM-0001/0.png, as in --split_from)",
        choices=("release", "r2gen"),
        default="release",
    )
    add_flag(parser, "images_dir", "leave out images that are not in this directory", metavar="DIR")
    add_flag(
        parser,
        "image_ext",
        "ending of image files in the release layout (with --images_dir others are found too)",
        default="png",
    )
    add_flag(
        parser,
        "min_views",
        "images a study needs; R2Gen's studies have at least 2",
        type=int,
        default=1,
        metavar="VIEWS",
    )
    add_flag(parser, "seed", "of the random split without --split_from (70/10/20 by patient)", type=int, default=42)
    return parser


def _iu_xray(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.iu_xray import prepare_iu_xray

    if arguments["split_from"] is not None:
        _tell_unread(arguments, "seed", 42, "with `split_from`")
    if arguments["layout"] == "r2gen":
        _tell_unread(arguments, "image_ext", "png", "with `layout` r2gen")
    return summary(prepare_iu_xray(**arguments))


def _tell_unread(arguments: dict[str, Any], name: str, default: object, why: str) -> None:
    if arguments[name] != default:
        log.warning("`%s` %s: no effect %s", name, arguments[name], why)


def _mimic_cxr_flags() -> bridge.Parser:
    parser = bridge.Parser(
        "r2gengpt prepare mimic_cxr",
        "PhysioNet's csv and report files of MIMIC-CXR to an annotation file.",
        example="r2gengpt prepare mimic_cxr --release DIR --output mimic.json",
    )
    add_flag(parser, "release", "directory of the -split and -metadata csv files", metavar="DIR")
    add_flag(parser, "output", "annotation file to write", metavar="FILE")
    add_flag(
        parser,
        "reports",
        "directory of the reports' files/, or mimic-cxr-reports.zip; default: --release",
        metavar="PATH",
    )
    add_flag(
        parser,
        "section",
        "what becomes the report; studies without it are left out",
        choices=("findings", "impression", "both"),
        default="findings",
    )
    add_switch(parser, "one_image", "one example an image, as R2Gen has it, instead of one a study with all its views")
    add_flag(parser, "images_dir", "leave out images that are not below this directory", metavar="DIR")
    add_flag(parser, "image_ext", "ending of image files (with --images_dir others are found too)", default="jpg")
    return parser


def _mimic_cxr(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.mimic_cxr import prepare_mimic_cxr

    return summary(prepare_mimic_cxr(**arguments))


def _films_flags() -> bridge.Parser:
    parser = bridge.Parser(
        "r2gengpt prepare films",
        "Films with labels to an annotation file.",
        example="r2gengpt prepare films Data_Entry_2017.csv --images DIR --output films.json",
    )
    parser.add_argument(
        "table",
        metavar="FILE.csv",
        help="ChestX-ray14's Data_Entry_2017.csv, or a table with the columns image and labels",
    )
    add_flag(parser, "output", "annotation file to write", metavar="FILE")
    add_flag(
        parser, "images", "directory that the films' names are relative to; those not there are left out", metavar="DIR"
    )
    add_flag(parser, "splits", "directory of ChestX-ray14's train_val_list.txt and test_list.txt", metavar="DIR")
    add_flag(parser, "rules", "JSON file of what the labels of further sources say", metavar="FILE")
    add_switch(
        parser, "compose", "give each film a report: what its note says of it, else sentences made of its labels"
    )
    add_flag(parser, "seed", "of the wordings of --compose", type=int, default=0)
    return parser


def _films(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.films import prepare_films

    if not arguments["compose"]:
        _tell_unread(arguments, "seed", 0, "without `compose`")
    return summary(prepare_films(**arguments))


def _verdicts_flags() -> bridge.Parser:
    parser = bridge.Parser(
        "r2gengpt prepare verdicts",
        "Texts that readers accepted or edited to an annotation file: ids hashed, split by patient, texts that may "
        "name somebody left out and listed.",
        example="r2gengpt prepare verdicts --verdicts verdicts.db --films DIR --salt_file salt --output verdicts.json",
    )
    add_flag(
        parser, "verdicts", "where they are kept: a file of SQLite, or postgresql://USER@HOST/NAME", metavar="FILE|URL"
    )
    add_flag(parser, "output", "annotation file to write; its image paths are relative to --films", metavar="FILE")
    add_flag(parser, "films", "directory of the films, which are found by their SHA-256 under any name", metavar="DIR")
    add_flag(parser, "salt_file", "secret by which ids and patients are hashed, 16 bytes or more", metavar="FILE")
    add_flag(parser, "words", "further words that are no names, one a line", metavar="FILE")
    add_switch(parser, "edited_only", "leave accepted drafts out: a model then learns from what readers changed alone")
    return parser


def _verdicts(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.verdicts import prepare_verdicts

    return summary(prepare_verdicts(**arguments))


def _guard_flags() -> bridge.Parser:
    parser = bridge.Parser(
        "r2gengpt prepare guard",
        "A film guard for a model with a finding head, from the films that it was trained on: it then notices what "
        "shows no chest, and films that are inverted, turned, tilted or cut off.",
        example="r2gengpt prepare guard --model save/head --annotation a.json --base_dir data",
    )
    add_flag(parser, "model", "the model: embedded, or a checkpoint or run directory", metavar="DIR")
    add_flag(parser, "annotation", "annotation file with a training and a validation split", metavar="FILE")
    add_flag(parser, "base_dir", "directory that its image paths are relative to", metavar="DIR")
    add_flag(parser, "output", "file to write; default: film_guard.npz beside the weights", metavar="FILE")
    add_flag(parser, "films", "films of each split, at most", type=int, default=600)
    add_flag(parser, "changed", "of these, films that are inverted, turned, tilted and cut too", type=int, default=160)
    add_flag(parser, "seed", "of tilts and cuts", type=int, default=0)
    return parser


def _guard(arguments: dict[str, Any]) -> str:
    from r2gengpt.cli.guarding import prepare_guard

    return prepare_guard(**arguments)


def _synthetic_flags() -> bridge.Parser:
    parser = bridge.Parser(
        "r2gengpt prepare synthetic",
        "Drawn chest films with reports, to try the program with.",
        example="r2gengpt prepare synthetic --output data/synthetic",
    )
    add_flag(parser, "output", "new directory to write", metavar="DIR")
    for split, default in (("train", 64), ("val", 16), ("test", 16)):
        add_flag(parser, split, f"{split} studies", type=int, default=default, metavar="STUDIES")
    add_flag(parser, "seed", "fixes every pixel and word", type=int, default=0)
    add_flag(parser, "size", "side of the films", type=int, default=224, metavar="PIXELS")
    return parser


def _synthetic(arguments: dict[str, Any]) -> str:
    from r2gengpt.data.prepare.synthetic import write_synthetic

    path = write_synthetic(arguments.pop("output"), **arguments)
    return f"{counts(arguments)}: {path}"


KINDS = {
    "iu_xray": Kind(_iu_xray_flags, ("reports", "output"), _iu_xray),
    "mimic_cxr": Kind(_mimic_cxr_flags, ("release", "output"), _mimic_cxr),
    **RELEASES,
    "films": Kind(_films_flags, ("output", "images"), _films),
    "verdicts": Kind(_verdicts_flags, ("verdicts", "films", "salt_file", "output"), _verdicts),
    "guard": Kind(_guard_flags, ("model", "annotation", "base_dir"), _guard, annotation=False),
    "synthetic": Kind(_synthetic_flags, ("output",), _synthetic, annotation=False),
}


def _parse(kind: Kind, argv: Sequence[str]) -> dict[str, Any]:
    """The flags' values; those required are checked last, so that a misspelt one is reported as unknown."""
    parser = kind.parser()
    arguments = vars(bridge.parse(parser, argv))
    for name in kind.required:
        if arguments[name] is None:
            raise InputError(f"--{name} is missing (see {parser.prog} --help)")
    if arguments["output"] is not None:
        inputs = (
            (name, Path(value)) for name, value in arguments.items() if name != "output" and isinstance(value, str)
        )
        check_no_input(Path(arguments["output"]), inputs)
        if kind.annotation:
            _check_not_among(Path(arguments["output"]), arguments)
    return arguments


def _check_not_among(output: Path, arguments: dict[str, Any]) -> None:
    """Refuse an output that is a file in a directory that is read, and is no annotation that an earlier run wrote.

    Raises:
        InputError: so it is.
    """
    try:
        with open_regular(output) as file:
            if ANNOTATION.match(file.read(64)):
                return
    except OSError:  # nothing is there, or what `check_writable_file` refuses
        return
    for name, value in arguments.items():
        if name != "output" and isinstance(value, str) and Path(value).resolve() in output.resolve().parents:
            raise InputError(
                f"is no annotation file, and lies in what `{name}` names: it would be written over",
                field="output",
                value=output,
            )


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
        raise InputError(f"unknown data set {argv[0]}{nearest(kind, KINDS)}: choose from {', '.join(KINDS)}")
    start_logging(libraries=False)
    print(spelt(KINDS[kind].work(_parse(KINDS[kind], rest)), flag))
