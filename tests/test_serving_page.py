"""The web page, in a real headless Chromium against a real server whose generator writes a given report."""

import dataclasses
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from starlette.testclient import TestClient

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect
from pypdf import PdfReader

from dicom_files import ROOT, data_of
from dicom_files import film as dicom
from film_parts import LEFT_OUT
from page_parts import (
    EVIDENCE,
    NEEDS_BROWSER,
    REPORT,
    SEEN,
    SENTENCES,
    Scripted,
    browser,
    check_manners,
    choose,
    draft,
    edit,
    open_page,
    page_server,
    released,
    server,
)
from r2gengpt.errors import InputError
from r2gengpt.report import Doubt, film_lines
from r2gengpt.reporter import Reporter
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.page import page_files
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE
from serving_parts import LONG, client_of, film, running_server, wait_for

__all__ = ["browser", "released", "server"]  # fixtures
SCRIPTS = sorted(name for name in page_files() if name.endswith(".js"))
KEY = "a-key-of-this-test-only"
DEPENDS = "depends on the marked area"
SHOWN = (("sure", f"93 %, {DEPENDS}"), ("doubt", f"61 %, {DEPENDS}"), ("unsure", "42 %, check this, no evidence"))
SIDES = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]


@pytest.fixture
def page(browser: Browser, server: tuple[str, Scripted]) -> Iterator[Page]:
    with open_page(browser, server[0]) as page:
        yield page


def saved(page: Page, button: str) -> bytes:
    """The bytes of the file that a button saves."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path()).read_bytes()


def pdf_pages(data: bytes) -> list[str]:
    """The text of each page of a PDF; the reader is strict about the file's structure."""
    return [page.extract_text() for page in PdfReader(io.BytesIO(data), strict=True).pages]


def middle(page: Page) -> list[int]:
    """The colour in the middle of the film as it is shown, after the next frame."""
    script = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
      const film = document.getElementById("film");
      const context = film.getContext("2d");
      done([...context.getImageData(film.width / 2, film.height / 2, 1, 1).data.slice(0, 3)]);
    })))"""
    colour: list[int] = page.evaluate(script)
    return colour


def mapped(page: Page, evidence: dict[str, Any]) -> None:
    """The server's maps are these."""
    page.route("**/v1/evidence", lambda route: route.fulfill(json=evidence))


# ------------------------------------------------------------------ without a browser


def test_the_page_and_its_files_come_with_a_strict_policy_and_nothing_inline(served: Reporter) -> None:
    with client_of(served) as (client, _):
        given = client.get("/")
        assert given.headers["content-type"] == "text/html; charset=utf-8"
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
            assert part in given.headers["content-security-policy"]
        assert "unsafe" not in given.headers["content-security-policy"]
        assert NOTICE in given.text
        for forbidden in ("<style", " style=", "onclick", "onload", "http://", "https://", "//"):
            assert forbidden not in given.text.replace("<!DOCTYPE html>", "")
        assert "page.js" in SCRIPTS
        for name in ("page.css", "films.css", *SCRIPTS):
            file = client.get(f"/page/{name}")
            assert file.status_code == 200, name
            assert file.headers["x-content-type-options"] == "nosniff"
            assert "://" not in file.text


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/../app.py", "/page/%2e%2e/app.py", "/page.py"])
def test_no_other_file_can_be_asked_for(served: Reporter, path: str) -> None:
    with client_of(served) as (client, _):
        assert client.get(path).status_code == 404


def test_the_page_needs_no_key_but_its_reports_do(served: Reporter, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    with client_of(served, api_key_file=str(keys)) as (client, _):
        assert client.get("/").status_code == 200
        assert client.get("/page/page.js").status_code == 200
        assert client.post("/v1/reports").status_code == 401


def events_of(client: TestClient, **changes: Any) -> list[str]:
    files = [("images", ("film.png", film(2), "image/png"))]
    given = client.post("/v1/reports", files=files, headers={"Accept": "text/event-stream"}, **changes)
    assert given.status_code == 200
    assert given.headers["content-type"].startswith("text/event-stream")
    return [block.removeprefix("data: ") for block in given.text.strip().split("\n\n")]


def test_a_report_as_events_is_its_pieces_then_the_record_of_the_same_text(served: Reporter) -> None:
    with client_of(served) as (client, _):
        *pieces, record, end = events_of(client, data={"indication": "Cough."})
    whole = json.loads(record)
    assert end == "[DONE]"
    assert len(pieces) > 1
    assert "".join(json.loads(piece)["delta"] for piece in pieces) == whole["findings"]
    assert (whole["notice"], whole["provenance"]["decode"]["beam_size"]) == (NOTICE, 1)
    assert " ".join(sentence["text"] for sentence in whole["sentences"]) == whole["findings"].strip()


def printed(client: TestClient, body: object, **headers: str) -> Any:
    return client.post("/v1/pdf", content=json.dumps(body), headers=headers)


def test_a_text_comes_back_as_a_pdf_while_no_model_is_there(tmp_path: Path) -> None:
    with TestClient(create_app(Generator(1, 1), ServeConfig()), base_url="http://127.0.0.1") as client:
        given = printed(client, {"report": "CHECK ≥\r\n\tThe heart (large) is \\ → 心 ≥.", "foot": "by me"})
    assert (given.status_code, given.headers["content-type"]) == (200, "application/pdf")
    assert unquote(given.headers["x-replaced"]) == "≥→心"
    (only,) = pdf_pages(given.content)
    assert [line.strip() for line in only.splitlines()] == [
        *(NOTICE, "CHECK ?", "The heart (large) is \\ ? ? ?.", "by me   Page 1 of 1")
    ]


def test_a_text_without_letters_is_one_page_and_names_none(served: Reporter) -> None:
    with client_of(served) as (client, _):
        given = printed(client, {"report": ""})
    assert "x-replaced" not in given.headers
    assert [page.split() for page in pdf_pages(given.content)] == [[*NOTICE.split(), "Page", "1", "of", "1"]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"report": "x" * 50_001}, "report: has 50001 characters: at most 50000"),
        ({"report": "x", "foot": "y" * 201}, "foot: has 201 characters: at most 200"),
        ({"foot": "y"}, "report: "),
        ({"report": 3}, "report: "),
        ({"report": "x", "title": "y"}, "title: "),
        ("x", ""),
    ],
    ids=["long", "long-foot", "no-text", "number", "other-field", "no-object"],
)
def test_a_pdf_of_something_else_is_refused_with_the_field(served: Reporter, body: object, words: str) -> None:
    with client_of(served) as (client, _):
        given = printed(client, body)
    assert given.status_code == 400
    assert given.json()["error"]["message"].startswith(words)


