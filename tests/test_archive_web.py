"""What a DICOMweb server may answer when a study is asked for: films whole, or an error in one line. No Orthanc."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from archive_keys import NEEDS_OPENSSL, Keys, Pair
from archive_parts import film_data, free_port, uid
from conftest import Outcome
from r2gengpt.clinical.archive.web import chest_films, connect, pull
from r2gengpt.errors import InputError, RunError
from stow_answers import LOGIN, answer, chunked, packed, stow_server

STUDY, SERIES = uid(1), uid(1, 101)
FILMS = [film_data(1, 1), film_data(1, 2)]
MULTI = 'multipart/related; type="application/dicom"; boundary="abc"'


def listing(modality: str = "DX", series: str = SERIES) -> bytes:
    values = {"00080060": {"vr": "CS", "Value": [modality]}, "0020000E": {"vr": "UI", "Value": [series]}}
    return json.dumps([values]).encode()


def multipart(films: list[bytes]) -> bytes:
    parts = [b"--abc\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % film for film in films]
    return b"".join(parts) + b"--abc--\r\n"


def pulled(series: bytes, films: bytes, most: int = 2**20) -> list[bytes]:
    def find(path: str) -> bytes:
        return series if path.endswith("/series") else films

    with stow_server(lambda _: b"", find) as server:
        return pull(connect(server.url, most_bytes=most), STUDY)


@pytest.mark.parametrize("films", [answer(200, multipart(FILMS), MULTI), chunked(multipart(FILMS), MULTI)])
def test_films_come_as_the_server_has_them(films: bytes) -> None:
    assert pulled(answer(200, listing()), films) == FILMS


def test_a_film_that_comes_by_itself_is_taken() -> None:
    assert pulled(answer(200, listing()), answer(200, FILMS[0], "application/dicom")) == FILMS[:1]


WRONG_LISTS = {
    "login page": (answer(200, LOGIN, "text/html"), "its answer cannot be read"),
    "login page as json": (answer(200, LOGIN), "its answer cannot be read"),
    "redirect": (answer(302, b"", None, "Location: /login"), "redirects us (302), which is not followed"),
    "a number": (answer(200, b"7"), "its answer cannot be read"),
    "a list of numbers": (answer(200, b"[7]"), "its answer cannot be read"),
    "deep": (answer(200, b"[" * 90_000), "its answer cannot be read"),
    "cut off": (answer(200, listing())[:-5], "its answer cannot be read"),
    "a bomb": (packed(bytes(2**22)), "sends more than 1048576 bytes (max_bytes)"),
    "nothing": (b"", "cannot be reached"),
    "no uid": (answer(200, listing(series="../../x")), "without a UID"),
    "too many": (answer(200, json.dumps(json.loads(listing()) * 101).encode()), "more than 100 series"),
    "error": (answer(500, b"Muster^Erika"), "answers with status 500"),
}


@pytest.mark.parametrize("name", WRONG_LISTS)
def test_a_wrong_list_of_series_is_an_error_in_one_line(name: str) -> None:
    data, words = WRONG_LISTS[name]
    with pytest.raises(RunError) as error:
        pulled(data, b"")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "Muster" not in str(error.value)


@pytest.mark.parametrize("data", [answer(200, b"[]"), answer(204, b"", None), answer(404)])
def test_a_study_that_is_not_there_is_the_users_error(data: bytes) -> None:
    with pytest.raises(InputError, match="no such study"):
        pulled(data, b"")


WRONG_FILMS = {
    "login page": (answer(200, LOGIN, "text/html"), "is not multipart/related"),
    "no boundary": (answer(200, multipart(FILMS), "multipart/related"), "is not multipart/related"),
    "cut off between films": (answer(200, multipart(FILMS)[: len(FILMS[0]) + 60], MULTI), "cut off"),
    "cut off at the end": (answer(200, multipart(FILMS)[:-6], MULTI), "cut off"),
    "cut off in the network": (answer(200, multipart(FILMS), MULTI)[:-9], "its answer cannot be read"),
    "empty": (answer(200, b"", MULTI), "cut off"),
    "a part without headers": (answer(200, b"--abc\r\n--abc--", MULTI), "no end of its headers"),
    "redirect": (answer(303, b"", MULTI, "Location: /"), "not followed"),
    "too large": (answer(200, multipart([bytes(2**20)]), MULTI), "max_bytes"),
    "error": (answer(503), "status 503"),
}


@pytest.mark.parametrize("name", WRONG_FILMS)
def test_a_wrong_answer_with_films_is_an_error_in_one_line_and_no_film_of_it_is_used(name: str) -> None:
    data, words = WRONG_FILMS[name]
    with pytest.raises(RunError) as error:
        pulled(answer(200, listing()), data)
    assert words in str(error.value)


def test_a_film_that_a_server_sends_twice_counts_once_unless_the_copies_differ() -> None:
    again = [data.replace(b"\0" * 128, b"\1" * 128, 1) for data in FILMS]  # the preamble alone differs
    assert again != FILMS
    assert [data for data, _ in chest_films([*FILMS, *FILMS, *again], STUDY, 2)] == FILMS
    with pytest.raises(InputError, match="its films name different patients"):
        chest_films([FILMS[0], film_data(1, 1, PatientID="P-2")], STUDY, 2)


@pytest.mark.parametrize("login", ["reader:secret@", "reader:se@cret@", "secret@", ":secret@"])
def test_an_address_that_holds_a_login_is_refused_and_not_shown(login: str) -> None:
    for scheme in ("http", "HTTPS"):
        with pytest.raises(InputError, match=r"^stow holds a name or a password") as error:
            connect(f"{scheme}://{login}pacs.example/dicom-web", field="stow")
        assert "secret" not in f"{error.value} {error.value.value}"
    connect("http://pacs.example/dicom-web/a@b")


def test_two_servers_without_a_user_have_their_logins_from_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine one login reader password first\nmachine two login writer password second\n", "utf-8")
    monkeypatch.setenv("NETRC", str(path))
    for host, login in (("one", "reader:first"), ("two", "writer:second")):
        asked = requests.Request("GET", f"http://{host}/dicom-web/studies")
        sent = connect(f"http://{host}/dicom-web").session.prepare_request(asked)
        assert sent.headers["Authorization"] == f"Basic {base64.b64encode(login.encode()).decode()}"


def test_films_of_another_study_are_not_reported() -> None:
    with pytest.raises(RunError, match="films of another study") as error:
        chest_films([film_data(2)], STUDY, 8)
    assert STUDY not in str(error.value), "a worklist's log has it, and no UID"


def test_what_a_server_names_cannot_write_a_second_line(
    run_cli: Callable[[list[str]], Outcome], tmp_path: Path
) -> None:
    hostile = "CT\n2026 ok: \x1b[2Jstored\u202e"
    with stow_server(lambda _: b"", lambda _: answer(200, listing(hostile))) as server:
        output = str(tmp_path / "out")
        done = run_cli(["dicomweb", "--url", server.url, "--study", STUDY, "--no_push", "--output", output])
    assert done.code == 2
    assert done.stderr.splitlines()[-1].endswith("only CT 2026 ok: ?[2Jstored?")


@contextmanager
def https_server(pair: Pair | None) -> Iterator[str]:
    """A server with this certificate (None: in plain text) that has no study; gives its URL."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@NEEDS_OPENSSL
