"""Evidence maps of a test's studies, and maps as files: JSON lines, and a picture for each sentence and view.

The maps are made in `confidence.evidence`; the report page is not drawn here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from r2gengpt.confidence.evidence import SMALLEST_GAIN
from r2gengpt.confidence.maps import Evidence, KeptBox, draw_heat_map
from r2gengpt.data.loading import StudyDataset
from r2gengpt.errors import InputError
from r2gengpt.files import whole_file, write_whole
from r2gengpt.films.cell.pool import load_image
from r2gengpt.films.containers import DicomChoice
from r2gengpt.progress import Bar
from r2gengpt.reporter import Reporter
from r2gengpt.text.written import json_text

LARGEST_PICTURE = 1024
"""Pixels: the longer side of a picture. A larger film is reduced."""


def chosen_places(values: Sequence[float], count: int) -> list[int]:
    """The places of the best, the median and the worst values, a third each of `count`, in order of place.

    With three, those that the report page shows.

    >>> chosen_places([0.5, 0.1, 0.9, 0.3, 0.7], 3)
    [0, 1, 2]
    """
    order = sorted(range(len(values)), key=lambda place: -values[place])
    if count >= len(order):
        return sorted(order)
    best, worst, middle = (count + 2) // 3, (count + 1) // 3, count // 3
    start = (len(order) - 1) // 2 - max(middle - 1, 0) // 2
    start = max(best, min(start, len(order) - worst - middle))
    return sorted([*order[:best], *order[start : start + middle], *order[len(order) - worst :]])


def evidence_of_studies(
    reporter: Reporter, dataset: StudyDataset, reports: Sequence[str], places: Sequence[int], method: str
) -> Iterator[Evidence]:
    """The maps of the reports at some places of a data set, with a bar on stderr; its images are read.

    Raises:
        InputError: an image cannot be read, or the model has no such maps.
    """
    for place in Bar(places, desc="evidence"):
        yield reporter.maps.of(reporter.prompts([dataset[(0, place)]]), reports[place], method)


def write_evidence(path: Path, found: Iterable[Evidence]) -> None:
    """Write one JSON object a study and line, whole or not at all.

    Raises:
        InputError: the file can't be written.
    """
    write_whole(path, "".join(json_text(evidence.to_json()) + "\n" for evidence in found), "output")


def picture(evidence: Evidence, sentence: int, view: int, film: Image.Image, box: KeptBox) -> Image.Image:
    """A view under the map of a sentence; a map without evidence stays faint: `SMALLEST_GAIN` is the least full scale.

    Args:
        evidence: of the study.
        sentence: its number, from 0.
        view: its number, from 0.
        film: the view, upright.
        box: what of a film of a width and height the encoder sees.
    """
    maps = evidence.view_maps(evidence.sentences[sentence])
    values = maps[view if len(maps) > 1 else 0]
    return draw_heat_map(values, evidence.grid, film, largest=max(SMALLEST_GAIN, *values), box=box(film.size))


def read_films(paths: Sequence[Path], choice: DicomChoice) -> list[Image.Image]:
    """The views to draw on, at most `LARGEST_PICTURE` pixels a side.

    Raises:
        InputError: an image can't be read.
    """
    films = [load_image(path, size=LARGEST_PICTURE // 2, dicom=choice) for path in paths]
    for film in films:
        film.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE), Image.Resampling.LANCZOS)
    return films


def write_pictures(
    directory: Path,
    evidence: Evidence,
    films: Sequence[Image.Image],
    box: KeptBox,
    made_from: Mapping[str, Any],
) -> None:
    """Write `sentence-S-view-V.png` for each sentence and view, then `evidence.json`; earlier pictures are removed.

    Args:
        directory: where to; made if it is not there.
        evidence: of the study.
        films: its views, upright.
        box: as in `picture`.
        made_from: what else evidence.json says, before the maps.

    Raises:
        InputError: a file can't be written.
    """
    record = {**made_from, **evidence.to_json()}
    written: set[str] = set()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number, sentence in enumerate(record["sentences"]):
            names = [f"sentence-{number + 1}-view-{view + 1}.png" for view in range(len(films))]
            for view, (name, film) in enumerate(zip(names, films, strict=True)):
                with whole_file(directory / name) as temporary:
                    picture(evidence, number, view, film, box).save(temporary, "PNG")
            sentence["pictures"] = names
            written |= set(names)
        for old in directory.glob("sentence-*-view-*.png"):
            if old.name not in written:
                old.unlink()
        write_whole(directory / "evidence.json", json_text(record, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="evidence", value=directory) from None
