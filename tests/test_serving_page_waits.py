"""The web page where answers are late or do not come, and where two things happen at once. Judges no text."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, Route, expect

from dicom_files import ROOT, data_of
from dicom_files import film as dicom
from page_parts import NEEDS_BROWSER, Scripted, browser, choose, draft, edit, open_page, page_server, server, store
from r2gengpt.config import CONTEXT_FIELDS, PRIOR
from r2gengpt.report import Doubt
from r2gengpt.reporter import Reporter
from r2gengpt.verdicts.store import VerdictStore
from serving_parts import film, wait_for

__all__ = ["browser", "server", "store"]  # fixtures
pytestmark = NEEDS_BROWSER
KEY = "a-key-of-this-test-only"
FILM = np.tile((np.arange(32) * 60).astype(np.uint16), (40, 1))
FRAMES = data_of(
    dicom(np.stack([FILM, FILM // 2, FILM * 2]), WindowCenter=1024, WindowWidth=2048, SOPInstanceUID=f"{ROOT}5")
)


@pytest.fixture
def page(browser: Browser, server: tuple[str, Scripted]) -> Iterator[Page]:
    with open_page(browser, server[0], refused=True) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        yield page


def put(page: Page, *files: tuple[str, bytes]) -> None:
    """Choose DICOM files of these names."""
    given: Any = [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
    page.get_by_label("Choose images").set_input_files(given)


def late(page: Page, path: str) -> list[Route]:
    """The first request of this path waits here."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route(path, hold)
    return held


def came(page: Page, held: list[Route]) -> Route:
    """The request that waits, once it is there."""
    wait_for(lambda: page.wait_for_timeout(10) or held)
    return held[0]


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def write(page: Page) -> None:
    press(page, "Write draft")
    expect(page.locator("#status")).to_contain_text("The draft is finished")


# ------------------------------------------------------------------ late


def test_with_a_key_the_fields_that_the_model_reads_are_shown(
    browser: Browser, served: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.built.processor, "context_fields", (*CONTEXT_FIELDS, PRIOR))
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    with (
        page_server(served, api_key_file=str(keys)) as (address, _),
        open_page(browser, address, refused=True) as page,
    ):
        choose(page, film(5))
        press(page, "Write draft")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Tab")
        expect(page.locator("#model-name")).to_have_text("best")
        expect(page.get_by_text("More of the study")).to_be_visible()
        press(page, "Prior report")
        expect(page.locator("#prior-hint")).to_contain_text("The model reads it too")


@pytest.mark.parametrize("form", ["PDF", "FHIR", "SR"])
def test_a_file_that_comes_late_is_named_by_whose_it_is(page: Page, form: str) -> None:
    put(page, ("a.dcm", data_of(dicom(PatientID="P-1"))))
    expect(page.get_by_role("application")).to_be_visible()
    write(page)
    held = late(page, "**/v1/pdf" if form == "PDF" else "**/v1/documents*")
    press(page, f"Save as {form}")
    asked = came(page, held)
    press(page, "New study")
    put(page, ("b.dcm", data_of(dicom(PatientID="P-2"))))
    expect(page.get_by_role("application")).to_be_visible()
    write(page)
    with page.expect_download() as waiting:
        asked.continue_()
    assert waiting.value.suggested_filename.startswith("P-1_")
    expect(page.locator("#saved")).to_be_empty()


def test_a_dicom_film_that_does_not_reach_the_server_is_no_unknown_file(page: Page) -> None:
    page.route("**/v1/preview*", lambda route: route.abort())
    put(page, ("a.dcm", data_of(dicom())))
    expect(page.locator("#file-error")).to_contain_text("No connection to the server")
    expect(page.locator("#file-error")).not_to_contain_text("No PNG, JPEG or DICOM")


