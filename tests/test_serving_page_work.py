"""What a reader does on the web page, in headless Chromium at two widths: films, tools, verdict, files, reload."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Dialog, Locator, Page, expect
from pydicom import dcmread

from dicom_files import ROOT, data_of
from dicom_files import film as dicom
from page_parts import (
    NEEDS_BROWSER,
    REPORT,
    SEEN,
    SENTENCES,
    SIZES,
    Scripted,
    browser,
    check_fits,
    check_manners,
    choose,
    draft,
    edit,
    open_page,
    page_server,
    released,
)
from r2gengpt.reporter import Reporter
from r2gengpt.serving.examples import example_films
from serving_parts import LONG, film, wait_for

__all__ = ["browser", "released"]  # fixtures
pytestmark = NEEDS_BROWSER
NO_FILM: Any = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"}
CARD = """---
license: cc-by-4.0
---
# A model <b>card</b>

It knows **nothing**, see `runs/` and [this](https://elsewhere.example/x). ![film](https://elsewhere.example/y.png)
<img src=x onerror=alert(1)> <script>alert(1)</script>

#### Deep

| part | what |
|---|---|
| eyes | a `tiny` encoder |

- one
  goes on
- two

```
# no heading
| no | table |
```
"""
WEDGE = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (48, 1))
"""From black on the left to white on the right, so that sides can be told."""


@pytest.fixture(scope="module")
def server(served: Reporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scripted]]:
    directory = tmp_path_factory.mktemp("model")
    (directory / "README.md").write_text(CARD, encoding="utf-8")
    with page_server(replace(served, directory=directory)) as (address, generator):
        yield address, generator


@pytest.fixture(params=SIZES, ids=["1280", "390"])
def page(request: pytest.FixtureRequest, browser: Browser, server: tuple[str, Scripted]) -> Iterator[Page]:
    """The page at this width; at the end it is not wider than its window."""
    narrow = request.param["width"] < 1000
    with open_page(browser, server[0], viewport=request.param, has_touch=narrow) as page:
        yield page
        check_fits(page)


def tools(page: Page) -> None:
    """Unfold the tools where they are folded."""
    if page.get_by_role("button", name="Rotate").is_hidden():
        page.get_by_text("Contrast, rotation, zoom").click()


def named(page: Page, name: str) -> Locator:
    """The button of exactly this name."""
    return page.get_by_role("button", name=name, exact=True)


def put(page: Page, *files: bytes) -> None:
    """Choose DICOM files."""
    given: Any = [{"name": f"{at}.dcm", "mimeType": "", "buffer": data} for at, data in enumerate(files)]
    page.get_by_label("Choose images").set_input_files(given)
    expect(page.get_by_role("application").first).to_be_visible()


def write(page: Page) -> None:
    """The draft of what is there, and its maps."""
    named(page, "Write draft").click()
    expect(page.locator("#status")).to_contain_text("The draft is finished")
    expect(page.locator("#evidence")).not_to_be_empty()


def saved(page: Page, button: str) -> tuple[str, bytes]:
    """The name and the bytes of the file that a button saves."""
    with page.expect_download() as waiting:
        named(page, button).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def grey(page: Page, x: float = 0.5, y: float = 0.5, film: str = "film") -> int:
    """How bright the film is at this place of the canvas, after the next frame."""
    script = """([name, x, y]) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
      const film = document.getElementById(name);
      const at = [Math.floor(film.width * x), Math.floor(film.height * y), 1, 1];
      done(film.getContext("2d").getImageData(...at).data[0]);
    })))"""
    found: int = page.evaluate(script, [film, x, y])
    return found


def sides(page: Page, film: str = "film") -> tuple[int, int, int, int]:
    """The film's brightness left and right, above and below its middle."""
    places = ((0.45, 0.5), (0.55, 0.5), (0.5, 0.45), (0.5, 0.55))
    left, right, above, below = (grey(page, x, y, film) for x, y in places)
    return left, right, above, below


# ------------------------------------------------------------------ before the first draft


