"""DICOM by TLS, in and out: who is let in, who is not, and what that costs the others."""

import logging
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt

import r2gengpt.clinical.archive.door as door
import r2gengpt.clinical.archive.send as send
from archive_keys import NEEDS_OPENSSL, Keys, Pair, run_openssl
from archive_parts import LONG, SR, drop_sockets, free_port, receiver_in, stand_in, states, study_film, uid, wait_until
from dicom_files import data_of
from programs import STORESCP, STORESCU
from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.archive.loop import NotNow
from r2gengpt.clinical.archive.receive import silence_pynetdicom
from r2gengpt.clinical.archive.run import peer_of
from r2gengpt.clinical.archive.tls import doubts_of_keys
from r2gengpt.errors import InputError
from r2gengpt.settings import ListenConfig
from slow_peers import request
from test_archive_receive import header_of_film

pytestmark = [
    NEEDS_OPENSSL,
    pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
        "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning",
    ),
]
NEEDS_DCMTK = pytest.mark.skipif(not STORESCU, reason="dcmtk is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


def store_by(port: int, context: ssl.SSLContext | None, number: int = 1, patience: float = LONG) -> list[int | None]:
    """Send a film; the status, or nothing where there was no association."""
    silence_pynetdicom()
    film = study_film(number)
    ae = AE(ae_title="TESTER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = patience
    ae.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    tls = None if context is None else (context, "127.0.0.1")
    assoc = ae.associate("127.0.0.1", port, ae_title="R2GENGPT", tls_args=tls)
    if not assoc.is_established:
        return []
    found = assoc.send_c_store(film).get("Status")
    assoc.release()
    return [found]


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("r2gengpt")]


def test_films_come_in_by_tls(keys: Keys, tmp_path: Path) -> None:
    with receiver_in(tmp_path, **keys.settings()) as (spool, receiver):
        assert store_by(receiver.port, keys.context(keys.client)) == [0]
        assert states(spool) == {key_of(uid(1)): "received"}


def test_a_large_film_comes_in_by_tls_whole(keys: Keys, tmp_path: Path) -> None:
    with receiver_in(tmp_path, **keys.settings()) as (spool, receiver):
        film = study_film(1, PixelData=bytes(range(256)) * 2**13)
        ae = AE(ae_title="TESTER")
        ae.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
        context = keys.context(keys.client)
        assoc = ae.associate("127.0.0.1", receiver.port, ae_title="R2GENGPT", tls_args=(context, "127.0.0.1"))
        assert assoc.send_c_store(film).Status == 0
        assoc.release()
        (path,) = spool.incoming.iterdir()
        assert film.PixelData in path.read_bytes()


def test_without_an_authority_a_sender_needs_no_certificate(keys: Keys, tmp_path: Path) -> None:
    with receiver_in(tmp_path, **keys.settings(tls_ca=None)) as (_, receiver):
        assert store_by(receiver.port, keys.context(None)) == [0]


def no_certificate(keys: Keys) -> ssl.SSLContext:
    return keys.context(None)


def a_strangers(keys: Keys) -> ssl.SSLContext:
    return keys.context(keys.stranger)


def an_expired_one(keys: Keys) -> ssl.SSLContext:
    return keys.context(keys.signed("old client", days=-1))


def old_tls(keys: Keys) -> ssl.SSLContext:
    made = keys.context(keys.client)
    made.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version = ssl.TLSVersion.TLSv1
        made.maximum_version = ssl.TLSVersion.TLSv1_1
    return made


def weak_ciphers(keys: Keys) -> ssl.SSLContext:
    made = keys.context(keys.client)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    return made


@pytest.mark.parametrize(
    ("caller", "words"),
    [
        (no_certificate, "peer did not return a certificate"),
        (a_strangers, "unable to get local issuer certificate"),
        (an_expired_one, "certificate has expired"),
        (old_tls, "unsupported protocol"),
        (weak_ciphers, "no shared cipher"),
        (lambda _: None, "wrong version number"),
    ],
    ids=["no certificate", "a stranger's", "expired", "TLS 1.1", "weak ciphers", "plain text"],
)
def test_who_does_not_fit_is_refused_in_one_line(
    caller: Callable[[Keys], ssl.SSLContext | None],
    words: str,
    keys: Keys,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "r2gengpt"), receiver_in(tmp_path, **keys.settings()) as (spool, receiver):
        for _ in range(3):
            assert store_by(receiver.port, caller(keys), patience=5.0) == []
        assert lines_of(caplog) == [f"a connection was refused by TLS: {words}"]
        assert store_by(receiver.port, keys.context(keys.client), 2) == [0]
        assert len(list(spool.incoming.iterdir())) == 1


def hello(keys: Keys) -> bytes:
    """The first bytes of a handshake."""
    sent = ssl.MemoryBIO()
    client = keys.context(keys.client).wrap_bio(ssl.MemoryBIO(), sent, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


@pytest.mark.parametrize("kind", ["silent", "a byte", "half a hello", "a whole hello", "asks for nothing"])
def test_slow_peers_of_tls_delay_a_good_one_by_less_than_a_second(kind: str, keys: Keys, tmp_path: Path) -> None:
    with receiver_in(tmp_path, **keys.settings()) as (_, receiver):

        def seconds(number: int) -> float:
            begun = time.monotonic()
            assert store_by(receiver.port, keys.context(keys.client), number) == [0]
            return time.monotonic() - begun

        quiet = seconds(1)
        first = {"silent": b"", "a byte": b"\x16", "half a hello": hello(keys)[:80], "a whole hello": hello(keys)}
        peers = [socket.create_connection(("127.0.0.1", receiver.port), 10) for _ in range(24)]
        if kind == "asks for nothing":
            peers = [keys.context(keys.client).wrap_socket(one, server_hostname="127.0.0.1") for one in peers]
        for one in peers:
            one.sendall(first.get(kind, request()[:20]))
        assert any(seconds(number) < quiet + 1 for number in (2, 3, 4))  # a busy machine delays one
        for one in peers:
            one.close()


def test_a_handshake_that_is_not_done_in_time_is_ended(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "ASK_SECONDS", 0.2)
    with (
        receiver_in(tmp_path, **keys.settings()) as (_, receiver),
        socket.create_connection(("127.0.0.1", receiver.port), 10) as peer,
    ):
        peer.sendall(hello(keys)[:50])
        assert peer.recv(4096) == b""


def test_an_association_of_tls_that_gets_no_further_makes_room(keys: Keys, tmp_path: Path) -> None:
    with receiver_in(tmp_path, **keys.settings(max_associations=1)) as (_, receiver):
        plain = socket.create_connection(("127.0.0.1", receiver.port), 10)
        with keys.context(keys.client).wrap_socket(plain, server_hostname="127.0.0.1") as idle:
            idle.sendall(request())
            assert idle.recv(1) == b"\x02"
            assert store_by(receiver.port, keys.context(keys.client)) == [0]


@contextmanager
def peer_by(context: ssl.SSLContext) -> Iterator[tuple[int, list[str]]]:
    """A Storage SCP that speaks TLS so."""
    silence_pynetdicom()
    stored: list[str] = []

    def handle(event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    ae = AE(ae_title="PEER")
    ae.add_supported_context(SR)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)], ssl_context=context
    )
    try:
        yield server.server_address[1], stored
    finally:
        ae.shutdown()
        drop_sockets()


