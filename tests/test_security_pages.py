"""SECURITY.md's pages on TLS and backups: its configuration and its commands, run. Judges no prose."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
import requests

from archive_keys import NEEDS_OPENSSL, Keys
from archive_parts import LONG, Kept, film_data, run_all, spool_in, stand_in, states, uid
from deploy_parts import NGINX, free_port, listens, nginx_command
from postgres_parts import may_start, running_postgres
from r2gengpt.clinical.archive.loop import Loop
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.served import ServedModel
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.receipt import seal, unseal
from serving_parts import running_server, wait_for
from test_verdict_store import EDITED, FACTS

PAGE = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:console|nginx)\n(.*?)```", PAGE, re.DOTALL)


def block(word: str) -> str:
    """The one block that holds a word."""
    (found,) = (one for one in BLOCKS if word in one)
    return str(found)


def line(start: str) -> str:
    """The one command of the page that begins so, without its comment."""
    (found,) = (one for text in BLOCKS for one in text.splitlines() if one.startswith(start))
    return str(found).partition("  #")[0]


def run(command: str, directory: Path, **environment: str) -> None:
    done = subprocess.run(command, shell=True, cwd=directory, capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin", **environment})  # fmt: skip
    assert done.returncode == 0, (command, done.stderr)


# ------------------------------------------------------------------ TLS


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The page's proxy before a server that was started as the page says: its address, and who signed for it."""
    keys = Keys(tmp_path / "keys")
    pair = keys.signed("server", names="DNS:localhost")
    origin, port = "https://localhost", free_port()
    with running_server(cast(ServedModel, None), Generator(1, 1), cors_origin=(origin,)) as (address, _):
        text = block("listen 443 ssl")
        for ours, theirs in (
            ("listen 443", f"listen 127.0.0.1:{port}"), ("server_name reports.example", "server_name localhost"),
            ("/etc/r2gengpt/tls/us.pem", str(pair.cert)), ("/etc/r2gengpt/tls/us.key", str(pair.key)),
            ("http://127.0.0.1:8000", address),
        ):  # fmt: skip
            assert ours in text
            text = text.replace(ours, theirs)
        paths = "\n".join(
            f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = tmp_path / "nginx.conf"
        config.write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{\n{paths}\n{text}}}\n"
        )
        with subprocess.Popen(nginx_command(tmp_path, config), stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(lambda: process.poll() is not None or listens(port))
                yield f"https://localhost:{port}", keys.ca.cert
            finally:
                process.terminate()
                process.wait(LONG)


@NEEDS_OPENSSL
@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_the_proxy_of_the_page_gives_the_server_tls_and_hides_its_metrics(proxied: tuple[str, Path]) -> None:
    address, authority = proxied
    answer = requests.get(f"{address}/health", verify=str(authority), timeout=LONG)
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert requests.get(f"{address}/metrics", verify=str(authority), timeout=LONG).status_code == 404
    foreign = requests.get(f"{address}/health", headers={"Host": "evil.example"}, verify=str(authority), timeout=LONG)
    assert foreign.status_code == 400
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{address}/health", timeout=LONG)


# ------------------------------------------------------------------ backups


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs sqlite3")
def test_verdicts_in_sqlite_come_back_with_their_key(tmp_path: Path) -> None:
    store = opened_store(str(tmp_path / "verdicts.db"))
    kept, _ = store.keep(FACTS, EDITED)
    receipt = seal(FACTS, store.key)
    run(line("sqlite3"), tmp_path)  # while it is open
    store.close()
    (tmp_path / "verdicts.db").write_bytes(b"lost")
    run(line("cp verdicts-copy.db"), tmp_path)
    store = opened_store(str(tmp_path / "verdicts.db"), is_read=True)
    assert list(store.history()) == [kept]
    assert unseal(receipt, store.key) == FACTS
    store.close()


@pytest.mark.skipif(not may_start() or shutil.which("pg_dump") is None, reason="needs Debian's PostgreSQL")
def test_verdicts_in_postgresql_come_back_with_their_key(tmp_path: Path) -> None:
    with running_postgres() as server:
        url = server.database("verdicts")
        place = urlsplit(url)
        store = opened_store(url)
        kept, _ = store.keep(FACTS, EDITED)
        receipt = seal(FACTS, store.key)
        secret = tmp_path / "pgpass"
        secret.write_text(f"127.0.0.1:{server.port}:*:reader:a pass/word\\:with@signs\n")
        secret.chmod(0o600)
        where = f"-h 127.0.0.1 -p {server.port} -U {place.username}"
        known = {"PGPASSFILE": str(secret)}
        run(line("pg_dump").replace("-h db.example -U r2gengpt", where), tmp_path, **known)
        store.keep(FACTS, EDITED.__class__("withdraw", "key-0000000000000002"))
        store.close()
        run(line("pg_restore").replace("-h db.example -U r2gengpt", where), tmp_path, **known)
        store = opened_store(url)
        assert list(store.history()) == [kept], "what came after the dump is lost"
        assert unseal(receipt, store.key) == FACTS
        store.close()


def test_a_spool_that_comes_back_sends_what_waited_and_the_same_object_again(tmp_path: Path) -> None:
    peer, later = Kept(), Kept()
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        spool.add(film_data(2))
    run(line("tar -czf").replace("/var/spool r2gengpt", f"{tmp_path} spool"), tmp_path)
    with spool_in(tmp_path) as spool:
        run_all(Loop(spool, stand_in, peer, 0.0, 8))
        assert peer.studies == [uid(1), uid(2)]
    shutil.rmtree(tmp_path / "spool")
    run(line("tar -xzf").replace("/var/spool", str(tmp_path)), tmp_path)
    with spool_in(tmp_path) as spool:
        run_all(Loop(spool, stand_in, later, 0.0, 8))
        assert set(states(spool).values()) == {"sent"}
    assert [one.SOPInstanceUID for one in later.reports] == [one.SOPInstanceUID for one in peer.reports]
