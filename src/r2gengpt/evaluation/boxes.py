"""Evidence maps of a test's sentences against the annotation's boxes: the pointing game. Makes no map.

Source: Zhang et al. 2018, "Top-down neural attention by excitation backprop" (the pointing game).
"""

from collections.abc import Sequence

import numpy as np

from r2gengpt.confidence.maps import Evidence, KeptBox
from r2gengpt.data.boxes import Marked
from r2gengpt.data.study import Study
from r2gengpt.evaluation.findings import Json, group_numbers, scored
from r2gengpt.films.reader import load_image
from r2gengpt.metrics import detection
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.metrics.ngrams import Floats


def measured_boxes(maps: Sequence[Evidence], studies: Sequence[Study], box: KeptBox) -> Json:
    """How much of the maps of sentences lies in the boxes of what they assert; empty where none has a box.

    A map without a value above 0 has nothing in the box.

    Args:
        maps: of some studies.
        studies: with their boxes.
        box: what of a film of a width and height the model sees.
    """
    by_id = {study.id: (study, group) for study, group in zip(studies, group_numbers(studies).tolist(), strict=True)}
    rows: list[tuple[str, int, float, float, float]] = []
    for evidence in maps:
        study, group = by_id[evidence.id]
        covers = covered(study, evidence.grid, box)
        for sentence in evidence.sentences if covers else ():
            values = np.maximum(evidence.view_maps(sentence)[0], 0.0)
            said = label_report(sentence.text)
            for name, cover in covers.items():
                if said.get(name) == Label.POSITIVE:
                    mass = float(values @ cover / values.sum()) if values.any() else 0.0
                    peak = float(cover[values.argmax()]) if values.any() else 0.0
                    rows.append((name, group, mass, peak, float(cover.mean())))
    names = sorted({name for name, *_ in rows})
    by_name = {name: _pointing([row for row in rows if row[0] == name]) for name in names}
    return {**_pointing(rows), "by_observation": by_name} if rows else {}


def _pointing(rows: Sequence[tuple[str, int, float, float, float]]) -> Json:
    """Means over pairs of sentence and observation, with intervals."""
    _, groups, *columns = zip(*rows, strict=True)
    measures = {
        name: detection.mean(np.array(values)) for name, values in zip(("mass", "peak", "chance"), columns, strict=True)
    }
    return {"n": len(rows), **scored(measures, np.array(groups))}


def covered(study: Study, grid: tuple[int, int], kept: KeptBox) -> dict[str, Floats]:
    """Observation → the share of each cell of the grid that its boxes cover, row by row; nothing without boxes."""
    if not study.boxes:
        return {}
    width, height = load_image(study.image_paths[0], dicom=study.dicom).size
    left, top, right, bottom = kept((width, height))
    rows = np.linspace(top / height, bottom / height, grid[0] + 1)
    columns = np.linspace(left / width, right / width, grid[1] + 1)

    def cover(box: Marked) -> Floats:
        tall, wide = _overlap(rows, box.top, box.height), _overlap(columns, box.left, box.width)
        return np.outer(tall, wide).ravel()

    names = dict.fromkeys(box.name for box in study.boxes)
    return {
        name: np.minimum(np.sum([cover(box) for box in study.boxes if box.name == name], axis=0), 1.0) for name in names
    }


def _overlap(edges: Floats, start: float, length: float) -> Floats:
    """The share of each cell between neighbouring edges that a stretch covers."""
    shared = np.minimum(edges[1:], start + length) - np.maximum(edges[:-1], start)
    found: Floats = np.maximum(shared, 0.0) / np.diff(edges)
    return found
