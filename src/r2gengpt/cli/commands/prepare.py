"""`r2gengpt prepare`: a data set's release to annotation.json, or a drawn data set. Parses and hands over."""

import re
from collections.abc import Sequence
from pathlib import Path

from r2gengpt.cli import bridge, console
from r2gengpt.cli.preparing import (
    OUTPUT,
    RELEASE,
    Arguments,
    Kind,
    Unread,
    flag,
    prepare_guard,
    section,
    switch,
    write_synthetic,
)
from r2gengpt.errors import InputError, spelt
from r2gengpt.files import check_no_input, open_regular
from r2gengpt.options import nearest

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


IU_XRAY = Kind(
    "iu_xray",
    "Reports of the IU X-ray release to an annotation file.",
    "--reports NLMCXR_reports.tgz --output iu.json",
    (
        flag("reports", "NLMCXR_reports.tgz, as released", metavar="FILE"),
        OUTPUT,
        flag("split_from", "annotation file whose studies and split to take, as R2Gen's", metavar="FILE"),
        flag(
            "layout",
            "image names: release (CXR1_1_IM-0001-3001.png), or r2gen (CXR1_1_IM-0001/0.png, as in --split_from)",
            choices=("release", "r2gen"),
            default="release",
        ),
        flag("images_dir", "leave out images that are not in this directory", metavar="DIR"),
        flag(
            "image_ext",
            "ending of image files in the release layout (with --images_dir others are found too)",
            default="png",
        ),
        flag(
            "min_views", "images a study needs; R2Gen's studies have at least 2", type=int, default=1, metavar="VIEWS"
        ),
        flag("seed", "of the random split without --split_from (70/10/20 by patient)", type=int, default=42),
    ),
    ("reports", "output"),
    (
        Unread("seed", lambda flags: flags["split_from"] is not None, "with `split_from`"),
        Unread("image_ext", lambda flags: flags["layout"] == "r2gen", "with `layout` r2gen"),
    ),
)
MIMIC_CXR = Kind(
    "mimic_cxr",
    "PhysioNet's csv and report files of MIMIC-CXR to an annotation file.",
    "--release DIR --output mimic.json",
    (
        flag("release", "directory of the -split and -metadata csv files", metavar="DIR"),
        OUTPUT,
        flag(
            "reports", "directory of the reports' files/, or mimic-cxr-reports.zip; default: --release", metavar="PATH"
        ),
        section("findings"),
        switch("one_image", "one example an image, as R2Gen has it, instead of one a study with all its views"),
        flag("images_dir", "leave out images that are not below this directory", metavar="DIR"),
        flag("image_ext", "ending of image files (with --images_dir others are found too)", default="jpg"),
    ),
    ("release", "output"),
)
REXRANK = Kind(
    "rexrank",
    "ReXrank's studies to an annotation file.",
    "--test FILE.json --output a.json",
    (
        *RELEASE,
        flag("test", "ReXrank's JSON of the studies to test on, as ReXRank_MIMICCXR_test.json", metavar="FILE"),
        flag("val", "another one, for the validation split", metavar="FILE"),
        section("both"),
    ),
    ("test", "output"),
)
CHEXPERT_PLUS = Kind(
    "chexpert_plus",
    "CheXpert Plus to an annotation file.",
    "--table FILE.csv --output a.json",
    (
        *RELEASE,
        flag("table", "df_chexpert_plus_240401.csv, packed with gzip or not", metavar="FILE"),
        flag("labels", "a file of labels of the release, as impression_fixed.json", metavar="FILE"),
        section("findings"),
    ),
    ("table", "output"),
)
REXGRADIENT = Kind(
    "rexgradient",
    "ReXGradient-160K to an annotation file.",
    "--release DIR --output a.json",
    (
        *RELEASE,
        flag(
            "release",
            "directory of the metadata files, or the one above it; --images_dir is the one that holds deid_png",
            metavar="DIR",
        ),
        section("findings"),
    ),
    ("release", "output"),
)
PADCHEST = Kind(
    "padchest",
    "PadChest, in Spanish, to an annotation file.",
    "--table FILE.csv --output a.json",
    (
        *RELEASE,
        flag("table", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, packed with gzip or not", metavar="FILE"),
        switch("physicians_only", "leave labels away that a program gave to the report"),
    ),
    ("table", "output"),
)
FILMS = Kind(
    "films",
    "Films with labels to an annotation file.",
    "Data_Entry_2017.csv --images DIR --output films.json",
    (
        flag(
            "table",
            "ChestX-ray14's Data_Entry_2017.csv, or a table with the columns image and labels",
            plain=True,
            metavar="FILE.csv",
        ),
        OUTPUT,
        flag("images", "directory that the films' names are relative to; those not there are left out", metavar="DIR"),
        flag("splits", "directory of ChestX-ray14's train_val_list.txt and test_list.txt", metavar="DIR"),
        flag("rules", "JSON file of what the labels of further sources say", metavar="FILE"),
        switch("compose", "give each film a report: what its note says of it, else sentences made of its labels"),
        flag("seed", "of the wordings of --compose", type=int, default=0),
    ),
    ("output", "images"),
    (Unread("seed", lambda flags: not flags["compose"], "without `compose`"),),
)
VERDICTS = Kind(
    "verdicts",
    "Texts that readers accepted or edited to an annotation file: ids hashed, split by patient, texts that may "
    "name somebody left out and listed.",
    "--verdicts verdicts.db --films DIR --salt_file salt --output verdicts.json",
    (
        flag("verdicts", "where they are kept: a file of SQLite, or postgresql://USER@HOST/NAME", metavar="FILE|URL"),
        flag("output", "annotation file to write; its image paths are relative to --films", metavar="FILE"),
        flag("films", "directory of the films, which are found by their SHA-256 under any name", metavar="DIR"),
        flag("salt_file", "secret by which ids and patients are hashed, 16 bytes or more", metavar="FILE"),
        flag("words", "further words that are no names, one a line", metavar="FILE"),
        switch("edited_only", "leave accepted drafts out: a model then learns from what readers changed alone"),
    ),
    ("verdicts", "films", "salt_file", "output"),
)
GUARD = Kind(
    "guard",
    "A film guard for a model with a finding head, from the films that it was trained on: it then notices what "
    "shows no chest, and films that are inverted, turned, tilted or cut off.",
    "--model save/head --annotation a.json --base_dir data",
    (
        flag("model", "the model: embedded, or a checkpoint or run directory", metavar="DIR"),
        flag("annotation", "annotation file with a training and a validation split", metavar="FILE"),
        flag("base_dir", "directory that its image paths are relative to", metavar="DIR"),
        flag("output", "file to write; default: film_guard.npz beside the weights", metavar="FILE"),
        flag("films", "films of each split, at most", type=int, default=600),
        flag("changed", "of these, films that are inverted, turned, tilted and cut too", type=int, default=160),
        flag("seed", "of tilts and cuts", type=int, default=0),
    ),
    ("model", "annotation", "base_dir"),
    work=prepare_guard,
    annotation=False,
)
SYNTHETIC = Kind(
    "synthetic",
    "Drawn chest films with reports, to try the program with.",
    "--output data/synthetic",
    (
        flag("output", "new directory to write", metavar="DIR"),
        flag("train", "train studies", type=int, default=64, metavar="STUDIES"),
        flag("val", "val studies", type=int, default=16, metavar="STUDIES"),
        flag("test", "test studies", type=int, default=16, metavar="STUDIES"),
        flag("seed", "fixes every pixel and word", type=int, default=0),
        flag("size", "side of the films", type=int, default=224, metavar="PIXELS"),
    ),
    ("output",),
    work=write_synthetic,
    annotation=False,
)
KINDS = {
    kind.name: kind
    for kind in (IU_XRAY, MIMIC_CXR, REXRANK, CHEXPERT_PLUS, REXGRADIENT, PADCHEST, FILMS, VERDICTS, GUARD, SYNTHETIC)
}


def _parse(kind: Kind, argv: Sequence[str]) -> Arguments:
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


def _check_not_among(output: Path, arguments: Arguments) -> None:
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
    console.start_logging(libraries=False)
    print(spelt(KINDS[kind].prepare(_parse(KINDS[kind], rest)), console.flag))
