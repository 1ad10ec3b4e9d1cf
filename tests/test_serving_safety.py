"""The server against those who may not ask, who send what is no study, and who would learn of others."""

import base64
import json
import logging
import random
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from r2gengpt.errors import InputError
from r2gengpt.reporter import Reporter
from r2gengpt.serving import app as app_module
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.identity import KEYS_VARIABLE, place_of_key, read_keys
from r2gengpt.serving.standing import TICKET
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE
from serving_parts import client_of, data_url, film, message, upload
from test_serving_api import CHAT, REPORTS

KEY, OTHER_KEY = "a-key-of-this-server-1", "a-key-of-this-server-2"


@pytest.fixture(scope="module")
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served, max_images=3, max_megapixels=1, max_body_mb=1) as (client, _):
        yield client


def png(width: int, height: int, *, before: bytes = b"") -> bytes:
    """A PNG that says it has this size and has no pixels; `before` stands between header and pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_every_answer_carries_the_notice_and_the_security_headers(client: TestClient) -> None:
    answers = (
        client.post(REPORTS, files=upload(film())),
        client.post(REPORTS, files=upload(b"")),
        client.get("/health"),
        client.get("/nothing"),
        client.get("/health", headers={"Host": "evil.example"}),
    )
    assert [one.status_code for one in answers] == [200, 400, 200, 404, 400]
    for one in answers:
        assert one.headers["x-notice"] == NOTICE
        assert one.headers["x-content-type-options"] == "nosniff"
        assert one.headers["x-frame-options"] == "DENY"
        assert one.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in one.headers["content-security-policy"]
        assert "server" not in one.headers


@pytest.mark.parametrize("how", ["file", "environment"])
def test_with_keys_only_those_who_have_one_may_ask(
    served: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the ward\n{KEY}\n\n{OTHER_KEY}\n")
    if how == "environment":
        monkeypatch.setenv(KEYS_VARIABLE, f"{KEY},{OTHER_KEY}")
    with client_of(served, api_key_file=str(path) if how == "file" else None) as (client, _):
        for given in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}):
            for path_, body in ((CHAT, {"json": {}}), (REPORTS, {"files": upload(film())})):
                refused = client.post(path_, headers=given, **body)
                assert refused.status_code == 401
                assert refused.json()["error"]["code"] == "invalid_api_key"
            assert client.get("/v1/models", headers=given).status_code == 401
        for key in (KEY, OTHER_KEY):
            headers = {"Authorization": f"Bearer {key}"}
            assert client.post(REPORTS, files=upload(film()), headers=headers).status_code == 200
        assert {client.get(path).status_code for path in ("/health", "/ready", "/metrics")} == {200}


def test_every_key_is_compared_whole_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    monkeypatch.setattr("hmac.compare_digest", lambda one, other: (compared.append(other), one == other)[1])
    keys = (b"first", b"second", b"third")
    assert place_of_key("first", keys) == 0
    assert place_of_key("f", keys) is None
    assert compared == [*keys, *keys]


ODD_KEYS = ("schlüssel-der-klinik", "密钥密钥密钥密钥密钥密钥密钥密钥", "a-key\twith-a-tabulator")
"""What some clients send as UTF-8, some as Latin-1, and some not at all."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no key"),
        ("# only this\n", "holds no key"),
        ("short\n", "a key has 5 characters: at least 16"),
        *[(f"a-good-key-of-this-file\n{key}\n", "a key has signs besides printable ASCII") for key in ODD_KEYS],
    ],
)
def test_files_of_no_short_or_odd_keys_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_keys(ServeConfig(api_key_file=str(path)))
    with pytest.raises(InputError, match=r"api_key_file .*: No such file"):
        read_keys(ServeConfig(api_key_file=str(tmp_path / "none")))