def test_an_example_film_is_one_click_away_and_what_is_known_of_it_is_told(page: Page) -> None:
    cards = page.locator("#example-list button")
    expect(cards).to_have_count(len(example_films()))
    for at, known in enumerate(example_films()):
        expect(cards.nth(at)).to_contain_text(known.title)
        expect(cards.nth(at)).to_contain_text(known.caption)
    page.get_by_text("Where these films come from").click()
    expect(page.locator("#example-credits")).to_contain_text(re.compile(r"\w{3}"))
    pictures = "[...document.querySelectorAll('#example-list img')].every((one) => one.naturalWidth > 0)"
    page.locator("#example-list").scroll_into_view_if_needed()
    page.wait_for_function(pictures)
    cards.nth(1).click()
    expect(page.get_by_role("application")).to_have_accessible_name(re.compile("View 1 of 1"))
    expect(page.locator("#film-known")).to_have_text(f"Known of this example film: {example_films()[1].caption}")
    expect(page.locator("#examples")).to_be_hidden()
    write(page)
    named(page, "New study").click()
    expect(page.locator("#examples")).to_be_visible()


def test_the_models_name_and_card_are_there_before_the_first_draft_and_fold_away_after_it(page: Page) -> None:
    expect(page.locator("#model-name")).to_have_text("best")
    expect(page.locator("#model-parts")).to_have_text("vision-swin and lm-stablelm, licence cc-by-4.0")
    card = page.locator("#card-text")
    expect(card).to_be_visible()
    expect(card.get_by_role("heading")).to_have_text(["A model <b>card</b>", "Deep"])
    draft(page)
    expect(card).to_be_hidden()
    page.get_by_text("The model’s card").click()
    expect(card).to_be_visible()


def test_a_card_is_shown_as_text_and_neither_runs_nor_fetches_anything(page: Page) -> None:
    """`open_page` fails where anything is asked of another machine, or a script complains."""
    card = page.locator("#card-text")
    expect(card).to_contain_text("<img src=x onerror=alert(1)> <script>alert(1)</script>")
    expect(card).to_contain_text("It knows nothing, see runs/ and this. film")
    assert card.locator("img, script, a").count() == 0
    expect(card.locator("strong")).to_have_text("nothing")
    expect(card.get_by_role("heading", level=4)).to_have_text("Deep")
    expect(card.get_by_role("columnheader")).to_have_text(["part", "what"])
    expect(card.get_by_role("cell")).to_have_text(["eyes", "a tiny encoder"])
    expect(card.get_by_role("listitem")).to_have_text(["one goes on", "two"])
    expect(card.locator("pre")).to_have_text("# no heading\n| no | table |")


def test_errors_of_files_stand_beside_the_place_where_files_are_dropped(page: Page) -> None:
    page.get_by_label("Choose images").set_input_files(NO_FILM)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("left out: a.txt.")
    expect(alert).to_be_in_viewport()
    drop, told = page.locator("#drop").bounding_box(), alert.bounding_box()
    assert drop is not None
    assert told is not None
    assert 0 <= told["y"] - (drop["y"] + drop["height"]) < 40
    choose(page, film(1))
    expect(page.get_by_role("alert")).to_be_hidden()


# ------------------------------------------------------------------ films


def test_patient_accession_and_date_are_on_the_page_and_in_the_name_of_every_file(page: Page) -> None:
    put(page, data_of(dicom()))
    rows = page.locator("#identity div")
    expect(rows).to_have_text(["PatientMuster, Erika (P-1)", "AccessionA 77", "Date2026-01-02"])
    write(page)
    stem = "P-1_A-77_2026-01-02_report-draft"
    endings = {"text": "txt", "PDF": "pdf", "JSON": "json", "FHIR": "fhir.json", "SR": "dcm"}
    endings |= {"measurement SR": "measurements.dcm", "picture": "picture.dcm"}
    for form, ending in endings.items():
        name, data = saved(page, f"Save as {form}")
        assert name == f"{stem}.{ending}"
        assert data
        expect(page.locator("#saved")).to_contain_text(f"Saved as {name}.")
    put(page, data_of(dicom(PatientID="P-2", AccessionNumber="B", SOPInstanceUID=f"{ROOT}5")))
    assert saved(page, "Save as text")[0].startswith("P-1_"), "a file is named by whose the draft is"
    named(page, "New study").click()
    expect(page.locator("#identity")).to_be_hidden()
    draft(page)
    assert saved(page, "Save as text")[0] == "report-draft.txt"


