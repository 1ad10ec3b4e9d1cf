"""Adds studies with drawn verdicts to an annotation file, so that a writer learns to believe its hints.

Each is a training film with labels drawn by chance and a report composed from them. Most have just the observations
that the finding head tells from chance, as the hints of a trained model do. Not for training a head: the labels are not
the film's.

    python runs/embedded/rehearse.py --annotation OUT/annotation.json --model OUT/head/best --output OUT/rehearsed.json
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r2gengpt.confidence.findings import read_scales
from r2gengpt.data.prepare.composing import compose_report
from r2gengpt.data.prepare.wordings import PRESENT
from r2gengpt.files import whole_file
from r2gengpt.text.observations import NO_FINDING, OF_THE_FILM

FILMS = {"nih14": 571, "kermany": 100, "hannover": 40}
"""How many films of a source are drawn for."""
SOURCE = "rehearsed"
NORMAL, SAME_NAMES = 0.35, 0.7
"""Share of films called normal, and of those with just the assessed observations."""
OF_NORMAL, OF_ABNORMAL = (0.03, 0.15), (0.4, 0.25)
"""Chances that an observation is likely and that it is possible."""


def drawn_labels(assessed: Sequence[str], of_film: Mapping[str, float], rng: random.Random) -> dict[str, float]:
    """Labels by chance: 1 is likely, .5 possible (no report tells it), 0 unlikely. View and age stay the film's."""
    names = [name for name in PRESENT if name in assessed]
    if rng.random() > SAME_NAMES:
        names = [name for name in PRESENT if rng.random() < rng.choice((0.3, 0.6, 1.0))]
    is_normal = rng.random() < NORMAL
    likely, possible = OF_NORMAL if is_normal else OF_ABNORMAL
    if len(names) > 8:
        likely /= 2
    labels: dict[str, float] = {NO_FINDING: float(is_normal)}
    for name in names:
        at = rng.random()
        labels[name] = 1.0 if at < likely else 0.5 if at < likely + possible else 0.0
    return labels | {name: of_film[name] for name in OF_THE_FILM if name in of_film}


def rehearsed(studies: Sequence[dict[str, Any]], assessed: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """One study a film of `FILMS`, with its own id and the source `SOURCE`."""
    rng, made = random.Random(seed), []
    for source, most in FILMS.items():
        films = [study for study in studies if study.get("source") == source]
        for study in rng.sample(films, min(most, len(films))):
            labels = drawn_labels(assessed, study["labels"], rng)
            report = compose_report(labels, f"{seed} {study['id']} rehearsed")
            if report:
                name = f"{study['id']}-{SOURCE}-{seed}"
                made.append({**study, "id": name, "report": report, "labels": labels, "source": SOURCE} | {"boxes": []})
    return made


def main() -> None:
    """Read, draw, write whole, print the count."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--annotation", type=Path, required=True, help="annotation file with labels and composed reports"
    )
    parser.add_argument("--model", type=Path, required=True, help="checkpoint directory with findings.json")
    parser.add_argument("--output", type=Path, required=True, help="the annotation file to write")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    args = parser.parse_args()
    annotation = json.loads(args.annotation.read_text(encoding="utf-8"))
    assessed = [scale.name for scale in read_scales(args.model, "model") if scale.assessed]
    added = rehearsed(annotation["train"], assessed, args.seed)
    annotation["train"] += added
    with whole_file(args.output) as target:
        target.write_text(json.dumps(annotation, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(added)} studies added; assessed: {', '.join(assessed)}")


if __name__ == "__main__":
    main()