def test_a_pdf_needs_the_key_and_a_body_of_some_size(served: Reporter, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    with client_of(served, api_key_file=str(keys)) as (client, _):
        assert printed(client, {"report": "x"}).status_code == 401
        assert printed(client, {"report": "x"}, Authorization=f"Bearer {KEY}").status_code == 200
        assert printed(client, {"report": "x" * 2**19}, Authorization=f"Bearer {KEY}").status_code == 413


# ------------------------------------------------------------------ with one


@NEEDS_BROWSER
def test_a_study_is_chosen_streamed_edited_and_saved_as_text_and_pdf(page: Page, server: tuple[str, Scripted]) -> None:
    _, generator = server
    generator.hold(9)
    choose(page, film(1), film(2))
    page.get_by_label("Indication").fill("Cough and fever.")
    before = len(generator.jobs)
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#written")).to_have_text("The heart is normal in size. There is a")
    expect(page.get_by_label("Your text")).to_be_hidden()
    generator.go.set()
    expect(page.locator("#status")).to_contain_text("The draft is finished")
    (job,) = generator.jobs[before:]
    assert len(job.pixels) == 2
    assert (job.instruction or "").endswith("Indication: Cough and fever.")

    text = page.get_by_label("Your text")
    expect(text).to_have_value(REPORT)
    edit(page, f"Edited – by “me”. {REPORT}")
    plain = saved(page, "Save as text").decode()
    assert plain.startswith(f"{NOTICE}\n\nEdited – by “me”. {REPORT}\n\nr2gengpt, model best, ")
    assert plain.endswith(" UTC, edited by its reader\n")
    (only,) = pdf_pages(saved(page, "Save as PDF"))
    assert only.startswith(NOTICE)
    words = " ".join(only.split())
    assert f"Edited – by “me”. {REPORT}" in words
    assert words.endswith("edited by its reader Page 1 of 1")
    page.get_by_role("button", name="Undo all edits").click()
    expect(text).to_have_value(REPORT)
    assert b"edited" not in saved(page, "Save as text")
    page.get_by_role("button", name="Done").click()
    expect(text).to_be_hidden()
    expect(page.locator("#written")).to_contain_text(SENTENCES[0].text)


@NEEDS_BROWSER
def test_a_long_text_has_pages_that_each_carry_the_notice_and_loses_no_word(page: Page) -> None:
    draft(page)
    words = [f"word{number}" for number in range(1500)]
    long = "x" * 300
    edit(page, f"{' '.join(words)}\n\n(a \\ backslash) é € {long}")
    pages = pdf_pages(saved(page, "Save as PDF"))
    assert len(pages) > 2
    for number, text in enumerate(pages, 1):
        assert text.startswith(NOTICE)
        assert f"Page {number} of {len(pages)}" in text
    together = " ".join(" ".join(pages).split())
    assert [word for word in together.split(" ") if word.startswith("word")] == words
    assert "(a \\ backslash) é €" in together
    assert together.count("x") - together.count("expl") >= 300


@NEEDS_BROWSER
def test_letters_that_the_pdf_cannot_have_are_named(page: Page) -> None:
    draft(page)
    edit(page, "Grösse ≥ 3 cm → 心")
    (only,) = pdf_pages(saved(page, "Save as PDF"))
    assert "Grösse ? 3 cm ? ?" in only
    expect(page.locator("#saved")).to_contain_text('became "?": ≥ → 心')


@NEEDS_BROWSER
def test_what_is_copied_carries_the_notice(page: Page, server: tuple[str, Scripted]) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server[0])
    draft(page)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#saved")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"{NOTICE}\n\n{REPORT}\n\nr2gengpt, model best")