@pytest.mark.parametrize("order", ["question, draft", "draft, question"])
def test_of_two_questions_none_takes_the_other_away_for_good(
    page: Page, server: tuple[str, Scripted], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """One is about a file's frames, one is the draft's about a film that shows no chest."""
    scripted = server[1]
    monkeypatch.setattr(scripted, "doubts", (Doubt(1, "no_chest", "looks like none", refused=True),))
    assert isinstance(scripted.reporter, Reporter)
    monkeypatch.setattr(scripted, "_reporter", replace(scripted.reporter, refuses=True))
    words = page.locator("#ask-words")
    choose(page, film(1))
    if order == "draft, question":
        held = late(page, "**/v1/reports")
        press(page, "Write draft")
        asked = came(page, held)
        put(page, ("loop.dcm", FRAMES))
        expect(words).to_contain_text("loop.dcm has 3 frames")
        asked.continue_()
        expect(page.get_by_role("alert")).to_contain_text("looks like none")
    else:
        put(page, ("loop.dcm", FRAMES))
        expect(words).to_contain_text("loop.dcm has 3 frames")
        press(page, "Write draft")
        expect(page.get_by_label("Frame", exact=True)).to_be_focused()
        expect(page.get_by_role("button", name="Write draft")).to_be_visible()
    expect(words).to_contain_text("loop.dcm has 3 frames")
    press(page, "Leave it out")
    put(page, ("next.dcm", data_of(dicom())))
    expect(page.get_by_role("button", name="View 2 (PA)", exact=True)).to_be_visible()


def test_a_loaded_model_leaves_no_word_of_its_loading(browser: Browser, server: tuple[str, Scripted]) -> None:
    with open_page(browser, server[0], refused=True) as page:
        asked: list[Route] = []

        def card(route: Route) -> None:
            asked.append(route)
            if len(asked) < 3:
                route.fulfill(status=503, json={"error": {"message": "the model is being loaded", "code": None}})
            else:
                route.continue_()

        page.route("**/v1/card", card)
        page.reload()
        choose(page, film(1))
        expect(page.locator("#model-name")).to_have_text("best")
        expect(page.locator("#status")).to_contain_text("Ready.")


def test_without_a_film_the_page_is_not_ready(page: Page) -> None:
    choose(page, film(1))
    press(page, "Remove view 1")
    expect(page.locator("#status")).to_have_text("Choose the images of one study to begin.")


def test_the_json_of_a_rejected_draft_has_why(page: Page) -> None:
    draft(page)
    press(page, "Reject")
    page.get_by_label("Reason").select_option("missed")
    page.get_by_label("Note").fill("A nodule.")
    with page.expect_download() as waiting:
        press(page, "Save as JSON")
    reader = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))["reader"]
    assert (reader["reason"], reader["note"]) == ("missed", "A nodule.")


@pytest.mark.parametrize("emptied", ["", " \n"])
def test_an_emptied_text_is_no_verdict_and_takes_the_one_before_back(
    browser: Browser, served: Reporter, store: VerdictStore, emptied: str
) -> None:
    with page_server(served, store) as (address, _), open_page(browser, address) as page:
        draft(page)
        press(page, "Accept")
        expect(page.locator("#told")).to_have_text("Kept by the server.")
        edit(page, emptied)
        press(page, "Done")
        expect(page.locator("#verdict-words")).to_have_text("No verdict yet.")
        wait_for(lambda: [one.judgement.verdict for one in store.history()] == ["accept", "withdraw"])
        expect(page.locator("#told")).to_have_text("Kept by the server.")


def test_a_note_that_is_being_typed_goes_to_the_server_before_the_next_draft(
    browser: Browser, served: Reporter, store: VerdictStore
) -> None:
    with page_server(served, store) as (address, _), open_page(browser, address) as page:
        draft(page)
        press(page, "Reject")
        page.get_by_label("Note").fill("A nodule.")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#status")).to_contain_text("finished")
        wait_for(lambda: [one.judgement.note for one in store.history()] == ["", "A nodule."])


def test_files_of_a_study_that_was_given_up_ask_nothing(page: Page) -> None:
    """And a new study does not wait for them."""
    held = late(page, "**/v1/preview*")
    put(page, ("a.dcm", data_of(dicom())), ("loop.dcm", FRAMES))
    asked = came(page, held)
    press(page, "New study")
    choose(page, film(1))
    with page.expect_response("**/v1/preview*"):
        asked.fulfill(status=400, json={"error": {"message": "broken", "code": None}})
    put(page, ("next.dcm", data_of(dicom())))
    expect(page.get_by_role("button", name="View 2 (PA)", exact=True)).to_be_visible()
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator("#file-error")).to_be_hidden()


@pytest.mark.parametrize(("frame", "fits"), [("2", True), ("1", False)])
def test_after_a_reload_a_draft_fits_only_with_the_same_frame(page: Page, frame: str, fits: bool) -> None:
    def opened(frame: str) -> None:
        put(page, ("loop.dcm", FRAMES))
        page.get_by_label("Frame", exact=True).fill(frame)
        press(page, "Open it")
        expect(page.get_by_role("application")).to_be_visible()

    opened("2")
    write(page)
    page.reload()
    expect(page.locator("#stale")).to_contain_text("from before the page was reloaded")
    opened(frame)
    page.evaluate("crypto.subtle.digest('SHA-256', new ArrayBuffer(2 ** 25)).then(() => null)")  # behind the page's own
    expect(page.locator("#stale")).to_have_text("" if fits else re.compile("may not fit"))