@pytest.mark.parametrize(
    ("patient", "name"),
    [
        ({"id": "../../etc/passwd", "name": "", "accession": "a\\b:c", "study_date": "20260102"},
         "etc-passwd_a-b-c_2026-01-02_report-draft.txt"),
        ({"id": " Ä/1\u202e ", "name": "", "accession": "", "study_date": ""}, "Ä-1_report-draft.txt"),
        ({"id": "x" * 500, "name": "", "accession": "...", "study_date": "notADate"},
         f"{'x' * 40}_notADate_report-draft.txt"),
        ({"id": "", "name": "Muster^Erika^^Dr=漢字", "accession": "", "study_date": ""},
         "Muster-Erika-Dr_report-draft.txt"),
        ({"id": "患者一号", "name": "", "accession": "\0\n", "study_date": ""}, "患者一号_report-draft.txt"),
        (None, "report-draft.txt"),
    ],
    ids=["path", "marks", "long", "name", "chinese", "none"],
)  # fmt: skip
def test_a_files_name_holds_nothing_that_is_not_for_names(
    browser: Browser, server: tuple[str, Scripted], patient: Any, name: str
) -> None:
    with open_page(browser, server[0]) as page:
        script = "async (of) => (await import('/page/names.js')).fileName(of, 'txt')"
        assert page.evaluate(script, patient) == name


def test_presets_rotation_and_flip_change_what_is_seen_and_are_told(page: Page) -> None:
    put(page, data_of(dicom(WEDGE)))
    tools(page)
    left, right, above, below = sides(page)
    assert left < right - 10
    assert abs(above - below) < 4
    for name in ("Auto", "Lung", "Mediastinum", "Bone"):
        named(page, name).click()
        expect(named(page, name)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("[id^=preset][aria-pressed=true]")).to_have_count(1)
    dark = grey(page)
    named(page, "Lung").click()
    assert grey(page) > dark + 50, "what is white for the lungs is dark for the bones"
    page.get_by_label("Level").fill("50")
    expect(page.locator("[id^=preset][aria-pressed=true]")).to_have_count(0)
    named(page, "Reset view").click()
    named(page, "Flip").click()
    assert sides(page)[:2] == pytest.approx((right, left), abs=3)
    expect(page.locator("#film-turned")).to_have_text("This view is mirrored: left and right are exchanged.")
    named(page, "Flip").click()
    named(page, "Rotate").click()
    expect(page.locator("#film-turned")).to_have_text("This view is turned by 90°.")
    turned = sides(page)
    assert turned[2] < turned[3] - 10, "what was left is above"
    for _ in range(3):
        named(page, "Rotate").click()
    expect(page.locator("#film-turned")).to_be_empty()
    assert sides(page) == (left, right, above, below)


def test_a_drag_moves_a_film_and_keys_turn_it(page: Page) -> None:
    put(page, data_of(dicom(WEDGE)))
    canvas = page.get_by_role("application")
    canvas.focus()
    before = grey(page)
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y)
    page.mouse.up()
    assert grey(page) < before - 5, "the dark side was moved into the middle"
    page.mouse.move(x - 90, y)
    assert grey(page) < before - 5, "a released pointer moves nothing"
    page.keyboard.press("0")
    assert grey(page) == before
    page.keyboard.press("r")
    expect(page.locator("#film-turned")).to_contain_text("turned by 90°")
    page.keyboard.press("f")
    expect(page.locator("#film-turned")).to_contain_text("mirrored")
    page.keyboard.press("0")
    canvas.dblclick()
    expect(page.locator("#zoom-value")).to_have_text("2.5×")
    canvas.dblclick()
    expect(page.locator("#zoom-value")).to_have_text("1.0×")


