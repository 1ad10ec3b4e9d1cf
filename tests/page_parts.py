"""Parts that the tests of the web page share: browser, servers, a generator of a given report. No test stands here."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from film_parts import FINDINGS, LEFT_OUT
from r2gengpt.confidence.maps import Evidence, SentenceEvidence
from r2gengpt.config import CONTEXT_FIELDS, PRIOR
from r2gengpt.errors import InputError
from r2gengpt.report import Doubt, Report, Sentence
from r2gengpt.reporter import Reporter
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.jobs import Answer, Job
from r2gengpt.serving.served import ServedModel
from r2gengpt.settings import ServeConfig
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.store import VerdictStore
from serving_parts import LONG, film, running_server

expect.set_options(timeout=30_000)  # a busy machine
CHROMIUM = Path("/usr/bin/chromium")
NEEDS_BROWSER = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
SIZES: list[Any] = [{"width": 1280, "height": 800}, {"width": 390, "height": 844}]
"""Of a window."""
SENTENCES = (
    Sentence("The heart is normal in size.", 7, math.log(0.93)),
    Sentence("There is a small opacity in the left lower lobe.", 11, math.log(0.61)),
    Sentence("No pleural effusion or pneumothorax is seen.", 9, math.log(0.42), needs_review=True),
)
EVIDENCE = Evidence(
    "study",
    "gradient",
    (3, 3),
    tuple(
        SentenceEvidence(sentence.text, (0.0,) * 4 + (2.5,) + (0.0,) * 4, drop, 0.1, verdict)
        for sentence, drop, verdict in zip(
            SENTENCES, (2.0, 1.5, 0.1), ("evidence", "evidence", "no evidence"), strict=True
        )
    ),
)
"""A value in the middle of the image for each sentence."""
REPORT = " ".join(sentence.text for sentence in SENTENCES)
WRITTEN = Report("study", REPORT, tokens=28, logprob=-0.4, sentences=SENTENCES)
SEEN = replace(
    WRITTEN,
    sentences=(
        replace(SENTENCES[0], source="train-17"),
        replace(SENTENCES[1], source="train-4"),
        replace(SENTENCES[2], reason="the film shows pleural effusion: likely (.91)", source="train-17"),
    ),
    findings=FINDINGS,
    review=(LEFT_OUT,),
)
"""The same by retrieval and with a finding head."""


class Scripted(Generator):
    """Writes REPORT, word by word; before the word `held_at` it waits for `go`, or until nobody wants the report.

    Where maps of a text are asked for it waits too, if `maps_wait`, and gives `evidence`, or the error that this is.
    """

    def __init__(self, slots: int, places: int) -> None:
        super().__init__(slots, places)
        self.held_at = len(REPORT)
        self.go = threading.Event()
        self.maps_wait = False
        self.evidence: Evidence | Exception = EVIDENCE
        self.report = WRITTEN
        self.doubts: tuple[Doubt, ...] = ()
        self.told: list[Job] = []
        self.jobs: list[Job] = []

    def hold(self, at: int) -> None:
        """Stand still before this word of the next report."""
        self.held_at = at
        self.go.clear()

    def _write(self, model: ServedModel, job: Job) -> None:
        if job.report_text is not None:
            self._map(job)
            return
        self.jobs.append(job)
        if self.doubts and job.check is not None:
            try:
                job.check(self.doubts)
            except InputError as error:
                job.fail(error)
                return
        held_at, self.held_at = self.held_at, len(REPORT)
        for at, word in enumerate(REPORT.split(" ")):
            if at == held_at:
                while not job.unwanted and not self.go.wait(0.01):
                    pass
            if job.unwanted:
                return
            assert job.on_text is not None
            job.on_text(f" {word}" if at else word)
        job.future.set_result(Answer(self.report, 60))

    def _map(self, job: Job) -> None:
        self.told.append(job)
        while self.maps_wait and not job.unwanted and not self.go.wait(0.01):
            pass
        if isinstance(self.evidence, Exception):
            job.fail(self.evidence)
        elif not job.unwanted:
            job.future.set_result(Answer(Report("study", job.report_text or ""), 0, self.evidence))


@contextmanager
def page_server(
    served: Reporter, verdicts: VerdictStore | None = None, **changes: Any
) -> Iterator[tuple[str, Scripted]]:
    """A real server whose reports are REPORT; its address and its generator."""
    served = replace(served, decode=replace(served.decode, max_new_tokens=200))  # REPORT is longer than its own
    settings = ServeConfig(port=0, **changes)
    generator = Scripted(settings.slots, settings.places)
    ready = threading.Event()
    generator.start(lambda: served, ready.set)
    assert ready.wait(LONG)
    with running_server(served, generator, verdicts, **changes) as (address, _):
        yield address, generator
        generator.go.set()


def start_browser(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=CHROMIUM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = start_browser(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(served: Reporter) -> Iterator[tuple[str, Scripted]]:
    with page_server(served) as (address, generator):
        yield address, generator


@pytest.fixture(name="server")
def server_with_context(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Scripted]]:
    """A server whose model was trained with context and with earlier studies."""
    monkeypatch.setattr(served.built.processor, "context_fields", (*CONTEXT_FIELDS, PRIOR))
    with page_server(served) as (address, generator):
        yield address, generator


@pytest.fixture(autouse=True)
def released(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails half-way leaves nothing waiting, and no error to give, for the tests after it."""
    yield
    if "server" in request.fixturenames:
        generator = request.getfixturevalue("server")[1]
        generator.maps_wait, generator.evidence, generator.report = False, EVIDENCE, WRITTEN
        generator.go.set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    opened = opened_store(str(tmp_path / "verdicts.db"))
    yield opened
    opened.close()