# ------------------------------------------------------------------ what is sent


def test_a_text_of_lines_comes_as_it_was_typed_and_may_be_as_long_as_its_field(
    page: Page, server: tuple[str, Scripted]
) -> None:
    typed = "a\n" * 1999 + "b"
    page.get_by_label("Indication").fill(typed)
    draft(page)
    assert str(server[1].jobs[-1].instruction).endswith(f"Indication: {typed}")


# ------------------------------------------------------------------ example films


def test_of_two_example_films_that_are_clicked_one_after_the_other_one_is_opened(page: Page) -> None:
    cards = page.locator("#example-list button")
    expect(cards.first).to_be_visible()
    page.evaluate("document.querySelectorAll('#example-list button').forEach((one) => one.click())")
    expect(page.get_by_role("application")).to_have_accessible_name(re.compile("View 1 of 1"))
    page.wait_for_timeout(300)
    expect(page.locator("#views li")).to_have_count(1)


def test_an_example_film_that_comes_late_joins_no_study_of_the_readers_own(page: Page) -> None:
    expect(page.locator("#example-list button").first).to_be_visible()
    held = late(page, "**/page/examples/*")
    page.locator("#example-list button").first.click()
    route = came(page, held)
    choose(page, film(3))
    with page.expect_response("**/page/examples/*"):
        route.continue_()
    page.wait_for_timeout(300)
    expect(page.get_by_role("application")).to_have_accessible_name(re.compile("View 1 of 1"))
    expect(page.locator("#film-known")).to_have_text("")


def test_an_example_film_that_comes_after_a_new_study_was_begun_is_not_opened(page: Page) -> None:
    expect(page.locator("#example-list button").first).to_be_visible()
    held = late(page, "**/page/examples/*")
    page.locator("#example-list button").first.click()
    route = came(page, held)
    press(page, "New study")
    with page.expect_response("**/page/examples/*"):
        route.continue_()
    page.wait_for_timeout(300)
    expect(page.locator("#views li")).to_have_count(0)


# ------------------------------------------------------------------ refused beside the reader's work

NO_KEY = {"error": {"message": "Authorization: needs a key", "type": "authentication_error", "code": None}}


@pytest.mark.parametrize(
    ("path", "place"),
    [("verdicts", "#told"), ("evidence", "#evidence"), ("pdf", "#saved"), ("preview*", "#file-error")],
)
def test_a_key_that_is_asked_for_meanwhile_leaves_the_focus_where_the_reader_types(
    browser: Browser, served: Reporter, store: VerdictStore, path: str, place: str
) -> None:
    with page_server(served, store) as (address, _), open_page(browser, address, refused=True) as page:
        held = late(page, f"**/v1/{path}")
        draft(page, film(3))
        if path == "verdicts":
            press(page, "Accept")
        elif path == "pdf":
            page.locator("#save-pdf").click()
        elif path != "evidence":
            put(page, ("film.dcm", FRAMES))
        route = came(page, held)
        indication = page.get_by_label("Indication")
        indication.focus()
        route.fulfill(status=401, json=NO_KEY)
        expect(page.locator(place)).to_contain_text("This server needs an API key")
        expect(page.get_by_label("API key")).to_be_visible()
        expect(indication).to_be_focused()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (408, "Sending this took too long."),
        (413, "This is too large for this server: no reason."),
        (504, "It took too long and was given up."),
        (400, "The server refused this: no reason."),
    ],
)
def test_a_refused_pdf_or_verdict_is_told_without_words_of_images_or_drafts(
    browser: Browser, served: Reporter, store: VerdictStore, status: int, words: str
) -> None:
    refusal = {"error": {"message": "no reason", "type": "invalid_request_error", "code": None}}
    with page_server(served, store) as (address, _), open_page(browser, address, refused=True) as page:
        page.route(re.compile("/v1/(pdf|verdicts)$"), lambda route: route.fulfill(status=status, json=refusal))
        draft(page, film(3))
        press(page, "Accept")
        expect(page.locator("#told")).to_contain_text(f"Not kept: {words}")
        page.locator("#save-pdf").click()
        expect(page.locator("#saved")).to_contain_text(f"No PDF. {words}")
