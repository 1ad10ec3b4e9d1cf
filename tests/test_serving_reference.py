"""The page at /docs: all that the OpenAPI document has, examples that work, and the web page's policy and manners."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from starlette.testclient import TestClient

from dicom_files import data_of
from dicom_files import film as dicom
from page_parts import NEEDS_BROWSER, browser, check_manners, open_page
from r2gengpt.reporter import Reporter
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.page import POLICY
from r2gengpt.serving.reference import Operation, operations
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE
from r2gengpt.verdicts.address import opened_store
from serving_parts import LONG, client_of, film, running_server

__all__ = ["browser"]  # fixtures


@pytest.fixture(scope="module")
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served) as (client, _):
        yield client


def known(client: TestClient, address: str = "http://127.0.0.1", model: str = "best") -> list[Operation]:
    return operations(client.get("/openapi.json").json(), address, model)


class Texts(HTMLParser):
    """A page's text, and the tags and attributes in it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_every_operation_field_and_answer_of_the_document(client: TestClient) -> None:
    page = Texts()
    page.feed(client.get("/docs").text)
    words = " ".join(page.text.split())
    document = client.get("/openapi.json").json()
    assert len(known(client)) == sum(len(methods) for methods in document["paths"].values())
    for operation in known(client):
        assert f"{operation.method} {operation.path}" in words
        assert " ".join(operation.example.split()) in words
        for content in (*operation.asked, *operation.answers):
            assert content.media_type in words
            for member in (*operation.parameters, *content.members, *content.neutral):
                assert member.name in words
                assert " ".join(member.kind.split()) in words
                assert " ".join(member.meaning.replace("`", "").split()) in words or member in content.neutral
            for name in content.ignored:
                assert name in words
    chat = next(one for one in known(client) if one.path == "/v1/chat/completions")
    told = {member.name: member for member in chat.asked[0].members}
    assert (told["n"].kind, told["stop"].kind) == (
        "integer from 1 to 4",
        "array of string of at most 200 characters; at most 4",
    )
    assert told["messages"].required
    assert told["messages[].content[].image_url.url"].meaning.startswith("a data URL")
    assert "user" in chat.asked[0].ignored
    assert "tools" in [member.name for member in chat.asked[0].neutral]


def test_every_field_of_a_request_says_what_it_means(client: TestClient) -> None:
    silent = [
        (operation.path, member.name)
        for operation in known(client)
        for content in operation.asked
        for member in content.members
        if not member.meaning and not member.name.endswith((".type", ".detail"))
    ]
    assert [path for path, _ in silent if path == "/v1/chat/completions"] == []


def test_the_page_has_the_web_pages_policy_and_nothing_inline(client: TestClient) -> None:
    given = client.get("/docs")
    assert given.headers["content-security-policy"] == POLICY
    assert given.headers["content-type"] == "text/html; charset=utf-8"
    page = Texts()
    page.feed(given.text)
    assert not page.tags & {"script", "style", "iframe", "img", "form"}
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}
    assert not re.search(r'(?:href|src)="(?!/|#|data:,")', given.text)
    assert NOTICE in given.text
    assert client.get("/openapi.json").status_code == 200


def test_the_page_is_there_before_the_model_and_shows_no_name_that_a_client_makes_up() -> None:
    app = create_app(Generator(1, 1), ServeConfig(host="0.0.0.0"))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for host in ("films.example:8000", 'a"><b>', "$(reboot)", "a b"):
            page = client.get("/docs", headers={"Host": host})
            assert page.status_code in (200, 400)
            assert (f"http://{host}/v1/models" in page.text) == (host == "films.example:8000")
            assert "reboot" not in page.text
        assert "curl -s http://127.0.0.1/v1/models/NAME" in client.get("/docs").text


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_each_operations_example_works_as_it_stands(served: Reporter, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(film(1))
    (tmp_path / "film.dcm").write_bytes(data_of(dicom()))
    store = opened_store(str(tmp_path / "verdicts.db"))
    with running_server(replace(served, name="embedded"), verdicts=store) as (address, _):
        with TestClient(create_app(Generator(1, 1), ServeConfig()), base_url="http://127.0.0.1") as client:
            found = known(client, address, "embedded")
        assert len(found) > 8
        for operation in found:
            lines = operation.example.replace("curl -s ", "curl -sSf ")
            done = subprocess.run(["bash", "-ec", lines], cwd=tmp_path, capture_output=True, timeout=LONG, check=False)
            assert done.returncode == 0, (operation.path, done.stderr)
            assert done.stdout or " -o " in lines
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


@NEEDS_BROWSER
@pytest.mark.parametrize(("theme", "width"), [("dark", 390), ("light", 1280)])
def test_the_page_breaks_no_rule_of_axe_and_is_as_wide_as_the_window(
    served: Reporter, browser: Browser, theme: Any, width: int
) -> None:
    look: Any = {"width": width, "height": 844}
    with (
        running_server(served) as (address, _),
        open_page(browser, address, color_scheme=theme, viewport=look, bypass_csp=True) as page,
    ):
        page.goto(f"{address}/docs")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        check_manners(page)
        page.get_by_role("link", name="POST /v1/reports").click()
        assert page.evaluate("document.getElementById('post-v-reports').getBoundingClientRect().top") > 30
        assert page.locator("h2#post-v-reports").is_visible()
