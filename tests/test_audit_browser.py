"""The audit's page and the model's card in a real browser (Chromium, where it is installed), wide and narrow."""

import shutil
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ViewportSize, sync_playwright

from r2gengpt.data.study import Study
from r2gengpt.evaluation.page.card import write_card
from test_audit import Scripted, audited, drawn, reads

__all__ = ["drawn"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def results(drawn: tuple[Study, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both pages; the card tells a hash, which no browser breaks by itself."""
    directory = tmp_path_factory.mktemp("results")
    audited(Scripted(reads), drawn, directory)
    write_card(directory, "first", {"model": "first", "model_sha256": "0123456789abcdef" * 4}, drawn)
    return directory


@pytest.mark.parametrize("name", ["audit.html", "card/index.html"])
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_breaks_no_rule_of_axe_and_does_not_scroll_sideways(
    name: str, theme: Literal["light", "dark"], width: int, results: Path
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        look: ViewportSize = {"width": width, "height": 844}
        page = browser.new_page(viewport=look, color_scheme=theme, bypass_csp=True)
        page.goto((results / name).as_uri())
        for details in page.locator("summary").all():
            details.click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