@pytest.mark.parametrize("comment", ["# the keys of ward 7", "\ufeff# the keys of ward 7", "\t  # the keys of ward 7"])
def test_a_comment_in_a_file_of_keys_is_no_key(tmp_path: Path, comment: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{comment}\n  {KEY} \n", encoding="utf-8")
    assert read_keys(ServeConfig(api_key_file=str(path))) == (KEY.encode(),)


def test_an_environment_that_names_no_key_is_refused_rather_than_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, " ")
    with pytest.raises(InputError, match=f"{KEYS_VARIABLE}: holds no key"):
        read_keys(ServeConfig())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/film.png",
        "https://example.org/film.png",
        "file:///etc/hostname",
        "/etc/hostname",
        "ftp://example.org/film.png",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/svg+xml;base64,AAAA",
        "",
    ],
)
def test_only_data_urls_are_read_and_nothing_is_fetched_or_opened(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the server opened something that a client named")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    content = [{"type": "image_url", "image_url": {"url": url}}]
    refused = client.post(CHAT, json={"model": "best", "messages": [{"role": "user", "content": content}]})
    assert refused.status_code == 400
    assert "must be a data URL" in refused.json()["error"]["message"]


def test_a_data_url_that_is_not_base64_is_refused(client: TestClient) -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA*A"}}]
    refused = client.post(CHAT, json={"model": "best", "messages": [{"role": "user", "content": content}]})
    assert (refused.status_code, "not base64" in refused.text) == (400, True)


def test_a_files_name_is_not_even_read(client: TestClient) -> None:
    given = client.post(REPORTS, files=upload(film(), name="../../../etc/passwd"))
    assert (given.status_code, "passwd" in given.text) == (200, False)


@pytest.mark.parametrize(
    ("films", "status", "words"),
    [
        ([], 400, "no image"),
        ([film()] * 4, 400, "4 images: at most 3"),
        ([b""], 400, "is empty"),
        ([b"GIF89a"], 400, "not a PNG or JPEG"),
        ([film()[:60]], 400, "cut off"),
        ([film(), film()[:60]], 400, "images[1]"),
        ([png(4, 400)], 400, "4x400 pixels: must be at least 16"),
        ([png(1001, 1000)], 413, "1001000 pixels: at most 1 million"),
        ([png(60000, 60000)], 413, "at most 1 million"),
        ([png(40, 40, before=struct.pack(">I4sII", 8, b"acTL", 2, 0) + b"\0" * 4)], 400, "more than one frame"),
    ],
)
def test_images_that_are_refused_say_which_and_why(
    client: TestClient, films: list[bytes], status: int, words: str
) -> None:
    refused = client.post(REPORTS, files=upload(*films) or {"other": b""})
    message_ = refused.json()["error"]["message"]
    assert refused.status_code == status
    assert words in message_ or (not films and message_.startswith("other: is another field than images"))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (("images", (None, "film")), "images: must be a file"),
        (("indication", ("a.txt", b"Cough.")), "indication: must be a text"),
        (("x" * 70, (None, "1")), f"{'x' * 60}…: is another field than images, prior_images (files) and indication, "),
    ],
    ids=["text", "file", "unknown"],
)
def test_a_part_of_a_form_that_is_refused_is_named(client: TestClient, part: Any, words: str) -> None:
    error = client.post(REPORTS, files=[*upload(film()), part]).json()["error"]
    assert (error["message"].startswith(words), error["param"]) == (True, words.partition(":")[0])


def test_pixels_are_counted_before_any_image_is_decoded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("r2gengpt.serving.films.decode_image", refuse)
    assert client.post(REPORTS, files=upload(film(), png(2000, 2000))).status_code == 413


@pytest.mark.parametrize(("path", "kind"), [(CHAT, "application/json"), (REPORTS, "multipart/form-data; boundary=x")])
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    async def refuse(self: Any) -> None:
        raise AssertionError("the body was read")

    monkeypatch.setattr("starlette.requests.Request.receive", property(lambda self: refuse))
    answer = client.post(path, content=b"x" * (2**20 + 1), headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize(("path", "kind"), [(CHAT, "application/json"), (REPORTS, "multipart/form-data; boundary=x")])
def test_a_body_that_does_not_say_its_size_is_cut_off_at_the_limit(client: TestClient, path: str, kind: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        for _ in range(1100):
            yield b" " * 1024

    assert client.post(path, content=pieces(), headers={"Content-Type": kind}).status_code == 413


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n", 400),
        ("multipart/form-data; boundary=x", b"no boundary at all", 400),
    ],
)
def test_a_broken_form_is_refused(client: TestClient, kind: str, body: bytes, status: int) -> None:
    refused = client.post(REPORTS, content=body, headers={"Content-Type": kind})
    assert refused.status_code == status
    assert refused.json()["error"]["message"]


@pytest.mark.parametrize("lost", [0, 2, 3, 4, 8, 60, 200])
def test_a_form_that_is_cut_off_loses_no_view_and_no_text_in_silence(client: TestClient, lost: int) -> None:
    """The last two bytes are a line end after the last boundary, which a client may leave out."""
    form = client.build_request("POST", REPORTS, files=upload(film(0), film(1)), data={"indication": "cough"})
    body = form.read()
    answer = client.post(
        REPORTS, content=body[: len(body) - lost], headers={"Content-Type": form.headers["Content-Type"]}
    )
    assert answer.status_code == (200 if lost <= 2 else 400)
    assert lost <= 2 or "cut off before its last boundary" in answer.json()["error"]["message"]


