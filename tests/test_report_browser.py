"""report.html in a real browser (Chromium, where it is installed): no error at 590 studies, and its controls work."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import ViewportSize, expect, sync_playwright

from r2gengpt.evaluation.page.page import report_page
from r2gengpt.evaluation.page.sentences import evidence_of
from r2gengpt.evaluation.page.study import StudyRow
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score
from r2gengpt.report import Report, Sentence
from report_pages import scores_of, written

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
STUDIES = 590
FINDINGS = ("The lungs are clear.", "The heart is large.", "There is an effusion.", "No pneumothorax is seen.")
HOSTILE = "</p></article><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">'"


def predicted(place: int) -> Report:
    texts = [FINDINGS[place % 4], FINDINGS[place // 4 % 4], "zebra." if place == 400 else "Bones are intact."]
    sentences = tuple(
        Sentence(text, tokens=5, logprob=-0.5, agreement=0.5, confidence=0.25 * n, needs_review=not n)
        for n, text in enumerate(texts, start=place % 2)
    )
    reference = " ".join([FINDINGS[place % 3], HOSTILE if place == 7 else FINDINGS[place // 3 % 4]])
    study = HOSTILE if place == 8 else f"s{place}"
    return Report(study, " ".join(texts), reference, 15, -0.01 * (place % 50) - 0.1, sentences=sentences)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """590 studies of two films, with confidence and evidence."""
    directory = tmp_path_factory.mktemp("films")
    noise = np.random.default_rng(0)
    films = [directory / f"{i}.png" for i in range(4)]
    for film in films:
        Image.fromarray(noise.integers(0, 256, (64, 48), dtype=np.uint8)).resize((480, 640)).save(film)
    predictions = [predicted(place) for place in range(STUDIES)]
    rows = []
    texts = {p.id: p.text for p in predictions}
    scores = score(texts, {p.id: (p.reference,) for p in predictions}, PROTOCOLS["clean"], resamples=20)
    for i, prediction in enumerate(predictions):
        maps = [
            {
                "text": s.text,
                "map": noise.normal(size=49).tolist(),
                "drop_top": 0.5,
                "drop_random": 0.1,
                "verdict": "no evidence" if s.text == "Bones are intact." else "evidence",
            }
            for s in prediction.sentences
        ]
        evidence = evidence_of({"id": prediction.id, "grid": [7, 7], "sentences": maps, "verdict": "evidence"})
        own = {name: float(values[i]) for name, values in scores.per_study.items()}
        rows.append(StudyRow(prediction.id, (films[i % 4], films[(i + 1) % 4]), prediction, own, evidence))
    return report_page("Reports", rows, scores.to_json(), {"model": HOSTILE})


def opened(path: Path, content: str) -> tuple[str, str]:
    """The document after its scripts ran, and the browser's messages."""
    path.write_text(content, encoding="utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={path.parent / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_590_studies_open_without_an_error_in_the_console(page: str, tmp_path: Path) -> None:
    assert page.count('<article class="study"') == STUDIES + 3
    assert len(page.encode()) < 30_000_000
    document, messages = opened(tmp_path / "report.html", page)
    assert messages == ""
    assert '<html lang="en" data-ready="yes">' in document
    assert "<title>Reports</title>" in document
    assert len(re.findall(r'<article class="study" id="study-', document)) == 20


def test_the_page_tells_of_an_error_in_its_script(page: str, tmp_path: Path) -> None:
    broken = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    broken = broken.replace("</body>", "<script>notThere.at.all()</script></body>")
    document, messages = opened(tmp_path / "report.html", broken)
    assert "notThere is not defined" in messages
    assert "Something on this page does not work: Uncaught ReferenceError: notThere is not defined" in document


def test_the_policy_keeps_a_script_that_is_not_the_pages_from_running(page: str, tmp_path: Path) -> None:
    document, messages = opened(
        tmp_path / "report.html", page.replace("</body>", "<script>document.title='run'</script></body>")
    )
    assert "<title>Reports</title>" in document
    assert "Content Security Policy" in messages


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_breaks_no_rule_of_axe_and_its_first_screen_has_a_film(
    theme: Literal["light", "dark"], width: int, tmp_path: Path
) -> None:
    same = [Report(f"s{i}", "Left effusion.", "Right effusion." if i else "Clear.") for i in range(21)]
    page = written(tmp_path, same, content=scores_of(same, labels=True).to_json())
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        look: ViewportSize = {"width": width, "height": 844}
        opened_page = browser.new_page(viewport=look, color_scheme=theme, bypass_csp=True)
        opened_page.goto((tmp_path / "report.html").as_uri())
        expect(opened_page.get_by_text("Collapsed: 1 distinct output for 21 studies.")).to_be_in_viewport()
        expect(opened_page.locator("img").first).to_be_in_viewport(ratio=0.3)
        for details in opened_page.locator("summary").all():
            details.click()
        found = Axe().run(opened_page)
        assert found.violations_count == 0, found.generate_report()
        assert opened_page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


STEPS = """
const by = id => document.getElementById(id), result = {};
const shown = () => Array.from(document.querySelectorAll("#list article"), a => a.dataset.id);
const set = (id, value) => { by(id).value = value; by(id).dispatchEvent(new Event("input", {bubbles: true})); };
const numbers = key => Array.from(document.querySelectorAll("#list article"), a => Number(a.dataset[key]));
result.count = by("count").textContent;
result.first = shown().slice(0, 3);
by("next").click();
result.second = shown().slice(0, 2);
result.back = by("previous").disabled;
set("search", "zebra BONES"); result.both = shown();
set("search", "zebra"); result.word = [shown(), by("count").textContent, by("below").hidden];
set("search", "s123"); result.id = shown();
set("search", "no such word"); result.nothing = [shown(), by("nothing").hidden];
set("search", "onerror="); result.hostile = shown().length;
set("search", "");
set("order", "cider down"); result.down = numbers("cider");
set("order", "probability up"); result.up = numbers("probability");
set("order", "id up"); result.ids = shown().slice(1, 4);
set("order", "file"); set("kind", "review"); result.review = [by("count").textContent, shown()[0]];
set("kind", ""); set("size", "100000"); result.all = shown().length;
set("size", "20");
const pixels = () => Array.from(document.querySelectorAll("#list canvas"), c => {
  const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  return [c.width, c.height, data.some((v, i) => i % 4 === 3 && v > 100)];
});
const sentences = document.querySelectorAll("#list .s[tabindex]");
sentences[1].focus();
result.focused = [pixels(), document.querySelector("#list .told").textContent, document.activeElement === sentences[1]];
sentences[2].focus();
result.weak = Array.from(document.querySelectorAll("#list canvas"), c => c.className);
sentences[4].dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
result.pointed = [document.querySelectorAll("#list canvas").length, document.querySelectorAll(".now").length];
document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
result.cleared = document.querySelectorAll("canvas").length;
by("shading").click();
result.unshaded = getComputedStyle(document.querySelector(".q0")).backgroundColor;
location.hash = "#study-333"; window.dispatchEvent(new Event("hashchange"));
result.linked = [shown().includes("s333"), document.activeElement.textContent.trim(), by("count").textContent];
result.errors = document.documentElement.dataset.errors || "";
result.unlabelled = Array.from(document.querySelectorAll("input, select")).filter(f => !f.labels.length).length;
const name = button => (button.getAttribute("aria-label") || button.textContent).trim();
result.unnamed = Array.from(document.querySelectorAll("button")).filter(b => !name(b)).length;
document.documentElement.dataset.result = JSON.stringify(result);
"""


@pytest.fixture(scope="module")
def driven(page: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page showed after each step; its policy is taken out, since it would refuse the steps."""
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    free = free.replace("</body>", f"<script>{STEPS}</script></body>")
    document, messages = opened(tmp_path_factory.mktemp("driven") / "report.html", free)
    assert messages == ""
    found = re.search(r'data-result="([^"]*)"', document)
    assert found is not None
    return dict(json.loads(html.unescape(found[1])))


def test_studies_come_in_pages(driven: dict[str, Any]) -> None:
    assert driven["count"] == "1–20 of 590 studies"
    assert driven["first"] == ["s0", "s1", "s2"]
    assert driven["second"] == ["s20", "s21"]
    assert driven["back"] is False
    assert driven["all"] == STUDIES


def test_search_finds_ids_and_words_and_says_how_many(driven: dict[str, Any]) -> None:
    assert driven["word"] == [["s400"], "1–1 of 1 found, 590 in all", True]
    assert driven["both"] == []
    assert driven["id"] == ["s123"]
    assert driven["nothing"] == [[], False]
    assert driven["hostile"] == 2  # shown as text: one in a reference, one as an id


def test_studies_are_sorted_by_score_and_id(driven: dict[str, Any]) -> None:
    assert driven["down"] == sorted(driven["down"], reverse=True)
    assert driven["up"] == sorted(driven["up"])
    assert len(set(driven["up"])) > 1
    assert driven["ids"] == ["s0", "s1", "s2"]


def test_studies_that_need_review_can_be_shown_alone(driven: dict[str, Any]) -> None:
    assert driven["review"] == ["1–20 of 295 found, 590 in all", "s0"]


def test_a_sentence_reached_by_keyboard_or_pointer_shows_its_map_on_every_film(driven: dict[str, Any]) -> None:
    films, told, focused = driven["focused"]
    assert focused is True
    assert len(films) == 2
    assert all(width > 0 and height > width and drawn for width, height, drawn in films)
    wanted = "confidence 0.25 · mean log-probability (nats a token) −0.5 · beam agreement 0.5 · tokens 5 · "
    assert told.startswith(wanted)
    assert "+0.500" in told
    assert told.endswith(" · depends on the marked area")
    assert driven["pointed"] == [2, 1]
    assert driven["cleared"] == 0


def test_a_map_without_evidence_is_drawn_weakly(driven: dict[str, Any]) -> None:
    assert driven["weak"] == ["weak", "weak"]


def test_shading_can_be_taken_away(driven: dict[str, Any]) -> None:
    assert driven["unshaded"] == "rgba(0, 0, 0, 0)"


def test_a_link_to_a_study_opens_its_page_and_goes_there(driven: dict[str, Any]) -> None:
    assert driven["linked"] == [True, "s333", "321–340 of 590 studies"]


def test_every_control_has_a_name_and_nothing_failed(driven: dict[str, Any]) -> None:
    assert (driven["unlabelled"], driven["unnamed"], driven["errors"]) == (0, 0, "")