@NEEDS_BROWSER
def test_sentences_are_shaded_by_how_sure_the_model_is_in_words_too(page: Page) -> None:
    draft(page)
    shown = page.locator(".sentence")
    expect(shown).to_have_count(len(SENTENCES))
    for at, (name, words) in enumerate(SHOWN):
        expect(shown.nth(at)).to_have_text(f"{SENTENCES[at].text} {words}")
        expect(shown.nth(at)).to_have_class(f"sentence {name}")
    expect(page.locator("#legend")).to_contain_text(
        "Percent: the model's own mean probability of the words. Not calibrated"
    )


@NEEDS_BROWSER
def test_the_percents_of_an_opening_are_told_apart_from_those_of_the_rest(page: Page) -> None:
    script = "async (kinds) => (await import('/page/draft.js')).percents(kinds)"
    assert page.evaluate(script, ["confidence"]) == [
        "Percent: the calibrated probability that a radiologist's report supports the sentence."
    ]
    (words,) = page.evaluate(script, ["confidence", "logprob"])
    assert words.startswith("Percent of the opening: the finding head's probability. Of the rest: the model's own")


@NEEDS_BROWSER
def test_what_the_film_shows_stands_beside_the_draft_and_below_what_is_saved(
    page: Page, server: tuple[str, Scripted]
) -> None:
    server[1].report = SEEN
    draft(page)
    rows = page.locator("#film-findings table").first.locator("tbody tr")
    expect(rows).to_have_count(3)
    for at, words in enumerate(("Lung Opacity", "Pleural Effusion", "Edema")):
        expect(rows.nth(at).get_by_role("rowheader")).to_have_text(words)
    expect(rows.nth(1)).to_contain_text("91 % 85 % to 95 %likely")
    hidden = page.get_by_text("Cardiomegaly")
    expect(hidden).to_be_hidden()
    page.get_by_text("1 unlikely").click()
    expect(hidden).to_be_visible()
    expect(page.locator("#film-findings")).to_contain_text("Not assessed: Fracture")
    filled = rows.nth(1).locator(".filled").bounding_box()
    whole = rows.nth(1).locator(".bar").bounding_box()
    assert filled is not None
    assert whole is not None
    assert abs(filled["width"] / whole["width"] - 0.9142) < 0.02, "a pixel or two of border"
    assert saved(page, "Save as text").decode().split("\n\n")[2] == "\n".join(film_lines(SEEN))
    (only,) = pdf_pages(saved(page, "Save as PDF"))
    assert " ".join(film_lines(SEEN)) in " ".join(only.split())


@NEEDS_BROWSER
def test_why_a_draft_needs_review_and_where_its_sentences_come_from_is_told(
    page: Page, server: tuple[str, Scripted]
) -> None:
    server[1].report = SEEN
    draft(page)
    reasons = page.locator("#review").get_by_role("listitem")
    expect(reasons).to_have_text([f'"{SENTENCES[2].text}" {SEEN.sentences[2].reason}', LEFT_OUT])
    shown = page.locator(".sentence")
    for at, number in enumerate("121"):
        expect(shown.nth(at).locator("sup")).to_have_text(number)
    expect(shown.first).to_have_attribute("title", "Taken from the report of study train-17")
    expect(page.locator("#sources")).to_have_text(
        "Sentences were taken from reports of other studies: 1 train-17, 2 train-4"
    )
    page.get_by_role("button", name="New study").click()
    for place in ("#review", "#sources", "#film-findings"):
        expect(page.locator(place)).to_be_hidden()


@NEEDS_BROWSER
def test_without_a_head_the_page_shows_nothing_of_films(page: Page) -> None:
    draft(page)
    for place in ("#review", "#sources", "#film-findings"):
        expect(page.locator(place)).to_be_hidden()
    assert len(saved(page, "Save as text").decode().split("\n\n")) == 3


