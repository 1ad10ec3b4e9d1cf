"""A drill: every service of the reading room by its very command and files, in a root and network of their own.

Debian's Orthanc, nginx and PostgreSQL stand for those of the images. Docker, its networks and the images are not tried.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from archive_parts import LONG, MISSING, PLUGIN, film_data, uid, wait_until
from deploy_parts import NGINX, ROOT
from namespace_parts import Namespace, may_make, namespace
from postgres_parts import PROGRAMS
from programs import STORESCU
from r2gengpt.text.written import NOTICE
from room_parts import ROOM
from test_reading_room import SERVICES

NEEDED = {"namespaces": may_make(), "nginx": NGINX is not None, "postgresql": PROGRAMS is not None}
LACKING = [*MISSING, *(name for name, there in NEEDED.items() if not there)]
pytestmark = [pytest.mark.drill, pytest.mark.pacs, pytest.mark.skipif(bool(LACKING), reason=f"needs {LACKING}")]
OURS = "import sys; sys.modules.update(torch=None, transformers=None); from r2gengpt.cli.main import main; main()"
"""The program as the image cpu has it: without PyTorch."""
VIEWER = "http://127.0.0.1:8080"


def words_of(name: str) -> list[str]:
    """A service's program and its words in the file."""
    return [str(word) for word in SERVICES[name].get("entrypoint", []) + SERVICES[name].get("command", [])]


def start_database(room: Namespace, secrets: Path) -> None:
    """PostgreSQL as its image starts it, with the user, database, password and settings that the file gives."""
    given = SERVICES["db"]["environment"]
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = "/var/lib/postgresql/data"
    room.run(
        "sh",
        "-c",
        f"install -d -o postgres -m 700 {data} /run/postgresql && install -o postgres -m 600 {secrets} /tmp/password",
    )
    init = [f"{PROGRAMS}/initdb", "-D", data, "-U", given["POSTGRES_USER"], "--pwfile=/tmp/password", "-N"]
    room.run(*as_postgres, *init, *given["POSTGRES_INITDB_ARGS"].split())
    room.start("db", [*as_postgres, f"{PROGRAMS}/postgres", "-D", data, "-h", "*", "-k", "/run/postgresql", "-F"])
    wait_until(lambda: healthy(room, "db"))
    password = {**os.environ, "PGPASSWORD": room.run("cat", str(secrets)).strip()}
    words = ["-h", "db", "-U", given["POSTGRES_USER"], "postgres"]
    room.run("psql", *words, "-c", f"CREATE DATABASE {given['POSTGRES_DB']}", env=password)


def ours(*words: str) -> str:
    """What a command of ours prints."""
    command = [sys.executable, "-c", "from r2gengpt.cli.main import main; main()", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A tiny model as `export --target openvino` writes it."""
    out = tmp_path_factory.mktemp("edge") / "model"
    ours("export", "--target", "openvino", "--model", str(tiny_checkpoint), "--output", str(out))
    return out


@pytest.fixture
def room(tmp_path: Path, model: Path) -> Iterator[Namespace]:
    """All services, healthy."""
    secrets = tmp_path / "secrets"
    os.environ.pop("PGPASSWORD", None)
    with namespace(tmp_path / "layer", mounted(tmp_path, model, secrets), list(SERVICES)) as one:
        yield one


def mounted(directory: Path, model: Path, secrets: Path) -> dict[str, Path]:
    """The volumes of the file, and what the programs of this machine need besides."""
    for place in (spool := directory / "spool", secrets, plugins := directory / "plugins"):
        place.mkdir()
    (plugins / PLUGIN.name).symlink_to(PLUGIN)
    html = directory / "html"
    html.mkdir()
    (html / "index.html").write_text("the viewer")
    return {
        str(ROOT): ROOT, str(Path(sys.prefix)): Path(sys.prefix), "/etc/orthanc": ROOM / "orthanc",
        "/etc/viewer": ROOM / "viewer", "/model": model, "/run/secrets": secrets, "/spool": spool,
        "/usr/local/share/orthanc/plugins": plugins, "/usr/share/nginx/html": html,
    }  # fmt: skip


def started(room: Namespace) -> None:
    """Start the services in the order in which the file has them wait for each other."""
    room.run("mkdir", "-p", "/var/lib/orthanc/db")
    room.start("orthanc", ["Orthanc", *words_of("orthanc")])
    wait_until(lambda: healthy(room, "orthanc"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **SERVICES["serve"]["environment"]}
    for name in ("listen", "serve"):
        room.start(name, [sys.executable, "-c", OURS, *words_of(name)], env=environment)
    room.start("viewer", [*words_of("viewer"), "-g", "user root;"])
    for name in ("listen", "viewer"):
        wait_until(lambda: healthy(room, name))  # noqa: B023  # it is waited for here
    wait_until(lambda: "ready\n" in (room.logs / "serve.log").read_text())


def healthy(room: Namespace, name: str) -> bool:
    """Whether a service's own health check ends well, by the program's Python where it asks for one."""
    words = [sys.executable if word == "python" else word for word in SERVICES[name]["healthcheck"]["test"][1:]]
    try:
        room.run(*words)
    except AssertionError:
        return False
    return True


def asked(room: Namespace, path: str) -> Any:
    """What the viewer's page gets of the archive."""
    return room.within(lambda: requests.get(f"{VIEWER}/dicom-web{path}", timeout=LONG).json())


def test_a_film_becomes_a_draft_that_the_viewer_lists_and_a_verdict_is_kept(room: Namespace, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    room.run("bash", str(ROOM / "secrets.sh"), "/run/secrets")
    key = ours("keys", "add", "ward-7", "--roles", "report", "--api_keys", str(secrets / "keys")).split()[-1]
    start_database(room, Path("/run/secrets/db_password"))
    started(room)
    (secrets / "film.dcm").write_bytes(film_data(1))
    room.run(STORESCU, "-aet", "MODALITY", "-aec", "ORTHANC", "127.0.0.1", "4242", "/run/secrets/film.dcm")
    series = f"/studies/{uid(1)}/series?Modality=SR&includefield=SeriesDescription"
    wait_until(lambda: bool(asked(room, series)))
    (draft,) = asked(room, series)
    assert NOTICE in json.dumps(draft)
    headers = {"Authorization": f"Bearer {key}"}
    form = {"images": ("film.dcm", film_data(2))}

    def with_verdict() -> requests.Response:
        told = requests.post("http://127.0.0.1:8000/v1/reports", files=form, headers=headers, timeout=LONG)
        verdict = {"receipt": told.json()["receipt"], "verdict": "accept", "key": "0123456789abcdef"}
        return requests.post("http://127.0.0.1:8000/v1/verdicts", json=verdict, headers=headers, timeout=LONG)

    assert room.within(with_verdict).status_code == 201
    counted = room.run("psql", "-h", "db", "-U", "r2gengpt", "verdicts", "-Atc", "SELECT count(*) FROM verdicts",
                       env={**os.environ, "PGPASSFILE": "/run/secrets/pgpass"})  # fmt: skip
    assert counted.strip() == "1"
