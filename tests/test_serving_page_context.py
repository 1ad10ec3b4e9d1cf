"""What is known of a study beside its images, on the web page: shown where the model reads it, sent, kept, emptied."""

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from page_parts import (
    NEEDS_BROWSER,
    Scripted,
    browser,
    check_fits,
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
WIDTHS = (1280, 390)
FIELDS = ("age", "sex", "technique", "comparison")


def fill(page: Page) -> None:
    page.locator("#indication").fill("Cough")
    page.get_by_text("More of the study").click()
    page.locator("#age").fill("63")
    page.locator("#sex").select_option("F")
    page.locator("#technique").fill("Erect")
    page.locator("#comparison").fill("None")
    page.get_by_role("button", name="Prior report").click()
    page.locator("#prior").fill("Clear lungs.")
    page.locator("#prior-days").fill("41")


@pytest.mark.parametrize("width", WIDTHS)
def test_all_that_is_filled_in_reaches_the_prompt_and_fits_the_window(
    browser: Browser, server: tuple[str, Scripted], width: int
) -> None:
    with open_page(browser, server[0], viewport={"width": width, "height": 900}) as page:
        choose(page, film(1))
        fill(page)
        check_fits(page)
        draft(page, film(2))
    words = "Age: 63. Sex: F. Indication: Cough. Technique: Erect. Comparison: None. "
    prior = "Prior report, 41 days before: Clear lungs."
    assert str(server[1].jobs[-1].instruction).endswith(f" {words}{prior}")


def test_fields_outlive_a_reload_and_a_new_study_empties_them(browser: Browser, server: tuple[str, Scripted]) -> None:
    with open_page(browser, server[0]) as page:
        fill(page)
        page.reload()
        expect(page.locator("#technique")).to_have_value("Erect")
        expect(page.locator("#prior-days")).to_have_value("41")
        page.get_by_role("button", name="New study").click()
        for name in FIELDS:
            expect(page.locator(f"#{name}")).to_have_value("")


def test_a_changed_field_makes_the_draft_stale(browser: Browser, server: tuple[str, Scripted]) -> None:
    with open_page(browser, server[0]) as page:
        draft(page, film(1))
        page.get_by_text("More of the study").click()
        page.locator("#age").fill("64")
        expect(page.locator("#stale")).to_contain_text("was changed after this draft")


def test_a_model_without_context_shows_no_fields_but_the_indication(browser: Browser, served: Reporter) -> None:
    with page_server(served) as (address, _), open_page(browser, address) as page:
        expect(page.locator("#model-name")).to_have_text("best")
        expect(page.get_by_text("More of the study")).to_be_hidden()
        page.get_by_role("button", name="Prior report").click()
        expect(page.locator("#prior-hint")).to_contain_text("The model does not get it")
        expect(page.locator("#prior-days")).to_be_hidden()