@NEEDS_BROWSER
def test_cancel_frees_the_servers_place_and_keeps_nothing(
    page: Page, server: tuple[str, Scripted], caplog: pytest.LogCaptureFixture
) -> None:
    _, generator = server
    generator.hold(4)
    choose(page, film(3))
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#written")).to_have_text("The heart is normal")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_have_text("Cancelled. Nothing was kept.")
    expect(page.locator("#written")).to_be_hidden()
    expect(page.get_by_role("button", name="Write draft")).to_be_focused()
    pause = threading.Event()
    for _ in range(int(LONG * 100)):
        if generator.jobs[-1].unwanted and generator.line.taken == 0:
            break
        pause.wait(0.01)
    assert (generator.jobs[-1].unwanted, generator.line.taken) == (True, 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "leaving is no fault of the server"


@NEEDS_BROWSER
def test_a_busy_server_is_told_with_the_time_to_wait(browser: Browser, served: Reporter) -> None:
    with page_server(served, slots=1, queue_size=0) as (address, generator):
        generator.hold(4)
        with open_page(browser, address) as first, open_page(browser, address, refused=True) as second:
            for page in (first, second):
                choose(page, film(4))
                page.get_by_label("Then map each sentence").uncheck()  # maps would take the place again
            first.get_by_role("button", name="Write draft").click()
            expect(first.locator("#written")).to_have_text("The heart is normal")
            second.get_by_role("button", name="Write draft").click()
            alert = second.get_by_role("alert")
            expect(alert).to_have_text("The server is busy: all its places are taken. Try again in 1 second.")
            generator.go.set()
            expect(first.locator("#status")).to_contain_text("finished")
            second.get_by_role("button", name="Write draft").click()
            expect(second.locator("#status")).to_contain_text("finished")
            expect(alert).to_be_hidden()


@NEEDS_BROWSER
@pytest.mark.parametrize("key", ["a-key-with-a–dash-1", "ein-schlüssel-der-klinik", "another-key-of-nobody"])
def test_a_key_that_no_header_can_carry_is_told_as_one_that_is_not_known(
    browser: Browser, served: Reporter, tmp_path: Path, key: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    with (
        page_server(served, api_key_file=str(keys)) as (address, _),
        open_page(browser, address, refused=True) as page,
    ):
        choose(page, film(5))
        page.get_by_role("button", name="Write draft").click()
        page.get_by_label("API key").fill(key)
        expect(page.get_by_role("alert")).to_contain_text("needs an API key")
        page.get_by_label("API key").press("Enter")
        expect(page.locator("#status")).to_have_text("No draft was written.")
        expect(page.get_by_role("alert")).to_contain_text("or does not know this one")


@NEEDS_BROWSER
def test_a_key_is_asked_for_where_it_is_needed_and_stored_nowhere(
    browser: Browser, served: Reporter, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    with (
        page_server(served, api_key_file=str(keys)) as (address, _),
        open_page(browser, address, refused=True) as page,
    ):
        choose(page, film(5))
        expect(page.get_by_label("API key")).to_be_hidden()
        page.get_by_role("button", name="Write draft").click()
        expect(page.get_by_role("alert")).to_contain_text("needs an API key")
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("finished")
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        assert KEY not in page.evaluate("JSON.stringify({ ...sessionStorage })")


@NEEDS_BROWSER
@pytest.mark.parametrize(
    ("changes", "held_at", "words"),
    [
        ({"request_timeout": 1.0}, 0, "It took too long and was given up."),
        ({"request_timeout": 1.0}, 3, "The draft broke off: no report within 1 seconds. Nothing of it was kept."),
        ({"max_megapixels": 1}, 99, "This is too large for this server: image images[0]: 1100x1100"),
        ({"max_images": 1}, 99, "The server refused this: 2 images: at most 1."),
    ],
)
def test_refusals_and_failures_are_told_in_words(
    browser: Browser, served: Reporter, changes: dict[str, Any], held_at: int, words: str
) -> None:
    with page_server(served, **changes) as (address, generator), open_page(browser, address, refused=True) as page:
        generator.hold(held_at)
        films = [film(6, size=1100)] if "max_megapixels" in changes else [film(6), film(7)]
        films = films if "max_images" in changes else films[:1]
        choose(page, *films)
        page.get_by_role("button", name="Write draft").click()
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(page.locator("#status")).to_have_text("No draft was written.")
        expect(page.locator("#written")).to_be_hidden()


@NEEDS_BROWSER
def test_a_server_that_cannot_be_reached_is_told(browser: Browser, server: tuple[str, Scripted]) -> None:
    with open_page(browser, server[0], refused=True) as page:
        choose(page, film(7))
        page.context.set_offline(True)
        page.get_by_role("button", name="Write draft").click()
        expect(page.get_by_role("alert")).to_contain_text("No connection to the server.")


@NEEDS_BROWSER
def test_files_that_are_no_images_are_named_and_left_out(page: Page) -> None:
    files: Any = [
        {"name": "good.png", "mimeType": "image/png", "buffer": film(8)},
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"text"},
        {"name": "broken.png", "mimeType": "image/png", "buffer": film(8)[:40]},
    ]
    page.get_by_label("Choose images").set_input_files(files)
    expect(page.get_by_role("alert")).to_contain_text("left out: notes.txt, broken.png.")
    expect(page.get_by_role("list", name="Images of the study").get_by_role("listitem")).to_have_count(1)


@NEEDS_BROWSER
def test_a_film_that_is_given_twice_counts_once(page: Page) -> None:
    def given(name: str, seed: int) -> Any:
        return {"name": name, "mimeType": "image/png", "buffer": film(seed)}

    page.get_by_label("Choose images").set_input_files([given("a.png", 8), given("again.png", 8), given("b.png", 9)])
    expect(page.get_by_role("alert")).to_have_text("again.png is here already: each film counts once.")
    listed = page.get_by_role("list", name="Images of the study").get_by_role("listitem")
    expect(listed).to_have_count(2)
    page.get_by_label("Choose images").set_input_files([given("later.png", 9)])
    expect(page.get_by_role("alert")).to_have_text("later.png is here already: each film counts once.")
    expect(listed).to_have_count(2)


@NEEDS_BROWSER
def test_files_may_be_dropped_anywhere_on_the_page(page: Page) -> None:
    drop = """(bytes) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "film.png", { type: "image/png" }));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, list(film(9)))
    expect(page.get_by_role("application")).to_have_accessible_name("View 1 of 1, 48 by 48 pixels")
    expect(page.get_by_role("button", name="Write draft")).to_be_enabled()


@NEEDS_BROWSER
def test_window_level_zoom_and_inversion_change_what_is_seen(page: Page) -> None:
    flat = io.BytesIO()
    from PIL import Image

    Image.new("L", (64, 64), 100).save(flat, "PNG")
    choose(page, flat.getvalue())
    assert middle(page) == [100] * 3
    page.get_by_role("button", name="Invert").click()
    assert middle(page) == [155] * 3
    page.get_by_role("application").focus()
    page.keyboard.press("i")
    assert middle(page) == [100] * 3
    page.get_by_label("Window").fill("50")
    assert middle(page) == [round(((100 / 255 - 0.5) / 0.5 + 0.5) * 255)] * 3
    page.get_by_label("Level").fill("20")
    assert middle(page) == [round(min(1, (100 / 255 - 0.2) / 0.5 + 0.5) * 255)] * 3
    page.get_by_role("application").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#zoom-value")).to_have_text("1.3×")
    page.get_by_role("application").hover()
    page.mouse.wheel(0, -500)
    expect(page.locator("#zoom-value")).to_have_text("3.4×")
    page.get_by_role("button", name="Reset view").click()
    expect(page.locator("#zoom-value")).to_have_text("1.0×")
    assert middle(page) == [100] * 3


@NEEDS_BROWSER
def test_a_sentences_evidence_is_laid_over_the_view_while_it_is_pointed_at_or_focused(page: Page) -> None:
    draft(page, film(10, size=64))
    expect(page.locator("#evidence")).to_contain_text("2 of 3 sentences have evidence in the image.")
    plain = middle(page)
    shown = page.get_by_role("button", name=f"{SENTENCES[0].text} 93 %, depends on the marked area")
    shown.hover()
    red, _, blue = middle(page)
    assert red - blue > 60, "the map's middle should be orange"
    page.get_by_role("heading", name="Study").hover()
    assert middle(page) == plain
    shown.focus()
    assert middle(page) == [red, _, blue]
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=SENTENCES[1].text)).to_be_focused()
    page.keyboard.press("Tab")
    faint = middle(page)
    expect(page.get_by_role("button", name=f"{SENTENCES[2].text} 42 %, check this, no evidence")).to_be_focused()
    assert 0 < faint[0] - faint[2] < red - blue, "a map without evidence is faint"
    page.get_by_role("application").focus()
    assert middle(page) == plain


@NEEDS_BROWSER
def test_maps_of_views_that_were_not_fused_are_shown_each_over_its_own_view_and_box(
    page: Page, server: tuple[str, Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first view's map has its value in the middle, and lies over all of it; the second's none."""
    maps = [[0.0] * 4 + [2.5] + [0.0] * 4, [0.0] * 9]
    told = [{"text": one.text, "map": maps[0], "maps": maps, "verdict": "evidence"} for one in SENTENCES]
    mapped(page, {"grid": [3, 3], "sentences": told, "boxes": [[0, 0, 1, 1], [0, 0, 1, 1]]})
    draft(page, film(10, size=64), film(11, size=64))
    first, shown = page.get_by_role("button", name="View 1", exact=True), page.locator(".sentence").first
    first.click()
    shown.focus()
    page.keyboard.press("Enter")
    red, _, blue = middle(page)
    assert red - blue > 60
    page.get_by_role("button", name="View 2", exact=True).click()
    second = middle(page)
    assert second[0] - second[2] < 60
    first.click()
    assert middle(page) == [red, _, blue]


@NEEDS_BROWSER
def test_a_map_lies_over_what_the_encoder_sees_of_the_film(page: Page) -> None:
    """A map that is full everywhere, of a model that crops: the film's left half, and so not its middle."""
    told = [{"text": one.text, "map": [1.0] * 4, "verdict": "evidence"} for one in SENTENCES]
    mapped(page, {"grid": [2, 2], "sentences": told, "boxes": [[0.6, 0, 1, 1]]})
    draft(page, film(10, size=64))
    plain = middle(page)
    page.locator(".sentence").first.focus()
    assert middle(page) == plain


@NEEDS_BROWSER
def test_a_map_that_is_kept_brings_the_image_into_sight_on_a_small_screen(
    browser: Browser, server: tuple[str, Scripted]
) -> None:
    with open_page(browser, server[0], viewport={"width": 390, "height": 700}) as page:
        draft(page)
        shown = page.locator(".sentence").first
        page.get_by_role("button", name="Save as text").scroll_into_view_if_needed()
        expect(page.get_by_role("application")).not_to_be_in_viewport()
        shown.click()
        expect(page.get_by_role("application")).to_be_in_viewport(ratio=0.9)
        expect(shown).to_have_attribute("aria-pressed", "true")


@NEEDS_BROWSER
def test_maps_come_after_the_draft_and_only_where_they_are_wanted(page: Page, server: tuple[str, Scripted]) -> None:
    _, generator = server
    asked = len(generator.told)
    wish = page.get_by_label("Then map each sentence on the image")
    wish.uncheck()
    choose(page, film(1))
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#status")).to_contain_text("The draft is finished")
    expect(page.locator("#evidence")).to_be_empty()
    assert len(generator.told) == asked
    generator.go.clear()
    generator.maps_wait = True
    told = {"status": "ready", "runtimes": {"openvino": "loaded", "torch": "loading"}}
    page.route("**/ready", lambda route: route.fulfill(json=told))
    wish.check()
    expect(page.locator("#evidence")).to_have_text("Mapping the sentences on the image …")
    expect(page.locator("#evidence")).to_contain_text("Loading PyTorch, which maps need, once")
    edit(page, "Edited meanwhile.")
    generator.go.set()
    expect(page.locator("#evidence")).to_contain_text("Mapped in")
    expect(page.get_by_label("Your text")).to_have_value("Edited meanwhile.")
    generator.maps_wait = False
    assert generator.told[-1].report_text == REPORT


@NEEDS_BROWSER
def test_a_changed_study_gives_up_its_maps_and_shows_none(page: Page, server: tuple[str, Scripted]) -> None:
    _, generator = server
    generator.go.clear()
    generator.maps_wait = True
    before = len(generator.told)
    draft(page)
    wait_for(lambda: len(generator.told) > before)
    page.get_by_label("Indication").fill("Another reason.")
    expect(page.locator("#evidence")).to_be_empty()
    wait_for(lambda: generator.told[-1].unwanted)
    generator.go.set()
    generator.maps_wait = False
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#evidence")).to_contain_text("Mapped in")
    page.get_by_label("Indication").fill("A third reason.")
    plain = middle(page)
    page.locator(".sentence").first.focus()
    assert middle(page) == plain


@NEEDS_BROWSER
def test_a_model_that_has_no_maps_is_told_and_the_draft_stays(browser: Browser, server: tuple[str, Scripted]) -> None:
    address, generator = server
    generator.evidence = InputError("`evidence`: a view of this model is one image token: there is nothing to map")
    with open_page(browser, address, refused=True) as page:
        draft(page)
        expect(page.locator("#evidence")).to_contain_text("No maps. The server refused this: evidence: a view of")
        expect(page.get_by_label("Your text")).to_have_value(REPORT)
    generator.evidence = EVIDENCE


# ------------------------------------------------------------------ DICOM


def put(page: Page, *files: tuple[str, bytes]) -> None:
    """Choose files by these names, without a type, as browsers see DICOM."""
    given = [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
    page.get_by_label("Choose images").set_input_files(given)  # type: ignore[arg-type]  # its type has no list of these


FILM = np.full((40, 32), 1000, dtype=np.uint16)
"""Grey in the middle, where the tests look, below a wedge of all greys."""
FILM[:8] = np.arange(32) * 60


@NEEDS_BROWSER
def test_dicom_is_shown_with_its_own_window_and_can_be_windowed_and_inverted(
    page: Page, server: tuple[str, Scripted]
) -> None:
    """MONOCHROME1, in the lower half of its window; by its name, and by its bytes alone."""
    data = data_of(dicom(FILM, PhotometricInterpretation="MONOCHROME1", WindowCenter=1500, WindowWidth=2000))
    put(page, ("film.dcm", data))
    expect(page.get_by_role("application")).to_have_accessible_name("View 1 of 1, 32 by 40 pixels")
    expect(page.get_by_role("button", name="View 1 (PA)", exact=True)).to_be_visible()
    grey = round((1 - (1000 - 1499.5) / 1999 - 0.5) * 255)
    assert middle(page) == [grey] * 3
    page.get_by_role("button", name="Invert").click()
    assert middle(page) == [255 - grey] * 3
    page.get_by_label("Window").fill("50")
    assert middle(page) != [255 - grey] * 3
    put(page, ("side", data_of(dicom(FILM, SOPInstanceUID=f"{ROOT}4", BurnedInAnnotation="YES"))))
    expect(page.get_by_role("application")).to_have_accessible_name("View 2 of 2, 32 by 40 pixels")
    expect(page.locator("#film-warning")).to_contain_text("burned-in annotation")
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#status")).to_contain_text("finished")
    page.get_by_text("How this draft was made").click()
    expect(page.locator("#made-list")).to_contain_text("32 × 40 DICOM, PA, SHA-256")
    assert len(server[1].jobs[-1].pixels) == 2


@NEEDS_BROWSER
def test_a_doubt_about_whose_images_these_are_stands_above_the_draft_and_in_what_is_saved(
    page: Page, server: tuple[str, Scripted]
) -> None:
    """It is there while the draft is written, cannot be edited away, and goes with the next study."""
    note = "CHECK WHOSE IMAGES THESE ARE: 1 of 2 names no patient"
    server[1].hold(3)
    choose(page, film(1))
    put(page, ("film.dcm", data_of(dicom(FILM))))
    expect(page.get_by_role("application")).to_have_accessible_name("View 2 of 2, 32 by 40 pixels")
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#note")).to_contain_text(note)
    expect(page.get_by_label("Your text")).to_be_hidden()
    server[1].go.set()
    expect(page.locator("#status")).to_contain_text("finished")
    edit(page, "Mine.")
    plain = saved(page, "Save as text").decode()
    assert plain.startswith(f"{NOTICE}\n\n{note}")
    assert "not known\n\nMine.\n\n" in plain
    assert note in " ".join(pdf_pages(saved(page, "Save as PDF"))[0].split())
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="New study").click()
    expect(page.locator("#note")).to_be_empty()


@NEEDS_BROWSER
def test_two_patients_get_no_draft_on_the_page(browser: Browser, server: tuple[str, Scripted]) -> None:
    other = data_of(dicom(FILM, SOPInstanceUID=f"{ROOT}4", PatientID="P-2"))
    with open_page(browser, server[0], refused=True) as page:
        put(page, ("a.dcm", data_of(dicom(FILM))), ("b.dcm", other))
        expect(page.get_by_role("application")).to_be_visible()
        expect(page.get_by_role("button", name="View 2 (PA)", exact=True)).to_be_visible()
        page.get_by_role("button", name="Write draft").click()
        expect(page.get_by_role("alert")).to_contain_text("are of two patients (their Patient IDs differ)")
        assert "P-2" not in page.get_by_role("alert").inner_text()


@NEEDS_BROWSER
def test_a_file_of_several_frames_asks_which(browser: Browser, server: tuple[str, Scripted]) -> None:
    frames = np.stack([FILM, FILM // 2, FILM * 2])
    data = data_of(dicom(frames, WindowCenter=1024, WindowWidth=2048))
    with open_page(browser, server[0], refused=True) as page:
        put(page, ("loop.dcm", data))
        expect(page.locator("#ask-words")).to_have_text("loop.dcm has 3 frames. Which one shall be opened?")
        frame = page.get_by_label("Frame", exact=True)
        expect(frame).to_be_focused()
        frame.fill("9")
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("application")).to_be_hidden()
        frame.fill("2")
        page.keyboard.press("Enter")
        expect(page.get_by_role("application")).to_be_visible()
        assert middle(page) == [round((500 - 1023.5) / 2047 * 255 + 127.5)] * 3
        page.get_by_role("button", name="Write draft").click()
        expect(page.locator("#status")).to_contain_text("finished")


@NEEDS_BROWSER
def test_what_may_be_no_chest_film_is_opened_or_left_out_as_the_reader_says(
    browser: Browser, server: tuple[str, Scripted]
) -> None:
    data = data_of(dicom(FILM, Modality="CT"))
    with open_page(browser, server[0], refused=True) as page:
        put(page, ("scan.dcm", data))
        expect(page.locator("#ask-words")).to_have_text(
            "scan.dcm may be no chest film: its modality is CT, must be CR, DX, DR. Open it all the same?"
        )
        page.get_by_role("button", name="Leave it out").click()
        expect(page.get_by_role("group", name="scan.dcm")).to_be_hidden()
        expect(page.get_by_role("application")).to_be_hidden()
        put(page, ("scan.dcm", data))
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("application")).to_be_visible()
        page.get_by_role("button", name="Write draft").click()
        expect(page.locator("#status")).to_contain_text("finished")


@NEEDS_BROWSER
def test_a_film_that_shows_no_chest_is_written_of_only_as_the_reader_says(
    browser: Browser, server: tuple[str, Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, scripted = server
    doubt = Doubt(1, "no_chest", "looks like no whole chest film (1.6 times)", refused=True)
    monkeypatch.setattr(scripted, "doubts", (doubt,))
    assert isinstance(scripted.reporter, Reporter)
    monkeypatch.setattr(scripted, "_reporter", dataclasses.replace(scripted.reporter, refuses=True))
    with open_page(browser, url, refused=True) as page:
        put(page, ("hand.png", film()))
        page.get_by_role("button", name="Write draft").click()
        words = "hand.png may be no chest film: looks like no whole chest film (1.6 times). Write a draft all the same?"
        expect(page.locator("#ask-words")).to_have_text(words)
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_role("button", name="No draft").click()
        expect(page.locator("#status")).to_have_text("No draft was written.")
        page.get_by_role("button", name="Write draft").click()
        page.get_by_role("button", name="Write it").click()
        expect(page.locator("#status")).to_contain_text("finished")
        assert [job.force for job in scripted.jobs[-3:]] == [False, False, True]


@NEEDS_BROWSER
def test_dicom_that_cannot_be_opened_is_told_by_its_name(
    browser: Browser, server: tuple[str, Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_page(browser, server[0], refused=True) as page:
        put(page, ("cut.dcm", data_of(dicom(FILM))[:-900]), ("notes.txt", b"text"))
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("cut.dcm: The server refused this: image images[0]: its DICOM pixels cannot")
        expect(alert).to_contain_text("left out: notes.txt.")
        monkeypatch.setattr("r2gengpt.serving.films.find_spec", lambda name: None)
        put(page, ("film.dcm", data_of(dicom(FILM))))
        expect(alert).to_contain_text("film.dcm: The server refused this: image images[0]: is DICOM, which this")


@NEEDS_BROWSER
def test_a_draft_of_another_study_than_the_one_seen_says_so(page: Page) -> None:
    draft(page)
    expect(page.locator("#stale")).to_be_empty()
    page.get_by_label("Indication").fill("Another reason.")
    expect(page.locator("#stale")).to_contain_text("changed after this draft was written")
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#status")).to_contain_text("finished")
    expect(page.locator("#stale")).to_be_empty()


@NEEDS_BROWSER
def test_edits_are_not_lost_without_a_question_and_a_new_study_starts_empty(page: Page) -> None:
    draft(page)
    edit(page, "My own words.")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="New study").click()
    expect(page.get_by_label("Your text")).to_have_value("My own words.")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="New study").click()
    expect(page.get_by_label("Your text")).to_be_hidden()
    expect(page.get_by_role("application")).to_be_hidden()
    expect(page.get_by_role("button", name="Write draft")).to_be_disabled()


@NEEDS_BROWSER
def test_all_of_it_works_with_the_keyboard_alone_and_the_focus_is_always_seen(page: Page) -> None:
    def go(name: str) -> None:
        """Press Tab until the element of this id has the focus; each on the way shows that it has it."""
        for _ in range(30):
            page.keyboard.press("Tab")
            at, seen = page.evaluate("""() => {
              const at = document.activeElement;
              const shown = at.id === "files" ? at.nextElementSibling : at;
              return [at.id, getComputedStyle(shown).outlineStyle !== "none"];
            }""")
            assert seen, f"the focus on {at} is not seen"
            if at == name:
                return
        raise AssertionError(f"{name} is not reached")

    page.on("filechooser", lambda chooser: None)  # from now on, not from a moment before the key is pressed
    go("files")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "film.png", "mimeType": "image/png", "buffer": film(12)})
    expect(page.get_by_role("application")).to_be_visible()
    go("film")
    page.keyboard.press("i")
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    go("level")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#level-value")).to_have_text("51 %")
    go("indication")
    page.keyboard.type("Cough.")
    go("write")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("finished")
    expect(page.locator("#draft")).to_be_focused()
    go("verdict-edit")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your text")).to_be_focused()
    page.keyboard.press("Control+End")
    page.keyboard.type(" Seen.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_focused()
    go("save-text")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert f"{REPORT} Seen.\n" in Path(waiting.value.path()).read_text(encoding="utf-8")


@NEEDS_BROWSER
@pytest.mark.parametrize(("theme", "width"), SIDES)
def test_no_state_of_the_page_breaks_a_rule_of_axe_or_is_wider_than_the_window(
    browser: Browser, server: tuple[str, Scripted], theme: Any, width: int
) -> None:
    address, generator = server
    look: Any = {"width": width, "height": 844}
    with open_page(browser, address, refused=True, color_scheme=theme, viewport=look, bypass_csp=True) as page:

        def check(state: str) -> None:
            check_manners(page, state)
            expect(page.get_by_text(NOTICE)).to_be_in_viewport()

        check("empty")
        generator.report = SEEN
        generator.hold(9)
        choose(page, film(1), film(2))
        page.get_by_role("button", name="Write draft").click()
        expect(page.locator("#written")).to_contain_text("There is a")
        check("streaming")
        generator.go.set()
        expect(page.locator("#status")).to_contain_text("finished")
        page.get_by_text("1 unlikely").click()
        page.get_by_text("How this draft was made").click()
        expect(page.locator("#evidence")).to_contain_text("Mapped in")
        check("done")
        page.locator(".sentence").first.focus()
        check("evidence shown")
        page.get_by_label("Indication").fill("Changed.")
        check("done, and changed since")
        page.route("**/v1/reports", lambda route: route.fulfill(status=401, json={"error": {"message": "no key"}}))
        page.get_by_role("button", name="Write draft").click()
        expect(page.get_by_label("API key")).to_be_visible()
        check("refused")
        page.unroute("**/v1/reports")
        put(page, ("scan.dcm", data_of(dicom(FILM, Modality="CT"))))
        expect(page.locator("#ask")).to_be_visible()
        check("asked about a file")


@NEEDS_BROWSER
def test_the_colours_can_be_switched(browser: Browser, server: tuple[str, Scripted]) -> None:
    def background(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    with open_page(browser, server[0], color_scheme="light") as page:
        light = background(page)
        page.get_by_role("button", name="Dark colours").click()
        dark = background(page)
        page.get_by_role("button", name="Light colours").click()
        assert background(page) == light != dark
    with open_page(browser, server[0], color_scheme="dark") as page:
        assert background(page) == dark
        expect(page.get_by_role("button", name="Light colours")).to_be_visible()


@NEEDS_BROWSER
def test_the_tiny_model_itself_writes_into_the_page(browser: Browser, served: Reporter) -> None:
    with running_server(served) as (address, _), open_page(browser, address) as page:
        draft(page, film(13), film(14))
        assert page.get_by_label("Your text").input_value()
        page.get_by_text("How this draft was made").click()
        expect(page.locator("#made-list")).to_contain_text("vision-swin")
        expect(page.locator("#made-list")).to_contain_text("48 × 48 PNG, SHA-256")
