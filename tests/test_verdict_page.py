"""The page and the command of a review: every value escaped, no text of a patient, readable wide and narrow."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from conftest import Outcome
from r2gengpt.evaluation.page.review import write_review_page
from r2gengpt.evaluation.page.review_tables import review_lines
from r2gengpt.settings import VerdictsConfig
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.review.review import Review, review
from report_pages import Page
from test_verdict_store import address, postgres
from verdict_parts import TEXTS, Clinic, Desk, kept

__all__ = ["address", "postgres"]  # fixtures
Run = Callable[[list[str]], Outcome]
CONFIG = VerdictsConfig(verdicts="verdicts.db")
ODD = 'Maker <script>alert("x")</script> & Sons'
CHANGED = Clinic(accepted=0.3, lateral=0.7, brightness=1.5, devices=(ODD,), texts=TEXTS[:1], model="<b>other</b>")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def drifted() -> Review:
    return review(kept((150, Clinic()), (150, CHANGED)), CONFIG)


def written(found: Review, path: Path) -> str:
    write_review_page(path, found, "postgresql://reader:***@host/db")
    return path.read_text(encoding="utf-8")


def test_the_page_opens_with_the_sentence_and_has_every_part_as_a_table(drifted: Review, tmp_path: Path) -> None:
    page = Page(written(drifted, tmp_path / "review.html"))
    assert drifted.headline in page.text
    weeks, films = page.tables["Verdicts by week"], page.tables["Films: what comes in"]
    assert sum(int(row[1]) for row in weeks[1:]) == 300
    assert {row[0]: row[1] for row in films[1:]}["view"] == "alarm"
    assert {f"By {name}" for name in ("view", "device", "age", "sex", "model")} <= set(page.tables)
    assert "postgresql://reader:***@host/db" in page.text


def test_what_films_say_of_themselves_is_text_on_the_page(drifted: Review, tmp_path: Path) -> None:
    text = written(drifted, tmp_path / "review.html")
    assert "<script" not in text
    assert "<b>other" not in text
    assert ODD in Page(text).tables["By device"][1][0]


def test_the_page_holds_no_text_and_no_hash_of_a_film_or_patient(drifted: Review, tmp_path: Path) -> None:
    text = written(drifted, tmp_path / "review.html") + json.dumps(drifted.to_json())
    told = [*TEXTS, "report-1", f"{1:064x}", f"{0:032x}", f"{1:032x}"]
    assert [one for one in told if one in text] == []


def test_a_terminal_is_told_each_alarm_with_both_periods(drifted: Review) -> None:
    lines = review_lines(drifted)
    assert lines[0] == drifted.headline
    assert any(line.startswith("alarm: view: PA ") and " now (PSI " in line for line in lines)
    assert any(line.startswith("acceptance differs by model (p") for line in lines)
    assert len(lines) == len(set(lines))


def test_numbers_of_old_weeks_are_folded_and_all_are_there(tmp_path: Path) -> None:
    found = review(kept((900, Clinic())), CONFIG)
    text = written(found, tmp_path / "review.html")
    page = Page(text)
    newer, older = page.tables["Verdicts by week"], page.tables["Verdicts by week, older"]
    assert [row[0] for row in (*newer[1:], *older[1:])] == [f"{span.first}" for span in reversed(found.spans)]
    assert text.count("<details>") == 1
    assert "900 drafts of " in page.text


def test_a_store_without_a_verdict_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = Page(written(review([], CONFIG), tmp_path / "review.html"))
    assert "No verdict is kept yet." in page.text
    assert page.tables == {}


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_breaks_no_rule_of_axe_and_does_not_scroll_sideways(
    drifted: Review, tmp_path: Path, theme: Literal["light", "dark"], width: int
) -> None:
    pytest.importorskip("playwright")
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    few = review(kept((12, Clinic(named=False))), CONFIG)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, found in (("drifted", drifted), ("few", few), ("none", review([], CONFIG))):
            written(found, tmp_path / f"{name}.html")
            page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True)
            page.goto((tmp_path / f"{name}.html").as_uri())
            result = Axe().run(page)
            assert result.violations_count == 0, result.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


# ------------------------------------------------------------------ the command


@pytest.fixture
def full(address: str) -> str:
    """The address of a store with forty verdicts."""
    store = opened_store(address)
    for facts, given, when in Desk().drawn(40):
        store.keep(facts, given, when)
    store.close()
    return address


def test_the_command_prints_the_sentence_and_writes_the_page(run_cli: Run, full: str, tmp_path: Path) -> None:
    done = run_cli(["review", "--verdicts", full, "--output", str(tmp_path / "out" / "review.html")])
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("Readers accepted ")
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "review.html")
    assert done.stdout.splitlines()[0] in Page((tmp_path / "out" / "review.html").read_text(encoding="utf-8")).text


def test_the_command_prints_json_and_no_page_where_none_is_wanted(
    run_cli: Run, full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--reference", "2026-01-05", "2026-01-06", "--recent_drafts", "5"]
    done = run_cli(["review", "--verdicts", full, "--format", "json", "--output", "None", *words])
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["drafts"], told["recent"]["drafts"]) == (40, 5)
    assert list(tmp_path.glob("*.html")) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--verdicts", "{here}/none.db"], "--verdicts {here}/none.db: no such file"),
        (["--verdicts", "{here}"], "--verdicts {here}: is a directory, must be a file"),
        ([], "--verdicts is missing: name a file, or the URL of a PostgreSQL server"),
        (["--verdicts", "{here}/verdicts.db", "--reference", "x", "y"], "--reference x: must be a day, as 2026-01-31"),
        (["--verdicts", "mysql://a:secret@b/c"], "--verdicts mysql://a:***@b/c: begins with mysql: choose from "),
    ],
)
def test_what_is_wrong_is_one_line(run_cli: Run, tmp_path: Path, words: list[str], line: str) -> None:
    opened_store(str(tmp_path / "verdicts.db")).close()
    output = tmp_path / "review.html"
    done = run_cli(["review", *(word.format(here=tmp_path) for word in words), "--output", str(output)])
    assert done.code == 2
    assert done.stderr.startswith(f"r2gengpt review: {line.format(here=tmp_path)}")
    assert done.stderr.count("\n") == 1
    assert not output.exists()