def test_uploads_stay_in_memory(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette's parser would write files of more than 1 MiB to the disk."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an upload went to the disk")

    noise = random.Random(0).randbytes(3 * 2**20)
    with client_of(served) as (client, _), monkeypatch.context() as patch:  # the application has read its own files
        patch.setattr("tempfile.TemporaryFile", refuse)
        patch.setattr("tempfile._io.open", refuse)
        refused = client.post(REPORTS, files=upload(film() + noise, noise))
    assert (refused.status_code, "images[1]" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "[0:0:0:0:0:0:0:1]:8000"}, 200),
        ({"Host": "[::ffff:127.0.0.1]"}, 200),
        ({"Host": "[::ffff:7f00:2]"}, 200),
        ({"Host": "127.0.0.2:8000"}, 200),
        ({"Host": "127.255.255.254"}, 200),
        ({"Host": "LocalHost.:8000"}, 200),
        ({"Host": "127.0.0.1.example"}, 400),
        ({"Host": "128.0.0.1"}, 400),
        ({"Host": "0.0.0.0"}, 400),
        ({"Host": "[::]"}, 400),
        ({"Host": "[::ffff:10.0.0.1]"}, 400),
        ({"Host": "localhost.example"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "rebound.example"}, 400),
        ({"Host": "[::1"}, 400),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_browser_may_be_sent_here_by_no_foreign_page_or_name(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post(REPORTS, files=upload(film()), headers=headers).status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.1", "localhost", "::1", "0:0::1", "LOCALHOST"])
def test_the_hosts_name_is_checked_on_every_address_of_this_machine_alone(served: Reporter, host: str) -> None:
    with client_of(served, host=host) as (client, _):
        for name, status in ((f"[{host}]" if ":" in host else host, 200), ("127.3.2.1", 200), ("rebound.example", 400)):
            assert client.get("/health", headers={"Host": name}).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_an_address_that_others_reach_has_any_name(served: Reporter, host: str) -> None:
    with client_of(served, host=host) as (client, _):
        assert client.get("/health", headers={"Host": "server.example"}).status_code == 200


def test_pages_of_other_origins_may_read_answers_only_where_the_flag_names_them(
    served: Reporter, client: TestClient
) -> None:
    ask = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert client.options(REPORTS, headers=ask).status_code == 403
    with client_of(served, cors_origin=("https://page.example",)) as (open_client, _):
        before = open_client.options(REPORTS, headers=ask)
        given = open_client.post(REPORTS, files=upload(film()), headers={"Origin": "https://page.example"})
        for one in (before, given):
            assert one.status_code == 200
            assert one.headers["access-control-allow-origin"] == "https://page.example"
        assert open_client.post(REPORTS, headers={"Origin": "https://other.example"}).status_code == 403
        behind_a_proxy = {"Host": "page.example", "Origin": "https://page.example"}
        assert open_client.post(REPORTS, files=upload(film()), headers=behind_a_proxy).status_code == 200


def test_a_page_that_the_flag_names_reads_refusals_and_every_header_that_tells_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, "a-key-of-some-length")
    own, theirs = "https://page.example", "https://other.example"
    app = create_app(Generator(1, 1), ServeConfig(cors_origin=(own,)))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        ask = {"Origin": own, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-ticket"}
        assert client.options(REPORTS, headers=ask).status_code == 200
        for status, headers in ((401, {}), (503, {"Authorization": "Bearer a-key-of-some-length"})):
            refused = client.post(REPORTS, headers={"Origin": own, **headers})
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (status, own)
            assert "origin" in refused.headers["vary"].lower()
        shown = set(refused.headers["access-control-expose-headers"].split(", "))
        assert "access-control-allow-origin" not in client.post(REPORTS, headers={"Origin": theirs}).headers
    given = {
        name
        for path in Path(app_module.__file__).parent.glob("*.py")
        for name in re.findall(r'"(X-[A-Z][a-z]+)"', path.read_text())
    }
    assert given - {TICKET} <= shown


NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=12, max_size=20)