def test_the_certificates_that_are_named_are_trusted_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(tmp_path)
    ours, others = str(keys.ca.cert), str(keys.other_ca.cert)
    with https_server(keys.server) as url:
        for named, of_environment, words in [
            (ours, others, "status 501"),
            (None, ours, "status 501"),
            (others, ours, "TLS: unable to get local issuer certificate"),
            (None, others, "TLS: unable to get local issuer certificate"),
            (str(keys.ca.key), ours, "TLS: no certificate or crl found"),
        ]:
            for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
                monkeypatch.setenv(name, of_environment)
            with pytest.raises((InputError, RunError)) as error:
                pull(connect(url, ca_file=named), STUDY)
            assert words in str(error.value)


@NEEDS_OPENSSL
def test_why_a_server_is_not_reached_is_said_in_the_systems_words(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    elsewhere = keys.signed("elsewhere", names="DNS:elsewhere.example")
    with https_server(elsewhere) as url, pytest.raises(InputError, match=r"\(TLS: IP address mismatch\): see ca_file"):
        pull(connect(url, ca_file=str(keys.ca.cert)), STUDY)
    with https_server(None) as url, pytest.raises(InputError, match=r"\(TLS: wrong version number\)"):
        pull(connect(url), STUDY)
    with pytest.raises(RunError, match=r"cannot be reached \(Connection refused\)"):
        pull(connect(f"http://127.0.0.1:{free_port()}"), STUDY)