@contextmanager
def open_page(browser: Browser, address: str, *, refused: bool = False, **options: Any) -> Iterator[Page]:
    """The page in a window of its own; at the end: nothing was asked of another machine, no error in the console.

    Args:
        browser: which.
        address: of the server.
        refused: the browser may say in its console that a request was refused.
        options: of the window.
    """
    context = browser.new_context(accept_downloads=True, reduced_motion="reduce", **options)
    faults: list[str] = []
    asked: list[str] = []
    page = context.new_page()
    context.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
    page.goto(address)
    yield page
    context.close()
    if refused:
        faults = [fault for fault in faults if not fault.startswith("Failed to load resource")]
    assert faults == [], faults
    assert asked
    assert {url.split("/")[2] if "//" in url else url for url in asked if not url.startswith(("data:", "blob:"))} == {
        address.removeprefix("http://")
    }


def check_fits(page: Page, state: str = "") -> None:
    """The page is not wider than its window."""
    assert page.viewport_size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], state


def check_manners(page: Page, state: str = "") -> None:
    """The page breaks no rule of axe, and is not wider than its window."""
    found = Axe().run(page)
    assert found.violations_count == 0, f"{state}: {found.generate_report()}"
    check_fits(page, state)


def choose(page: Page, *films: bytes) -> None:
    """Choose these images."""
    files = [{"name": f"film{at}.png", "mimeType": "image/png", "buffer": one} for at, one in enumerate(films)]
    page.get_by_label("Choose images").set_input_files(files)  # type: ignore[arg-type]  # its type has no list of these
    expect(page.get_by_role("application")).to_be_visible()


def draft(page: Page, *films: bytes) -> None:
    """Choose images, write the draft, and wait for its end."""
    choose(page, *(films or (film(1),)))
    page.get_by_role("button", name="Write draft").click()
    expect(page.locator("#status")).to_contain_text("The draft is finished")
    expect(page.locator("#evidence")).not_to_be_empty()


def edit(page: Page, words: str) -> None:
    """Put these words in place of the draft's text; the editor stays open."""
    if page.get_by_label("Your text").is_hidden():
        page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Your text").fill(words)
