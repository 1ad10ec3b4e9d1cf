"""The films that ship with the program: each is credited, and the demo tells what is known of it."""

import re
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "src" / "r2gengpt" / "examples"


def test_each_example_film_has_its_label_source_and_licence_and_no_other_is_named() -> None:
    rows = re.findall(r"^\| (\S+\.jpg) \| (.+?) \| (.+?) \| (.+?) \|$", (EXAMPLES / "CREDITS.md").read_text(), re.M)
    assert {row[0] for row in rows} == {path.name for path in EXAMPLES.glob("*.jpg")}
    assert all(all(row) for row in rows)
    assert not list(EXAMPLES.glob("*.png")), "the demo shows *.jpg"


def test_no_example_film_holds_more_than_pixels() -> None:
    for path in EXAMPLES.glob("*.jpg"):
        with Image.open(path) as film:
            assert not film.getexif()
            assert max(film.size) <= 384
