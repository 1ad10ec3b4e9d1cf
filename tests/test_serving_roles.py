"""Keys with roles: which role may use which route, the file of keys, its change under a running server."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from r2gengpt.cli.main import run
from r2gengpt.errors import InputError
from r2gengpt.serving.access import ACCESS, ANY, ASKS, OPEN, PAGE, READS, wanted
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.identity import KEYS_VARIABLE
from r2gengpt.serving.keys import (
    ROLES,
    KeyFile,
    add_key,
    digest_of,
    parse_keys,
    read_key_file,
    remove_key,
    written_keys,
)
from r2gengpt.settings import ServeConfig

REPORTS, TICKET = "/v1/reports", "X-Ticket"
KEYS = {role: f"the key of the role {role}" for role in ROLES}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def key_file(path: Path, keys: dict[str, str], roles: Callable[[str], list[str]] = lambda name: [name]) -> Path:
    rows = [{"name": name, "roles": roles(name), "sha256": digest_of(key)} for name, key in keys.items()]
    path.write_text(json.dumps({"keys": rows}))
    return path


def routes_of(found: Any) -> Iterator[str]:
    """Method and pattern of every route of an application, those of its routers too."""
    for route in found.routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from routes_of(inner)
        else:
            yield from (f"{method} {route.path}" for method in route.methods - {"HEAD"})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    path = key_file(tmp_path_factory.mktemp("keys") / "keys.json", KEYS)
    app = create_app(Generator(1, 1), ServeConfig(api_keys=str(path)))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


APP = create_app(Generator(1, 1), ServeConfig())
ROUTES = sorted(set(routes_of(APP)))


def test_every_route_stands_in_the_table_of_roles_and_no_other() -> None:
    assert {route for route in ROUTES if not route.startswith(f"GET {PAGE}")} == set(ACCESS)
    assert {f"{method.upper()} {path}" for path, item in APP.openapi()["paths"].items() for method in item} <= {
        name.replace(":path", "") for name in ACCESS
    }
    assert set(ACCESS.values()) <= {OPEN, ANY, ASKS, READS}


@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("route", ROUTES)
def test_each_role_may_use_its_routes_and_no_others(client: TestClient, route: str, role: str | None) -> None:
    method, pattern = route.split(" ", 1)
    path = pattern.replace("{name:path}", "m").replace("{ticket}", "0123456789abcdef")
    got = client.request(method, path, headers={} if role is None else bearer(KEYS[role]))
    needs = OPEN if path.startswith(PAGE) else ACCESS[route]
    if role is None and needs:
        assert (got.status_code, got.json()["error"]["code"]) == (401, "invalid_api_key")
        assert got.headers["www-authenticate"] == "Bearer"
    elif role is not None and needs and role not in needs:
        error = got.json()["error"]
        assert (got.status_code, error["type"]) == (403, "permission_error")
        assert error["message"].endswith(f"is for {' or '.join(sorted(needs))}, and the roles of this key are: {role}")
    else:
        assert got.status_code not in (401, 403)


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        (None, "GET", "/v1/nothing", 401),
        ("read", "GET", "/v1/nothing", 404),
        ("admin", "GET", "/v1/nothing", 404),
        (None, "GET", "/nothing", 404),
        ("read", "DELETE", "/v1/reports", 405),
        ("report", "GET", "/v1/reports", 405),
        ("admin", "PUT", "/v1/reports", 405),
        ("read", "POST", "//v1/reports", 404),
        ("read", "POST", "/v1/reports/", 404),
        ("read", "POST", "/v1/%72eports", 403),
        ("read", "POST", "/page/../v1/reports", 403),
    ],
)
def test_other_addresses_and_methods_are_none_for_every_role(
    client: TestClient, role: str | None, method: str, path: str, status: int
) -> None:
    got = client.request(method, path, headers={} if role is None else bearer(KEYS[role]))
    assert got.status_code == status
    assert "message" in got.json()["error"]


def test_a_route_that_the_table_has_not_is_an_admins_alone(tmp_path: Path) -> None:
    app = create_app(Generator(1, 1), ServeConfig(api_keys=str(key_file(tmp_path / "k", KEYS))))
    app.add_api_route("/v1/forgotten", lambda: "it answers")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        got = {role: client.get("/v1/forgotten", headers=bearer(KEYS[role])).status_code for role in ROLES}
    assert got == {"read": 404, "report": 404, "admin": 200}


def test_keys_without_roles_stay_and_stand_beside_those_with_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "a plain key, as before"
    monkeypatch.setenv(KEYS_VARIABLE, plain.replace(" ", "-").replace(",", ""))
    headers = bearer("a-plain-key-as-before")
    for keys in (None, str(key_file(tmp_path / "k", KEYS))):
        app = create_app(Generator(1, 1), ServeConfig(api_keys=keys))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            assert client.post(REPORTS, headers=headers).status_code == 503, "the model is not there yet"
            assert client.get("/v1/models", headers=headers).status_code == 503
            assert client.get("/v1/models").status_code == 401
            assert client.get("/metrics").status_code == (200 if keys is None else 401)


def test_a_key_is_printed_once_and_its_file_has_the_hash_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    assert run("keys", ["add", "ward-7", "--roles", "report", "read", "--api_keys", str(path)]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("r2g_")
    assert len(key) == 47
    assert key not in path.read_text()
    assert key[4:] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyFile(path).find(key) == read_key_file(path)[0]
    assert run("keys", ["list", "--api_keys", str(path)]) == 0
    assert capsys.readouterr().out.split("\t")[:2] == ["ward-7", "report,read"]
    for words in (["add", "ward-7", "--roles", "read"], ["add", "a b", "--roles", "read"], ["add", "x"], ["remove"],
                  ["remove", "none"], ["list", "x"], ["add", "x", "--roles", "root"]):  # fmt: skip
        assert run("keys", [*words, "--api_keys", str(path)]) == 2
        assert "Traceback" not in capsys.readouterr().err
    path.chmod(0o640)
    assert run("keys", ["remove", "ward-7", "--api_keys", str(path)]) == 0
    assert (read_key_file(path), path.stat().st_mode & 0o777) == ((), 0o640)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["keys.json"]


@pytest.mark.parametrize("words", [["add", "ward-7", "--roles", "read"], ["remove", "ward-7"]])
def test_a_key_file_in_a_directory_that_is_not_there_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("keys", [*words, "--api_keys", str(tmp_path / "none" / "keys.json")]) == 2
    assert capsys.readouterr().err == f"r2gengpt keys: --api_keys {tmp_path}/none: No such file or directory\n"


def test_keys_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [threading.Thread(target=add_key, args=(path, f"n{at}", ["read"])) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.name for one in read_key_file(path)} == {f"n{at}" for at in range(12)}


def test_keys_change_under_a_running_server_and_a_broken_file_keeps_the_old_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    old = add_key(path, "old", ["read"])
    app = create_app(Generator(1, 1), ServeConfig(api_keys=str(path)))
    with TestClient(app, base_url="http://127.0.0.1") as client:

        def is_let_in(key: str) -> bool:
            return client.get("/v1/models", headers=bearer(key)).status_code == 503

        assert is_let_in(old)
        new = add_key(path, "new", ["read"])
        assert (is_let_in(old), is_let_in(new)) == (True, True)
        remove_key(path, "old")
        assert (is_let_in(old), is_let_in(new)) == (False, True)
        whole = path.read_bytes()
        with caplog.at_level(logging.ERROR, "r2gengpt.serving"):
            path.write_bytes(whole[: len(whole) // 2])
            assert (is_let_in(old), is_let_in(new), is_let_in(new)) == (False, True, True)
            path.unlink()
            assert is_let_in(new)
        faults = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert [fault.split("keys.json: ")[1] for fault in faults] == [
            "is no JSON (line 2): the 1 keys that were read before still count",
            "No such file or directory: the 1 keys that were read before still count",
        ]
        path.write_bytes(written_keys(()))
        assert not is_let_in(new), "a file without keys lets nobody in"


def test_a_change_within_the_same_moment_and_of_the_same_length_is_seen(tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys.json", {"one": "the first key of all"}, lambda _: ["read"])
    keys = KeyFile(path, now=lambda: path.stat().st_mtime)
    before = path.stat()
    key_file(path, {"one": "another key that is it"}, lambda _: ["read"])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert keys.find("the first key of all") is None
    assert keys.find("another key that is it") is not None


def test_a_file_whose_mode_is_mended_is_read_at_once(tmp_path: Path) -> None:
    """A mode changes neither the file's size nor when it was written: the keys of before must not go on counting."""
    path = key_file(tmp_path / "keys.json", {"one": "the first key of all"}, lambda _: ["read"])
    keys = KeyFile(path, now=lambda: time.time() + 60)
    key_file(path, {"one": "another key that is it"}, lambda _: ["read"])
    path.chmod(0o666)
    assert keys.find("the first key of all") is not None, "a file that everybody may write counts for nothing"
    path.chmod(0o600)
    assert keys.find("the first key of all") is None
    assert keys.find("another key that is it") is not None


