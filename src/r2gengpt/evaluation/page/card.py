"""The card of a model as README.md and as a page, in a folder beside its results. Measures nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gengpt.data.study import Study
from r2gengpt.evaluation.card import CardTable, card_parts, markdown_of
from r2gengpt.evaluation.page.frame import rendered
from r2gengpt.evaluation.page.page import Thumbnail, thumbnail
from r2gengpt.evaluation.page.scores import ShownCell, ShownRow, ShownTable
from r2gengpt.files import write_whole

FOLDER = "card"
FILM_SIDE = 256
"""Pixels of a film in the gallery."""


def write_card(directory: Path, title: str, about: Mapping[str, str], studies: Sequence[Study]) -> None:
    """Write card/README.md and card/index.html, each whole.

    Args:
        directory: where scores.json, audit.json or both lie.
        title: heading of the card.
        about: what is known of the model and the data, by name.
        studies: whose films the gallery shows.

    Raises:
        InputError: a film of the gallery can't be read.
    """
    parts = card_parts(directory, about)
    by_id = {study.id: study for study in studies}
    wanted = [by_id[one.study] for part in parts for one in part.failures if one.study in by_id]
    films: dict[str, Thumbnail] = {
        study.id: thumbnail(study.image_paths[0], FILM_SIDE, study.dicom) for study in wanted
    }
    page = rendered("card.html", title=title, parts=parts, films=films, shown=shown_table)
    for name, content in (("README.md", markdown_of(title, parts)), ("index.html", page)):
        write_whole(directory / FOLDER / name, content, "output")


def shown_table(table: CardTable) -> ShownTable:
    """A table of the card as the page's templates take it."""
    rows = tuple(ShownRow(row[0], tuple(map(ShownCell, row[1:]))) for row in table.rows)
    return ShownTable(table.name, ("", *table.heads[1:]), rows)
