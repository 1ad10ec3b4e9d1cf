"""Draws the studies of a source that are used, by a hash of their ids: the same on every machine. Trains nothing.

    python runs/embedded/draw.py --annotation ALL.json --output MEASURED.json --source kermany --val 120 --test 40

Studies of other sources stay as they are, and all training studies where `--train` is not given.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

Study = dict[str, Any]


def drawn(studies: list[Study], source: str, most: int | None) -> list[Study]:
    """All studies but those of `source` whose ids' SHA-256 is not among the `most` smallest; their order stays."""
    of_source = [study["id"] for study in studies if study.get("source") == source]
    kept = set(sorted(of_source, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:most])
    return [study for study in studies if study.get("source") != source or study["id"] in kept]


def main() -> None:
    """Write the annotation file with fewer studies of the source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--annotation", type=Path, required=True, help="of `r2gengpt prepare films`")
    parser.add_argument("--output", type=Path, required=True, help="the smaller one")
    parser.add_argument("--source", required=True, help="which source to draw from")
    parser.add_argument("--train", type=int, help="how many training studies of it stay (default: all)")
    parser.add_argument("--val", type=int, required=True, help="how many val studies of it stay")
    parser.add_argument("--test", type=int, required=True, help="how many test studies of it stay")
    args = parser.parse_args()
    splits = json.loads(args.annotation.read_text(encoding="utf-8"))
    for split, most in (("train", args.train), ("val", args.val), ("test", args.test)):
        splits[split] = drawn(splits[split], args.source, most)
        print(f"{split}: {len(splits[split])} studies")
    args.output.write_text(json.dumps(splits, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
