"""Writes an annotation file with some films of one source, drawn by chance, so many a split. Reads no film.

python runs/embedded/some_films.py --annotation OUT/annotation.json --train 320 --val 60 --output SOME.json
"""

import argparse
import json
import random
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

from r2gengpt.files import whole_file


def drawn(
    studies: list[dict[str, Any]], source: str, count: int | None, seed: int, *, whole_patients: bool = False
) -> list[dict[str, Any]]:
    """At most so many studies of a source, in their order; None: all of them. Whole patients may be fewer studies."""
    own = [study for study in studies if study.get("source") == source]
    if count is None or count >= len(own):
        return own
    if whole_patients:
        sizes = Counter(study["patient"] for study in own)
        patients = sorted(sizes)
        random.Random(seed).shuffle(patients)
        sums = accumulate(sizes[patient] for patient in patients)
        chosen = {patient for patient, so_far in zip(patients, sums, strict=True) if so_far <= count}
        return [study for study in own if study["patient"] in chosen]
    kept = set(random.Random(seed).sample(range(len(own)), count))
    return [study for place, study in enumerate(own) if place in kept]


def main() -> None:
    """Read, draw, write whole, print the counts."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--annotation", type=Path, required=True, help="annotation file with composed reports")
    parser.add_argument("--source", default="nih14", help="whose films")
    parser.add_argument("--train", type=int, help="films of the train split; left out: all")
    parser.add_argument("--val", type=int, help="films of the val split; left out: all")
    parser.add_argument("--whole_patients", action="store_true", help="draw patients, each with all films")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--output", type=Path, required=True, help="the annotation file to write")
    args = parser.parse_args()
    annotation = json.loads(args.annotation.read_text(encoding="utf-8"))
    most = {"train": args.train, "val": args.val, "test": None}
    kept = {
        split: drawn(annotation[split], args.source, most[split], args.seed, whole_patients=args.whole_patients)
        for split in most
    }
    with whole_file(args.output) as target:
        target.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(", ".join(f"{split} {len(studies)}" for split, studies in kept.items()))


if __name__ == "__main__":
    main()