@settings(max_examples=10, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, good=st.booleans())
def test_no_name_that_a_client_sends_is_in_logs_or_metrics(
    client: TestClient, caplog: pytest.LogCaptureFixture, name: str, good: bool
) -> None:
    """A patient's name in the file's name, the indication, headers, the query, the path, the prompt and the user."""
    caplog.clear()
    one = film(7) if good else f"not an image of {name}".encode()
    headers = {"X-Patient": name, "User-Agent": name, "Referer": f"http://127.0.0.1/{name}", "Authorization": name}
    asked = {"model": "best", "messages": message(one, text=f"Describe {name}."), "user": name}
    logger = logging.getLogger("r2gengpt")
    kept = logger.propagate
    logger.propagate = True
    try:
        with caplog.at_level("DEBUG"):
            answers = [
                client.post(
                    f"{REPORTS}?patient={name}",
                    files=upload(one, name=f"{name}.png"),
                    data={"indication": f"{name}, cough"},
                    headers=headers,
                ),
                client.post(CHAT, json=asked, headers=headers),
                client.post(CHAT, json={**asked, "stream": True}, headers=headers),
                client.post(CHAT, json={**asked, name: name}, headers=headers),
                client.post(CHAT, content=name, headers=headers),
                client.get(f"/{name}", headers=headers),
                client.request(name, "/health", headers=headers),
            ]
    finally:
        logger.propagate = kept
    assert [one.status_code for one in answers[:3]] == [200 if good else 400] * 3
    ours = [record for record in caplog.records if record.name.startswith(("r2gengpt", "uvicorn", "fastapi"))]
    assert len(ours) >= len(answers)
    assert name not in " ".join(record.getMessage() for record in ours)
    assert name not in client.get("/metrics").text


def mutated(rng: random.Random, data: bytes) -> bytes:
    """An image file with bytes changed, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) or 1)
        kind = rng.randrange(4)
        if kind == 0 and changed:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 64)]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randint(1, 64)]
        else:
            changed[at:at] = rng.randbytes(rng.randint(1, 16))
    return bytes(changed)


def malformed(rng: random.Random) -> bytes:
    """A JSON body that is broken in its text, its types or its depth."""
    whole = json.dumps({"model": "best", "messages": message(film(8)), "stream": rng.random() < 0.3})
    kind = rng.randrange(4)
    if kind == 0:
        return mutated(rng, whole[:400].encode())
    if kind == 1:
        return whole[: rng.randrange(len(whole))].encode()
    wrong: Any = rng.choice([None, [], {}, 0, -1e308, "x", [[]], True, {"a": {"b": [1]}}])
    if kind == 2:
        key = rng.choice(["messages", "model", "stream", "temperature", "max_tokens", "n", "seed"])
        return json.dumps({"model": "best", "messages": message(b"no film"), key: wrong}).encode()
    depth = rng.randint(10, 20_000)
    return b"[" * depth + b"]" * rng.choice([0, depth])


def fuzz(client: TestClient, seed: int, images: int, bodies: int) -> None:
    """Only answers of 200 or 4xx with a message; afterwards a good request is answered as before."""
    rng = random.Random(seed)
    good = client.post(REPORTS, files=upload(film(9))).json()["findings"]
    refused = 0
    for number in range(images):
        form = ("PNG", "JPEG")[number % 2]
        data = mutated(rng, film(number % 5, form))
        if number % 3:
            answer = client.post(REPORTS, files=upload(data))
        else:
            url = data_url(data, form.lower())
            content = [{"type": "image_url", "image_url": {"url": url}}]
            answer = client.post(CHAT, json={"model": "best", "messages": [{"role": "user", "content": content}]})
        refused += answer.status_code != 200
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, base64.b64encode(data)
        assert answer.status_code == 200 or answer.json()["error"]["message"]
    assert refused > images // 10
    for _ in range(bodies):
        body = malformed(rng)
        answer = client.post(CHAT, content=body)
        assert 400 <= answer.status_code < 500, body
        assert answer.json()["error"]["message"]
    assert client.post(REPORTS, files=upload(film(9))).json()["findings"] == good


def test_mutated_images_and_bodies_are_answered_and_the_server_goes_on(client: TestClient) -> None:
    fuzz(client, seed=0, images=60, bodies=40)


@pytest.mark.drill
def test_many_mutated_images_and_bodies_are_answered_and_the_server_goes_on(client: TestClient) -> None:
    fuzz(client, seed=1, images=2000, bodies=500)


@pytest.mark.drill
def test_requests_made_from_the_openapi_document_find_no_fault(served: Reporter) -> None:
    import schemathesis

    statuses = []
    with client_of(served, host="0.0.0.0") as (client, _):  # any Host is this server's then
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        for found in schema.get_all_operations():

            @settings(max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck))
            @given(case=found.ok().as_strategy())
            def ask(case: schemathesis.Case) -> None:
                answer = case.call()
                statuses.append(answer.status_code)
                assert answer.status_code < 500, case.as_curl_command()

            ask()
    assert {200, 400} <= set(statuses)
