"""A drill: our objects in a real OHIF, over Debian's Orthanc, in headless Chromium; text and regions are on the screen.

npm fetches the viewer into a temporary directory. The test leaves screenshots there, for who runs it with `--basetemp`.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from archive_parts import LONG, MISSING, orthanc
from dicom_files import ROOT, data_of, film
from film_parts import EFFUSION, REPORT
from ohif_parts import fetch_viewer, served_viewer
from page_parts import CHROMIUM
from r2gengpt.clinical.archive.run import document_of
from r2gengpt.films.dicom.header import read_header
from r2gengpt.films.regions import Region
from r2gengpt.settings import OBJECT_FORMS

pytestmark = [
    pytest.mark.drill,
    pytest.mark.pacs,
    pytest.mark.skipif(bool(MISSING) or not CHROMIUM.exists(), reason=f"needs {', '.join(MISSING) or 'chromium'}"),
]
EXAMPLE = Path(__file__).parents[1] / "src" / "r2gengpt" / "examples" / "effusion.jpg"
OUTLINE = ((200, 200), (280, 200), (280, 260), (200, 260), (200, 200))
SERIES = {"sr": 9101, "pdf": 9102, "measurement-sr": 9103, "secondary-capture": 9104}
GREEN = (0, 255, 0)
"""Of OHIF's regions of a report."""


def objects() -> Iterator[bytes]:
    """An example film, and a draft of it in every form."""
    pixels = np.asarray(Image.open(EXAMPLE).convert("L"))
    made = data_of(film(pixels, 8))
    yield made
    report = replace(REPORT, text="There is a pleural effusion.", sentences=())
    region = Region("There is a pleural effusion.", EFFUSION.name, 0, OUTLINE)
    for form in OBJECT_FORMS:
        regions = [region] if form == "measurement-sr" else []
        yield document_of(report, [read_header(made, "x")], "model", "ab" * 32, form, regions=regions).data


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """OHIF, open at the study."""
    place = tmp_path_factory.mktemp("ohif")
    try:
        built = fetch_viewer(place)
    except RuntimeError as error:
        pytest.skip(str(error))
    with orthanc(place / "orthanc") as archive:
        for made in objects():
            requests.post(f"{archive.url}/instances", data=made, timeout=LONG).raise_for_status()
        with served_viewer(built, archive.url) as address, sync_playwright() as playwright:
            drawn = ["--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=drawn)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"{address}/viewer?StudyInstanceUIDs={ROOT}1")
            page.get_by_text("Skip all").click(timeout=1000 * LONG)
            yield page
            browser.close()


def opened(page: Page, form: str) -> None:
    """Put the series of a form into the viewport."""
    page.get_by_text(f"S:{SERIES[form]}", exact=True).dblclick()


def shot(page: Page, path: Path) -> npt.NDArray[np.uint8]:
    """The screen, (rows, columns, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot(path=path))).convert("RGB"))


def test_ohif_draws_an_evidence_region_where_it_lies_and_names_its_finding(viewer: Page, tmp_path: Path) -> None:
    opened(viewer, "measurement-sr")
    expect(viewer.get_by_text("AI draft, pleural effusion: 91.42 %")).to_be_visible(timeout=1000 * LONG)
    screen = shot(viewer, tmp_path / "region.png")
    box = viewer.locator("canvas").last.bounding_box()
    assert box is not None
    size = min(box["width"], box["height"])  # the film is square and fills the height
    left, top = box["x"] + (box["width"] - size) / 2, box["y"] + (box["height"] - size) / 2
    rows, columns = np.nonzero((np.abs(screen.astype(int) - GREEN) < 60).all(axis=2))
    seen = columns.min(), rows.min()
    wanted = left + 200 / 384 * size, top + 200 / 384 * size
    assert np.abs(np.subtract(seen, wanted)).max() < 6, (seen, wanted)


def test_ohif_shows_the_text_of_a_structured_report(viewer: Page, tmp_path: Path) -> None:
    opened(viewer, "sr")
    for words in ("There is a pleural effusion.", "AI draft, not verified, research only. Drafted", "left out: lung"):
        expect(viewer.get_by_text(words).first).to_be_visible(timeout=1000 * LONG)
    shot(viewer, tmp_path / "text.png")


def test_ohif_shows_the_picture_between_its_warnings(viewer: Page, tmp_path: Path) -> None:
    opened(viewer, "secondary-capture")
    expect(viewer.get_by_text("L:128").or_(viewer.get_by_text("128", exact=True)).first).to_be_visible(
        timeout=1000 * LONG
    )
    screen = shot(viewer, tmp_path / "picture.png")
    middle = screen[:, 640:880].min(axis=2)
    white = np.flatnonzero((middle > 250).mean(axis=1) > 0.5)
    assert white.min() < 80, "a bar above"
    assert white.max() > 740, "and one below"
