"""What a model's film guard says of films as they are and made odd, and of pictures in folders that show no chest.

    python benchmarks/film_guard.py --annotation A.json --base_dir DIR [--model embedded] [--films 100] [FOLDER...]

Films are of the annotation's test split, which no guard was fitted to.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import r2gengpt
from r2gengpt.confidence.film_guard import UPRIGHT
from r2gengpt.data.annotation import read_annotation
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.reader import load_image
from r2gengpt.training.guarding import changed, drawn

FORCED = DicomChoice(force=True)


def pictures(annotation: str, base_dir: str, count: int) -> Iterator[tuple[str, Image.Image]]:
    """Films of the test split as they are, by source, and a quarter of them made odd, by kind."""
    rng = np.random.default_rng(1)
    studies = drawn(read_annotation(annotation, base_dir, ("test",))["test"], count)
    for place, study in enumerate(studies):
        film = load_image(study.image_paths[0])
        yield f"{UPRIGHT} {study.source}", film
        if place % 4 == 0:
            yield from changed(film, rng)


def folder(path: Path) -> Iterator[tuple[str, Image.Image | None]]:
    """The pictures of a folder, under its name; None for one that is refused before anything looks at it."""
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in (".png", ".jpg", ".jpeg"):
            try:
                yield path.name, load_image(file)
            except InputError:
                yield path.name, None


def main() -> None:
    """Parse, look, print a row a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--annotation", required=True)
    parser.add_argument("--base_dir", required=True)
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--runtime", default="auto", choices=("auto", "torch", "openvino"))
    options = parser.parse_args()
    reporter = r2gengpt.load(options.model, runtime=options.runtime)
    for source in (pictures(options.annotation, options.base_dir, options.films), *map(folder, options.folders)):
        found: dict[str, Counter[str]] = {}
        for name, picture in source:
            doubts = () if picture is None else reporter.sight([picture], choice=FORCED).doubts
            told = ", ".join(one.kind + (" refused" if one.refused else "") for one in doubts) or "none"
            found.setdefault(name, Counter())["unreadable" if picture is None else told] += 1
        for name, counts in found.items():
            told = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
            print(f"| {name} | {sum(counts.values())} | {told} |", flush=True)


if __name__ == "__main__":
    main()