def serving(keys: Keys, pair: Pair, *, asks: bool = True) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pair.cert, pair.key)
    if asks:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(keys.ca.cert)
    return made


def to_tls_peer(keys: Keys, port: int, **more: Any) -> Callable[[bytes], None]:
    settings = ListenConfig(to_host="127.0.0.1", to_port=port, to_ae="PEER", **keys.settings(), **more)
    return peer_of(settings, lambda _: pytest.fail("no DICOMweb"))


def report() -> bytes:
    return stand_in([], [header_of_film()]).data


def test_reports_go_out_by_tls_with_our_certificate(keys: Keys) -> None:
    with peer_by(serving(keys, keys.server)) as (port, stored):
        to_tls_peer(keys, port)(report())
        assert len(stored) == 1


def test_a_peer_whose_certificate_has_another_name_is_known_by_that(keys: Keys) -> None:
    with peer_by(serving(keys, keys.signed("pacs", names="DNS:pacs.example"))) as (port, stored):
        with pytest.raises(NotNow, match=r"PEER is not reached \(TLS: IP address mismatch"):
            to_tls_peer(keys, port)(report())
        to_tls_peer(keys, port, to_name="pacs.example")(report())
        assert len(stored) == 1


@pytest.mark.parametrize("kind", ["a stranger's", "expired", "TLS 1.1", "plain text"])
def test_no_report_goes_to_a_peer_that_does_not_fit(kind: str, keys: Keys) -> None:
    pair = {"a stranger's": keys.stranger, "expired": keys.signed("old", days=-1)}.get(kind, keys.server)
    context = serving(keys, pair)
    if kind == "TLS 1.1":
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    words = {"a stranger's": "unable to get local issuer", "expired": "certificate has expired"}.get(kind, "")
    with peer_by(None if kind == "plain text" else context) as (port, stored):  # type: ignore[arg-type]
        with pytest.raises(NotNow, match=rf"not reached \(TLS: .*{words}"):
            to_tls_peer(keys, port)(report())
        assert stored == []


