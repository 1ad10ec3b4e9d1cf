"""A verdict on the web page, in headless Chromium: sent once, again after a failure, changed and taken back."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from page_parts import NEEDS_BROWSER, REPORT, SIZES, browser, check_manners, draft, edit, open_page, page_server, store
from r2gengpt.reporter import Reporter
from r2gengpt.verdicts.store import VerdictStore
from serving_parts import wait_for

__all__ = ["browser", "store"]  # fixtures
pytestmark = NEEDS_BROWSER


@pytest.fixture
def address(served: Reporter, store: VerdictStore) -> Iterator[str]:
    with page_server(served, store) as (address, _):
        yield address


def press(page: Page, name: str) -> None:
    """Press a button with the keyboard."""
    button = page.get_by_role("button", name=name, exact=True)
    button.focus()
    button.press("Enter")


def told(page: Page, words: str = "Kept by the server.") -> None:
    expect(page.locator("#told")).to_have_text(words)


def kept(store: VerdictStore, count: int) -> None:
    """Wait until so many are kept."""
    wait_for(lambda: len(list(store.history())) == count)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_with_a_keyboard_gives_changes_and_takes_back_a_verdict(
    browser: Browser, address: str, store: VerdictStore, size: Any, scheme: Any
) -> None:
    with open_page(browser, address, viewport=size, color_scheme=scheme) as page:
        draft(page)
        press(page, "Accept")
        kept(store, 1)
        press(page, "Reject")
        kept(store, 2)
        page.get_by_label("Reason").select_option("missed")
        kept(store, 3)
        page.get_by_label("Note").fill("A nodule.")
        page.get_by_label("Note").press("Tab")
        kept(store, 4)
        expect(page.locator("#told")).to_have_text("Kept by the server.")
        check_manners(page)
        press(page, "Reject")
        kept(store, 5)
    assert [(one.judgement.verdict, one.judgement.reason, one.judgement.note) for one in store.history()] == [
        ("accept", "", ""),
        ("reject", "", ""),
        ("reject", "missed", ""),
        ("reject", "missed", "A nodule."),
        ("withdraw", "", ""),
    ]


def test_an_edit_is_sent_when_it_is_done_and_a_second_press_takes_an_acceptance_back(
    browser: Browser, address: str, store: VerdictStore
) -> None:
    with open_page(browser, address) as page:
        draft(page)
        edit(page, f"{REPORT} There is a nodule.")
        assert list(store.history()) == [], "a text is not sent while it is typed"
        press(page, "Done")
        kept(store, 1)
        edit(page, REPORT)
        press(page, "Done")
        expect(page.locator("#verdict-words")).to_have_text("No verdict yet.")
        kept(store, 2)
        press(page, "Accept")
        kept(store, 3)
        press(page, "Accept")
        expect(page.locator("#verdict-words")).to_have_text("No verdict yet.")
        kept(store, 4)
    found = list(store.history())
    assert [one.judgement.verdict for one in found] == ["edit", "withdraw", "accept", "withdraw"]
    assert found[0].judgement.text == f"{REPORT} There is a nodule."
    assert [edit.kind for edit in found[0].edits] == ["kept", "kept", "kept", "added"]


def test_a_verdict_that_does_not_arrive_is_told_outlives_a_reload_and_is_kept_once(
    browser: Browser, address: str, store: VerdictStore
) -> None:
    with open_page(browser, address, refused=True) as page:
        draft(page)
        page.route("**/v1/verdicts", lambda route: route.abort())
        press(page, "Accept")
        told(page, "Not kept: No connection to the server.")
        page.unroute("**/v1/verdicts")
        page.reload()
        told(page, "Not kept: No connection to the server.")
        press(page, "Send again")
        told(page)
        expect(page.get_by_role("button", name="Send again")).to_be_hidden()
    assert [one.judgement.verdict for one in store.history()] == ["accept"]


def test_a_page_of_a_server_that_keeps_no_verdicts_says_so_and_sends_none(browser: Browser, served: Reporter) -> None:
    with page_server(served) as (address, _), open_page(browser, address) as page:
        draft(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        press(page, "Accept")
        expect(page.locator("#told")).to_contain_text("This server keeps no verdicts")
    assert not [url for url in asked if "verdicts" in url]