def test_two_fingers_zoom_and_hints_are_for_the_hand_that_is_there(
    browser: Browser, server: tuple[str, Scripted]
) -> None:
    pinch = """() => {
      const film = document.getElementById("film");
      const { left, top, width, height } = film.getBoundingClientRect();
      const at = (name, pointerId, dx) => film.dispatchEvent(new PointerEvent(name, {
        pointerId, pointerType: "touch", clientX: left + width / 2 + dx, clientY: top + height / 2, bubbles: true,
      }));
      film.setPointerCapture = () => {};
      at("pointerdown", 1, -20); at("pointerdown", 2, 20);
      at("pointermove", 1, -60); at("pointermove", 2, 60);
      at("pointerup", 1, -60); at("pointerup", 2, 60);
    }"""
    with open_page(browser, server[0], viewport=SIZES[1], has_touch=True) as page:
        put(page, data_of(dicom(WEDGE)))
        expect(page.locator("#film-hint")).to_contain_text("Pinch to zoom")
        expect(page.locator("#film-hint .for-touch")).to_be_visible()
        expect(page.locator("#film-hint .for-mouse")).to_be_hidden()
        page.evaluate(pinch)
        expect(page.locator("#zoom-value")).to_have_text("3.0×")
        page.locator("#film").dblclick()
        expect(page.locator("#zoom-value")).to_have_text("1.0×")
    with open_page(browser, server[0], viewport=SIZES[0]) as page:
        choose(page, film(1))
        expect(page.locator("#film-hint .for-touch")).to_be_hidden()
        expect(page.locator("#film-hint .for-mouse")).to_be_visible()