def test_a_peer_that_refuses_our_certificate_is_told_so(keys: Keys) -> None:
    """In TLS 1.3 that comes where its first answer is read."""
    context = serving(keys, keys.server)
    settings = keys.settings(keys.stranger)
    with peer_by(context) as (port, stored):
        listen = ListenConfig(to_host="127.0.0.1", to_port=port, to_ae="PEER", **settings)
        with pytest.raises(NotNow, match=r"PEER is not reached \(TLS: tlsv1 alert unknown ca\)"):
            peer_of(listen, lambda _: pytest.fail("no DICOMweb"))(report())
        assert stored == []


@pytest.mark.parametrize("kind", ["silent", "trickles"])
def test_a_peer_that_shakes_hands_for_ever_is_left(kind: str, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "SECONDS", 0.3)
    stop = threading.Event()

    def answer(listening: socket.socket) -> None:
        with listening.accept()[0] as connection:
            for byte in b"\x16\x03\x03\x10\x00" + bytes(999):
                if stop.wait(0.05):
                    return
                try:
                    connection.sendall(bytes([byte]) if kind == "trickles" else b"")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        begun = time.monotonic()
        with pytest.raises(NotNow, match="TLS: too slow"):
            to_tls_peer(keys, listening.getsockname()[1])(report())
        assert time.monotonic() - begun < 5
        stop.set()
        thread.join()
    drop_sockets()


@NEEDS_DCMTK
@pytest.mark.parametrize(("who", "is_in"), [("client", True), ("stranger", False), ("nobody", False), ("plain", False)])
def test_storescu_of_dcmtk_is_let_in_by_its_certificate(who: str, is_in: bool, keys: Keys, tmp_path: Path) -> None:
    film = tmp_path / "film.dcm"
    film.write_bytes(data_of(study_film(1)))
    trust = ["+cf", str(keys.ca.cert)]
    words = {
        "client": ["+tls", *keys.client.words, *trust], "stranger": ["+tls", *keys.stranger.words, *trust],
        "nobody": ["+tla", *trust], "plain": [],
    }[who]  # fmt: skip
    with receiver_in(tmp_path, **keys.settings()) as (spool, receiver):
        command = [STORESCU, *words, "-to", "10", "-aec", "R2GENGPT", "127.0.0.1", str(receiver.port), str(film)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
        assert (done.returncode == 0) == is_in, done.stderr
        assert len(list(spool.incoming.iterdir())) == int(is_in)


@NEEDS_DCMTK
@pytest.mark.parametrize(("who", "is_right"), [("server", True), ("stranger", False)])
def test_reports_go_to_storescp_of_dcmtk_by_its_certificate(
    who: str, is_right: bool, keys: Keys, tmp_path: Path
) -> None:
    pair: Pair = getattr(keys, who)
    port = free_port()
    trust = ["+cf", str(keys.ca.cert)]
    command = [STORESCP, "+tls", *pair.words, *trust, "-aet", "PEER", "-od", str(tmp_path), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            drop_sockets()
            if is_right:
                to_tls_peer(keys, port)(report())
            else:
                with pytest.raises(NotNow, match="TLS: unable to get local issuer"):
                    to_tls_peer(keys, port)(report())
        finally:
            process.kill()
    assert len(list(tmp_path.iterdir())) == int(is_right)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tls_cert": "c"}, "belong together"),
        ({"tls_ca": "c"}, "tls_ca needs"),
        ({"tls_cert": "c", "tls_key": "k"}, "tls_ca is missing"),
        ({"to_tls": False}, "to_tls False has an effect"),
        ({"to_name": "pacs"}, "to_name has an effect"),
    ],
)
def test_half_of_what_tls_needs_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ListenConfig(to_host="h", to_port=1, to_ae="A", **changes).check_peer()


