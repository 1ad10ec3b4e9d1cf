"""Films of the patient's study before, on the web page: beside the study's, sent, recorded, removed. Judges no text."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from dicom_files import ROOT, data_of
from dicom_files import film as dicom
from page_parts import (
    NEEDS_BROWSER,
    SIZES,
    Scripted,
    browser,
    check_fits,
    check_manners,
    choose,
    draft,
    open_page,
    page_server,
    server_with_context,
)
from r2gengpt.reporter import Reporter
from serving_parts import film

__all__ = ["browser", "server_with_context"]  # fixtures
pytestmark = NEEDS_BROWSER
WEDGE = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))
NOW = data_of(dicom(WEDGE, StudyDate="20260301", PatientID="P-1"))


def before(patient: str = "P-1") -> bytes:
    """A film of the study 59 days before."""
    uids: Any = {"StudyInstanceUID": f"{ROOT}77", "SOPInstanceUID": f"{ROOT}78"}
    return data_of(dicom(WEDGE, StudyDate="20260101", PatientID=patient, **uids))


@pytest.fixture(params=SIZES, ids=["1280", "390"])
def page(request: pytest.FixtureRequest, browser: Browser, server: tuple[str, Scripted]) -> Iterator[Page]:
    """The page at this width; at the end it is not wider than its window."""
    with open_page(browser, server[0], viewport=request.param) as page:
        yield page
        check_fits(page)


def put(page: Page, label: str, *films: bytes) -> None:
    """Choose DICOM films as those of the study, or of the one before."""
    given: Any = [{"name": f"{at}.dcm", "mimeType": "", "buffer": data} for at, data in enumerate(films)]
    page.get_by_label(label).set_input_files(given)


def add_prior(page: Page, *films: bytes) -> None:
    """Choose PNG films of the study before."""
    given: Any = [{"name": f"old{at}.png", "mimeType": "image/png", "buffer": one} for at, one in enumerate(films)]
    page.get_by_label("Add prior films").set_input_files(given)


def write(page: Page) -> None:
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#status")).to_contain_text("The draft is finished")
    expect(page.locator("#evidence")).not_to_be_empty()


def names(page: Page) -> list[str | None]:
    return [one.get_attribute("aria-label") for one in page.locator("canvas").all() if one.is_visible()]


def test_films_of_the_study_before_stand_beside_the_studys_and_go_into_draft_and_record(
    page: Page, server: tuple[str, Scripted]
) -> None:
    put(page, "Choose images", NOW)
    expect(page.locator("#film")).to_be_visible()
    put(page, "Add prior films", before())
    expect(page.locator("#film2")).to_be_visible()
    assert names(page) == ["View 1 of 1, 64 by 48 pixels", "Prior 1 of 1, 64 by 48 pixels"]
    expect(page.locator(".tag")).to_have_text(["Current, 2026-03-01", "Prior, 2026-01-01"])
    write(page)
    job = server[1].jobs[-1]
    assert job.pixels.shape[0] == 1
    assert job.earlier is not None
    assert job.earlier.shape[0] == 1
    assert job.context.prior_days == 59
    page.get_by_text("How this draft was made").click()
    digest = hashlib.sha256(before()).hexdigest()
    expect(page.locator("#made-list")).to_contain_text("Prior image 1")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as JSON").click()
    record = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert [one["sha256"] for one in record["provenance"]["prior_inputs"]] == [digest]


def test_no_map_of_the_studys_sentences_is_laid_over_a_film_of_the_study_before(page: Page) -> None:
    choose(page, film(10, size=64))
    add_prior(page, film(10, size=64))
    expect(page.locator("#film2")).to_be_visible()
    write(page)
    expect(page.locator("#evidence")).to_contain_text("2 of 3 sentences have evidence")
    page.locator(".sentence").first.focus()
    script = """(name) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
      const film = document.getElementById(name);
      done([...film.getContext("2d").getImageData(film.width / 2, film.height / 2, 1, 1).data.slice(0, 3)]);
    })))"""
    (red, _, blue), (first, second, third) = (page.evaluate(script, name) for name in ("film", "film2"))
    assert red - blue > 60, "the map's middle should be orange"
    assert first == second == third


def test_a_prior_film_makes_the_draft_stale_and_goes_with_the_study(page: Page) -> None:
    draft(page, film(1))
    add_prior(page, film(2), film(3))
    expect(page.locator("#stale")).to_contain_text("was changed after this draft")
    expect(page.locator("#prior-views").get_by_role("listitem")).to_have_count(2)
    page.get_by_role("button", name="Remove prior 1").click()
    expect(page.locator("#prior-views").get_by_role("listitem")).to_have_count(1)
    page.get_by_role("button", name="Remove view 1").click()
    expect(page.locator("#viewer")).to_be_hidden()
    choose(page, film(4))
    expect(page.locator("#prior-views").get_by_role("listitem")).to_have_count(0)
    add_prior(page, film(5))
    expect(page.locator("#film2")).to_be_visible()
    page.get_by_role("button", name="New study").click()
    choose(page, film(6))
    expect(page.locator("#prior-views")).to_be_hidden()
    expect(page.locator("#film2")).to_be_hidden()


def test_after_a_reload_a_draft_fits_only_with_the_same_prior_films(page: Page) -> None:
    choose(page, film(1))
    add_prior(page, film(2))
    expect(page.locator("#film2")).to_be_visible()
    write(page)
    page.reload()
    choose(page, film(1))
    expect(page.locator("#stale")).not_to_be_empty()
    add_prior(page, film(3))
    expect(page.locator("#prior-views").get_by_role("listitem")).to_have_count(1)
    expect(page.locator("#stale")).not_to_be_empty()
    page.get_by_role("button", name="Remove prior 1").click()
    add_prior(page, film(2))
    expect(page.locator("#stale")).to_be_empty()


def test_a_film_that_is_added_later_moves_no_film_that_is_seen(page: Page) -> None:
    choose(page, film(1))
    add_prior(page, film(2))
    expect(page.locator("#film2")).to_be_visible()
    choose_more: Any = [{"name": "b.png", "mimeType": "image/png", "buffer": film(3)}]
    page.get_by_label("Choose images").set_input_files(choose_more)
    expect(page.locator("#views").get_by_role("listitem")).to_have_count(2)
    assert names(page) == ["View 2 of 2, 48 by 48 pixels", "Prior 1 of 1, 48 by 48 pixels"]


def test_films_may_be_dropped_on_the_place_of_prior_films(page: Page) -> None:
    choose(page, film(1))
    drop = """(bytes) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "film.png", { type: "image/png" }));
      const how = { dataTransfer: data, bubbles: true, cancelable: true };
      document.querySelector("#prior-drop label").dispatchEvent(new DragEvent("drop", how));
    }"""
    page.evaluate(drop, list(film(2)))
    expect(page.locator("#prior-views").get_by_role("listitem")).to_have_count(1)
    expect(page.locator("#views").get_by_role("listitem")).to_have_count(1)


def test_prior_films_of_another_patient_are_refused_in_words(browser: Browser, server: tuple[str, Scripted]) -> None:
    with open_page(browser, server[0], refused=True) as page:
        put(page, "Choose images", NOW)
        expect(page.locator("#film")).to_be_visible()
        put(page, "Add prior films", before("P-2"))
        expect(page.locator("#film2")).to_be_visible()
        page.get_by_role("button", name="Write draft").click()
        expect(page.get_by_role("alert")).to_contain_text("study and prior")
        expect(page.locator("#written")).to_be_hidden()


def test_a_model_that_reads_no_study_before_shows_no_place_for_its_films(browser: Browser, served: Reporter) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served.built.processor, "context_fields", ())
        with page_server(served) as (address, _), open_page(browser, address) as page:
            expect(page.locator("#model-name")).to_have_text("best")
            choose(page, film(1))
            expect(page.locator("#prior-drop")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["1280", "390"])
def test_axe_finds_nothing_with_prior_films(
    browser: Browser, server: tuple[str, Scripted], theme: Any, size: Any
) -> None:
    with open_page(browser, server[0], color_scheme=theme, viewport=size, bypass_csp=True) as page:
        put(page, "Choose images", NOW)
        expect(page.locator("#film")).to_be_visible()
        for state in ("no prior film", "a prior film"):
            check_manners(page, state)
            put(page, "Add prior films", before())
            expect(page.locator("#film2")).to_be_visible()