def test_every_hash_is_compared_whichever_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFile(key_file(tmp_path / "k", {"a": "key a", "b": "key b", "c": "key c"}, lambda _: ["read"]))
    compared: list[str] = []
    monkeypatch.setattr("hmac.compare_digest", lambda one, other: (compared.append(other), one == other)[1])
    assert [keys.find(key) is not None for key in ("key a", "key c", "key d")] == [True, True, False]
    assert compared == [digest_of(f"key {name}") for name in "abc"] * 3


ENTRY = {"name": "a", "roles": ["read"], "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no JSON"),
        ("[]", 'must be {"keys"'),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [], "keys": []}', "a member stands twice"),
        (json.dumps({"keys": [{**ENTRY, "key": "secret-secret-secret"}]}), "key 1: must have name, roles and sha256"),
        (json.dumps({"keys": [{**ENTRY, "roles": []}]}), "key 1: roles must be a list"),
        (json.dumps({"keys": [{**ENTRY, "roles": ["root"]}]}), "key 1: roles must be a list"),
        (json.dumps({"keys": [{**ENTRY, "name": "a\nb"}]}), "key 1: its name must be"),
        (json.dumps({"keys": [{**ENTRY, "sha256": "secret-secret-secret"}]}), "key 1: sha256 must be 64"),
        (json.dumps({"keys": [ENTRY, {**ENTRY, "sha256": "1" * 64}]}), "two keys have one name"),
        (json.dumps({"keys": [ENTRY, {**ENTRY, "name": "b"}]}), "two keys have one sha256"),
    ],
)
def test_a_file_that_is_none_of_keys_is_refused_without_a_word_of_it(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"api_keys .*keys\.json: ") as refused:
        KeyFile(path)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys.json", KEYS)
    path.chmod(0o646)
    with pytest.raises(InputError, match="everybody may write it"):
        KeyFile(path)


def assert_one_line(text: str) -> None:
    assert text
    assert text.isprintable()


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_file_is_whole_or_refused_in_one_line(data: st.DataObject) -> None:
    whole = bytearray(written_keys(parse_keys(json.dumps({"keys": [ENTRY]}).encode())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        entries = parse_keys(bytes(whole))
    except ValueError as error:
        entries, fault = (), str(error)
        assert_one_line(fault)
    assert all(set(one.roles) <= set(ROLES) and len(one.sha256) == 64 for one in entries)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode), st.just(b"Bearer " + b"x" * 40_000)))
def test_no_header_but_a_keys_own_lets_anybody_in(client: TestClient, header: bytes) -> None:
    header = header.translate(None, b"\r\n\0")
    got = client.get("/v1/models", headers=[(b"authorization", header)])
    assert got.status_code == 401


def test_a_role_is_that_of_the_route_and_not_of_the_words_of_its_path() -> None:
    assert wanted("HEAD", "/v1/models").roles == ANY
    assert wanted("GET", "/v1/models/../reports").roles == ANY, "a model of that name"
    assert wanted("POST", "/v1/models").roles is None
    assert wanted("GET", "/nothing").roles is None