@pytest.mark.parametrize(
    "kind",
    ["no cert", "no key", "no ca", "directory", "device", "another key", "locked", "no pem", "empty ca", "small"],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(kind: str, keys: Keys, tmp_path: Path) -> None:
    changes, words = {
        "no cert": ({"tls_cert": "no/such"}, "tls_cert no/such: no such file"),
        "no key": ({"tls_key": "no/such"}, "tls_key no/such: no such file"),
        "no ca": ({"tls_ca": "no/such"}, "tls_ca no/such: no such file"),
        "directory": ({"tls_ca": str(tmp_path)}, "is a directory, must be a file"),
        "device": ({"tls_ca": "/dev/null"}, "is no regular file"),
        "another key": ({"tls_key": str(keys.client.key)}, "does not belong to the certificate"),
        "locked": ({"tls_key": str(tmp_path / "locked")}, "locked by a password"),
        "no pem": ({"tls_key": str(keys.server.cert)}, "has no private key"),
        "empty ca": ({"tls_ca": str(keys.ca.key)}, "has no certificate"),
        "small": ({"tls_cert": str(tmp_path / "small.pem"), "tls_key": str(tmp_path / "small")}, "key too small"),
    }[kind]
    if kind == "locked":
        run_openssl("ec", "-in", keys.server.key, "-aes256", "-passout", "pass:secret", "-out", tmp_path / "locked")
    if kind == "small":
        run_openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", tmp_path / "small",
                    "-out", tmp_path / "small.pem", "-subj", "/CN=small")  # fmt: skip
    with pytest.raises(InputError, match=words):
        doubts_of_keys(ListenConfig(**{**keys.settings(), **changes}))


def test_a_certificate_out_of_its_dates_and_an_open_key_are_told(keys: Keys, tmp_path: Path) -> None:
    assert doubts_of_keys(ListenConfig(**keys.settings())) == []
    old = keys.signed("old", days=-1)
    (line,) = doubts_of_keys(ListenConfig(**keys.settings(old)))
    assert line == f"`tls_cert` {old.cert} has expired: peers that verify it will refuse us"
    old.key.chmod(0o644)
    assert "can be read by others" in doubts_of_keys(ListenConfig(**keys.settings(old)))[1]


def test_the_command_refuses_a_key_before_anything_is_loaded(
    keys: Keys, tmp_path: Path, run_cli: Any, tiny_checkpoint: Path
) -> None:
    words = ["--stow", "http://h/d", "--tls_cert", str(keys.server.cert), "--tls_key", str(keys.client.key)]
    code, stdout, stderr = run_cli(["listen", "--model", str(tiny_checkpoint), "--spool", str(tmp_path / "s"), *words])
    assert (code, stdout) == (2, "")
    assert f"--tls_key {keys.client.key}: does not belong to the certificate" in stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()


def test_what_comes_by_tls_stays_out_of_the_log(keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiver_in(tmp_path, **keys.settings()) as (_, receiver):
        assert store_by(receiver.port, keys.context(keys.client)) == [0]
        assert store_by(receiver.port, None, patience=5.0) == []
    assert not [line for line in lines_of(caplog) if "Muster" in line or uid(1) in line or "P-1" in line]