def test_two_films_stand_side_by_side_each_with_its_own_view_and_state(page: Page) -> None:
    side = data_of(dicom(WEDGE[:, ::-1], SOPInstanceUID=f"{ROOT}4", ViewPosition="LL"))
    put(page, data_of(dicom(WEDGE)))
    tools(page)
    expect(named(page, "Side by side")).to_be_disabled()
    put(page, side)
    expect(named(page, "View 2 (LL)")).to_have_attribute("aria-pressed", "true")
    named(page, "Side by side").click()
    films = page.get_by_role("application")
    expect(films).to_have_count(2)
    boxes = [films.nth(at).bounding_box() for at in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    first, second = sides(page), sides(page, "film2")
    assert (first[0] < first[1]) != (second[0] < second[1]), "not the same film twice"
    films.nth(1).focus()
    named(page, "Flip").click()
    assert sides(page, "film2")[:2] == pytest.approx(second[1::-1], abs=3)
    assert sides(page) == first, "the other film is as it was"
    films.nth(0).click()
    expect(named(page, "Flip")).to_have_attribute("aria-pressed", "false")
    films.nth(1).click()
    expect(named(page, "Flip")).to_have_attribute("aria-pressed", "true")
    named(page, "Remove view 2").click()
    expect(films).to_have_count(1)
    expect(named(page, "Side by side")).to_be_disabled()


def test_the_films_take_the_full_screen_and_escape_gives_it_back(page: Page) -> None:
    choose(page, film(1, size=64))
    tools(page)
    before = page.locator("#viewer").bounding_box()
    named(page, "Full screen").click()
    expect(named(page, "Leave full screen")).to_have_attribute("aria-pressed", "true")
    inside = page.evaluate("document.fullscreenElement?.id ?? document.querySelector('.full').id")
    assert inside == "viewer"
    full = page.locator("#viewer").bounding_box()
    assert before is not None
    assert full is not None
    assert full["width"] >= page.evaluate("window.innerWidth") > before["width"]
    named(page, "Leave full screen").click()
    expect(named(page, "Full screen")).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("document.fullscreenElement") is None


# ------------------------------------------------------------------ the draft


def shown_draft(page: Page) -> int:
    """How many elements of the page that are seen hold the draft's first sentence."""
    script = """(words) => [...document.querySelectorAll(".sentence, textarea, .written")].filter((one) =>
      one.checkVisibility() && !one.querySelector(".sentence")
      && (one.value ?? one.textContent).includes(words)).length"""
    count: int = page.evaluate(script, SENTENCES[0].text)
    return count


def test_the_draft_stands_once_beside_its_film(page: Page) -> None:
    draft(page)
    assert shown_draft(page) == 1
    named(page, "Edit").click()
    assert shown_draft(page) == 1
    named(page, "Done").click()
    assert shown_draft(page) == 1
    page.locator("#written").scroll_into_view_if_needed()
    film_, words = page.locator("#film").bounding_box(), page.locator("#written").bounding_box()
    assert film_ is not None
    assert words is not None
    if page.evaluate("window.innerWidth") > 1000:
        assert film_["x"] + film_["width"] <= words["x"]
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#film")).to_be_in_viewport(ratio=0.5)
    else:
        assert film_["y"] + film_["height"] <= words["y"]


def test_sentences_that_were_not_edited_keep_their_shades_and_the_readers_words_are_marked(page: Page) -> None:
    draft(page)
    edit(page, f"Mine first. {SENTENCES[0].text} {SENTENCES[2].text} <b>Mine</b> last.")
    named(page, "Done").click()
    expect(page.locator("#written .sentence")).to_have_count(2)
    expect(page.locator("#written .own")).to_have_text(["Mine first. ", " <b>Mine</b> last."])
    expect(page.locator("#legend .own")).to_be_visible()
    kept = page.get_by_role("button", name=f"{SENTENCES[2].text} 42 %, check this, no evidence")
    expect(kept).to_be_visible()
    edit(page, "All of it is mine.")
    named(page, "Done").click()
    expect(page.locator("#written .own")).to_have_text("All of it is mine.")
    edit(page, "")
    named(page, "Done").click()
    expect(page.locator("#written")).to_be_empty()


def test_ctrl_enter_writes_and_then_ends_editing_without_writing_again(
    page: Page, server: tuple[str, Scripted]
) -> None:
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("Choose the images")
    choose(page, film(1))
    before = len(server[1].jobs)
    page.get_by_label("Indication").press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("finished")
    assert len(server[1].jobs) == before + 1
    edit(page, "Mine.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("Your text")).to_be_hidden()
    expect(page.locator("#written")).to_have_text("Mine.")
    assert len(server[1].jobs) == before + 1


def test_findings_stand_with_their_probabilities(page: Page, server: tuple[str, Scripted]) -> None:
    server[1].report = SEEN
    draft(page)
    expect(page.locator("#film-findings")).to_contain_text("Pleural Effusion91 % 85 % to 95 %likely")


def test_a_prior_report_stands_beside_the_draft_and_goes_nowhere(page: Page, server: tuple[str, Scripted]) -> None:
    draft(page)
    button = page.get_by_role("button", name="Prior report")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    prior = page.get_by_label("Prior report")
    expect(prior).to_be_focused()
    prior.fill("Years ago: normal.")
    written, beside = page.locator("#written").bounding_box(), prior.bounding_box()
    assert written is not None
    assert beside is not None
    if page.evaluate("window.innerWidth") > 1000:
        assert written["x"] + written["width"] <= beside["x"]
    expect(page.locator("#stale")).to_be_empty()
    for form in ("text", "JSON"):
        assert b"Years ago" not in saved(page, f"Save as {form}")[1]
    write(page)
    assert "Years ago" not in str(server[1].jobs[-1].instruction)
    expect(prior).to_have_value("Years ago: normal.")
    button.click()
    expect(prior).to_be_hidden()


# ------------------------------------------------------------------ the verdict and the files


def reader_of(page: Page) -> dict[str, Any]:
    """What the saved JSON says of the reader."""
    record = json.loads(saved(page, "Save as JSON")[1])
    assert record["findings"] == REPORT, "the server's record is as it was"
    assert record["notice"].startswith("AI draft")
    reader: dict[str, Any] = record["reader"]
    assert (reader["decided"] is None) == (reader["verdict"] is None)
    return {name: reader[name] for name in ("verdict", "edited", "text")}


def test_a_verdict_is_given_taken_back_and_saved(page: Page) -> None:
    draft(page)
    assert reader_of(page) == {"verdict": None, "edited": False, "text": REPORT}
    accept, change, reject = (named(page, name) for name in ("Accept", "Edit", "Reject"))
    accept.click()
    expect(accept).to_have_attribute("aria-pressed", "true")
    assert reader_of(page)["verdict"] == "accept"
    assert ", accepted by its reader\n" in saved(page, "Save as text")[1].decode()
    accept.click()
    expect(page.locator("#verdict-words")).to_have_text("No verdict yet.")
    edit(page, "Mine.")
    expect(change).to_have_attribute("aria-pressed", "true")
    expect(accept).to_be_disabled()
    assert reader_of(page) == {"verdict": "edit", "edited": True, "text": "Mine."}
    reject.click()
    assert reader_of(page)["verdict"] == "reject"
    assert ", edited by its reader, rejected by its reader\n" in saved(page, "Save as text")[1].decode()
    reject.click()
    assert reader_of(page)["verdict"] == "edit", "the edits are still there"
    named(page, "Undo all edits").click()
    assert reader_of(page) == {"verdict": None, "edited": False, "text": REPORT}
    expect(accept).to_be_enabled()


def test_fhir_and_sr_are_of_the_text_as_it_was_left(page: Page, server: tuple[str, Scripted]) -> None:
    server[1].report = SEEN
    put(page, data_of(dicom()))
    write(page)
    edit(page, "Only my words.")
    bundle = json.loads(saved(page, "Save as FHIR")[1])
    resources = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
    assert "Only my words." in resources["DiagnosticReport"]["conclusion"]
    assert "small opacity" not in resources["DiagnosticReport"]["conclusion"]
    values = [str(one.value) for one in dcmread(io.BytesIO(saved(page, "Save as SR")[1])).iterall() if one.VR != "SQ"]
    assert "Only my words." in values
    assert any("edited by its reader" in value for value in values)
    assert "Pleural Effusion" in " ".join(values)
    named(page, "Reject").click()
    expect(named(page, "Save as SR")).to_be_disabled()
    expect(page.locator("#forms-hint")).to_have_text("FHIR and DICOM objects are not made of a rejected draft.")


def test_forms_for_archives_that_cannot_be_made_are_told_with_the_reason(page: Page) -> None:
    draft(page)
    for name in ("Save as FHIR", "Save as SR"):
        expect(named(page, name)).to_be_disabled()
    expect(page.locator("#forms-hint")).to_have_text("FHIR and DICOM objects need DICOM images.")


# ------------------------------------------------------------------ a reload


def test_edits_outlive_a_reload_and_fit_the_same_films_again(page: Page) -> None:
    data = data_of(dicom())
    put(page, data)
    page.get_by_label("Indication").fill("Cough.")
    write(page)
    page.get_by_role("button", name="Prior report").click()
    page.get_by_label("Prior report").fill("Before: normal.")
    edit(page, f"Mine. {SENTENCES[0].text}")
    expect(page.locator("#kept")).to_contain_text("in this tab only")
    page.reload()
    expect(page.get_by_label("Your text")).to_have_value(f"Mine. {SENTENCES[0].text}")
    expect(page.locator("#written .own")).to_have_text("Mine. ")
    expect(named(page, "Edit")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Indication")).to_have_value("Cough.")
    expect(page.get_by_label("Prior report")).to_have_value("Before: normal.")
    expect(page.locator("#stale")).to_contain_text("choose them again")
    expect(named(page, "Save as SR")).to_be_disabled()
    assert saved(page, "Save as text")[0].startswith("P-1_A-77_2026-01-02_")
    put(page, data)
    expect(page.locator("#stale")).to_be_empty()
    expect(named(page, "Save as SR")).to_be_enabled()
    expect(page.locator("#evidence")).to_contain_text("Mapped in")
    assert saved(page, "Save as SR")[0].endswith(".dcm")


def test_other_films_after_a_reload_do_not_fit_the_draft(page: Page) -> None:
    draft(page, film(1))
    page.reload()
    expect(page.locator("#stale")).to_contain_text("choose them again")
    choose(page, film(2))
    expect(page.locator("#stale")).to_contain_text("it may not fit any more")
    expect(page.locator("#evidence")).to_be_empty()


def test_a_new_study_leaves_nothing_of_the_old_one_in_the_browser(page: Page) -> None:
    page.get_by_label("Indication").fill("Cough.")
    draft(page)
    assert "Cough." in page.evaluate("JSON.stringify({ ...sessionStorage })")
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    named(page, "New study").click()
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    expect(page.get_by_label("Your text")).to_be_hidden()
    expect(page.get_by_label("Indication")).to_be_empty()


def test_a_browser_that_keeps_nothing_is_told_of_and_loses_no_edit_in_silence(
    browser: Browser, server: tuple[str, Scripted]
) -> None:
    with open_page(browser, server[0]) as page:
        page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
        draft(page)
        edit(page, "Mine.")
        expect(page.locator("#kept")).to_contain_text("keeps nothing for the page")
        asked: list[str] = []

        def accept(dialog: Dialog) -> None:
            asked.append(dialog.type)
            dialog.accept()

        page.on("dialog", accept)
        page.reload()
        assert asked == ["beforeunload"]


@pytest.mark.parametrize("broken", ["{", "null", "[]", '"x"', '{"record": 3}', '{"record": {}, "sent": {}}'])
def test_a_store_that_somebody_broke_does_not_stop_the_page(
    browser: Browser, server: tuple[str, Scripted], broken: str
) -> None:
    with open_page(browser, server[0]) as page:
        page.evaluate("(text) => sessionStorage.setItem('r2gengpt', text)", broken)
        page.reload()
        draft(page)
        assert saved(page, "Save as text")[0] == "report-draft.txt"


# ------------------------------------------------------------------ the queue


def test_who_waits_sees_the_place_in_the_queue_and_the_time_left(
    page: Page, browser: Browser, server: tuple[str, Scripted]
) -> None:
    address, generator = server
    generator.hold(2)
    with open_page(browser, address) as other:
        for one in (other, page):
            choose(one, film(1))
            one.get_by_label("Then map each sentence").uncheck()
        named(other, "Write draft").click()
        expect(other.locator("#written")).to_have_text("The heart")
        named(page, "Write draft").click()
        expect(page.locator("#queue")).to_contain_text("Place 1 in the queue")
        expect(page.locator("#status")).to_have_text("Waiting: place 1 in the queue.")
        wait_for(lambda: generator.line.waiting == 1)
        generator.go.set()
        for one in (other, page):
            expect(one.locator("#status")).to_contain_text("finished")
            expect(one.locator("#queue")).to_be_empty()


def test_the_time_left_is_told_as_the_server_tells_it_until_the_first_word(
    page: Page, server: tuple[str, Scripted]
) -> None:
    told: dict[str, Any] = {"place": 2, "seconds_left": 42.3}
    page.route("**/v1/queue/*", lambda route: route.fulfill(json=told))
    server[1].hold(0)
    choose(page, film(1))
    named(page, "Write draft").click()
    expect(page.locator("#queue")).to_have_text("Place 2 in the queue, about 40 s left")
    told.update(place=0, seconds_left=7.0)
    expect(page.locator("#queue")).to_have_text("about 7 s left")
    expect(page.locator("#status")).to_have_text("It is being written …")
    server[1].go.set()
    expect(page.locator("#status")).to_contain_text("finished")
    assert page.locator("#queue").text_content() == "", "nothing is left as soon as it is finished"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s left"), (7.4, "about 7 s left"), (42, "about 40 s left"), (89, "about 90 s left"),
     (200, "about 3 min left"), (LONG * 60, "about 120 min left")],
)  # fmt: skip
def test_time_left_is_told_no_more_exactly_than_it_is_known(
    browser: Browser, server: tuple[str, Scripted], seconds: float, words: str
) -> None:
    with open_page(browser, server[0]) as page:
        script = "async (left) => (await import('/page/queue.js')).aboutSeconds(left)"
        assert page.evaluate(script, seconds) == words


# ------------------------------------------------------------------ axe


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["1280", "390"])
def test_axe_finds_nothing_while_a_reader_works(
    browser: Browser, server: tuple[str, Scripted], theme: Any, size: Any
) -> None:
    address, generator = server
    generator.report = SEEN
    with open_page(browser, address, color_scheme=theme, viewport=size, bypass_csp=True) as page:

        def check(state: str) -> None:
            check_manners(page, state)

        expect(page.locator("#example-list button").first).to_be_visible()
        page.get_by_text("Where these films come from").click()
        check("examples and the card")
        page.get_by_label("Choose images").set_input_files(NO_FILM)
        expect(page.get_by_role("alert")).to_be_visible()
        check("a file refused")
        put(page, data_of(dicom(WEDGE)), data_of(dicom(WEDGE, SOPInstanceUID=f"{ROOT}4")))
        expect(named(page, "View 2 (PA)")).to_be_visible()
        tools(page)
        named(page, "Side by side").click()
        named(page, "Lung").click()
        named(page, "Flip").click()
        write(page)
        named(page, "Accept").click()
        check("accepted, two films")
        page.get_by_role("button", name="Prior report").click()
        page.get_by_label("Prior report").fill("Before.")
        edit(page, f"Mine. {SENTENCES[0].text}")
        check("editing beside a prior report")
        named(page, "Done").click()
        named(page, "Reject").click()
        check("edited and rejected")
        named(page, "Full screen").click()
        expect(named(page, "Leave full screen")).to_be_visible()
        check("full screen")
        named(page, "Leave full screen").click()
        page.reload()
        expect(page.locator("#stale")).not_to_be_empty()
        check("after a reload")
