"""The reading room of deploy/: its compose file's promises, and its files in the programs that read them. No Docker."""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from archive_parts import LONG, MISSING, Orthanc, film_data, free_port, listening, orthanc, uid, wait_until
from deploy_parts import DEPLOY, NGINX, nginx_command
from r2gengpt.settings import ServeConfig
from r2gengpt.version import __version__
from room_parts import ROOM, SETTINGS, app_config, archive_settings, nginx_running, stand_in_archive, viewer_config
from test_documentation import parse_with

FILE: dict[str, Any] = yaml.safe_load((DEPLOY / "reading-room.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
PUBLISHED = {"orthanc": "127.0.0.1:4242:4242", "viewer": "127.0.0.1:8080:8080", "serve": "127.0.0.1:8000:8000"}
NAMED = pytest.mark.parametrize("name", SERVICES)


# ------------------------------------------------------------------ what the file promises


def test_the_room_has_an_archive_a_viewer_a_database_and_both_of_our_services() -> None:
    assert set(SERVICES) == {"orthanc", "listen", "viewer", "serve", "db"}
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        name: [port] for name, port in PUBLISHED.items()
    }


@NAMED
def test_a_service_has_one_pinned_image_and_may_change_nothing_of_it(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z0-9/-]+:v?\d+\.\d+[\w.-]*", service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"pids_limit", "mem_limit", "restart"} <= set(service)
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)
    assert float(service["stop_grace_period"].removesuffix("s")) > ServeConfig().drain_timeout + 3
    if name in ("listen", "serve"):
        assert service["image"] == f"r2gengpt:{__version__}-cpu"
    if name != "orthanc":  # its image has no user of its own
        assert service["user"] not in ("0:0", "root")


@NAMED
def test_a_service_is_asked_for_its_health_before_others_need_it(name: str) -> None:
    if name != "serve":  # its image brings the question
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert all(needed["condition"] == "service_healthy" for needed in SERVICES[name].get("depends_on", {}).values())


def test_who_listens_for_films_is_asked_by_the_name_that_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    words = SERVICES["listen"]["healthcheck"]["test"]
    space = parse_with(monkeypatch, SERVICES["listen"]["command"])
    assert words[1:6] == ["python", "-m", "pynetdicom", "echoscu", "127.0.0.1"]
    assert words[6] == str(space.port)
    assert words[words.index("-aet") + 1] in space.allowed_aets
    assert words[words.index("-aec") + 1] == "R2GENGPT"


def test_services_reach_those_that_they_need_and_no_others() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    reach = {frozenset((a, b)) for a in networks for b in networks if a < b and networks[a] & networks[b]}
    assert reach == {
        frozenset(pair)
        for pair in (("orthanc", "listen"), ("orthanc", "viewer"), ("listen", "viewer"), ("serve", "db"))
    }
    for network, settings in FILE["networks"].items():
        if settings.get("internal"):
            continue
        assert settings["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
        (only,) = (name for name in networks if network in networks[name])
        assert only in PUBLISHED
    assert all(networks[name] - {"films", "verdicts"} for name in PUBLISHED), "an internal network publishes no port"


def test_no_secret_stands_in_the_file() -> None:
    assert {name: kept["file"].partition("/")[0] for name, kept in FILE["secrets"].items()} == dict.fromkeys(
        ("keys", "pgpass", "db_password"), "${SECRETS:?a directory}"
    )
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            secret = re.search("PASS|KEY|SECRET|TOKEN", name)
            assert not secret or value.startswith("/run/secrets/"), name
        given = [value for value in service.get("environment", {}).values() if value.startswith("/run/secrets/")]
        named = [word for word in service.get("command", []) if str(word).startswith("/run/secrets/")]
        assert {Path(path).name for path in (*given, *named)} == set(service.get("secrets", []))


def test_each_file_that_is_mounted_is_there_and_each_place_that_is_written_is_a_volume() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.removesuffix(":ro").rpartition(":")[0]
            if source.startswith("./"):
                assert volume.endswith(":ro")
                assert (DEPLOY / source).is_dir()
            elif source in FILE["volumes"]:
                assert not volume.endswith(":ro")
            else:
                assert volume == "${MODEL:?a directory}:/model:ro"
    assert "/spool" in (DEPLOY / "Dockerfile").read_text(), "the volume takes its owner from the image's directory"


def test_drafts_go_back_to_the_archive_that_sends_the_films(monkeypatch: pytest.MonkeyPatch) -> None:
    space = parse_with(monkeypatch, SERVICES["listen"]["command"])
    sends_to = SETTINGS["DicomModalities"]["r2gengpt"]
    assert (sends_to["Host"], sends_to["Port"], sends_to["AET"]) == ("listen", space.port, "R2GENGPT")
    assert (space.to_host, space.to_port, space.to_ae) == ("orthanc", SETTINGS["DicomPort"], SETTINGS["DicomAet"])
    assert list(space.allowed_aets) == [SETTINGS["DicomAet"]]
    assert (space.bind, space.spool, space.model) == ("0.0.0.0", "/spool", "/model")


def test_readers_are_served_with_keys_and_their_verdicts_go_to_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    space = parse_with(monkeypatch, SERVICES["serve"]["command"])
    database = SERVICES["db"]["environment"]
    assert (space.host, space.port, space.api_keys) == ("0.0.0.0", 8000, "/run/secrets/keys")
    assert space.verdicts == f"postgresql://{database['POSTGRES_USER']}@db/{database['POSTGRES_DB']}"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to users")
def test_a_password_is_drawn_once_for_the_database_and_for_who_asks_it(tmp_path: Path) -> None:
    command = ["bash", str(ROOM / "secrets.sh"), str(tmp_path / "kept")]
    subprocess.run(command, check=True)
    password, asked = tmp_path / "kept" / "db_password", tmp_path / "kept" / "pgpass"
    drawn = password.read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", drawn)
    assert asked.read_text() == f"db:5432:verdicts:r2gengpt:{drawn}\n"
    modes = [(path.stat().st_mode & 0o777, path.stat().st_uid) for path in (password, asked)]
    assert modes == [(0o600, 999), (0o600, 10001)], "libpq reads no file that others may read"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "there already" in done.stderr) == (2, True)
    assert password.read_text().strip() == drawn


def test_who_may_give_no_file_away_leaves_no_password_behind(tmp_path: Path) -> None:
    """Else the next start as root would take it for one that PostgreSQL has."""
    (tmp_path / "chown").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "chown").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(ROOM / "secrets.sh"), str(tmp_path / "kept")]
    assert subprocess.run(command, check=False, env=environment).returncode != 0
    assert list((tmp_path / "kept").iterdir()) == []


# ------------------------------------------------------------------ the viewer's nginx


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_nginx_reads_the_file_without_a_warning(tmp_path: Path) -> None:
    config = viewer_config(tmp_path, 8080, "http://127.0.0.1:8042")
    done = subprocess.run([*nginx_command(tmp_path, config), "-t"], capture_output=True, text=True, check=False)
    assert (done.returncode, "test is successful" in done.stderr) == (0, True), done.stderr
    assert "warn" not in done.stderr


def test_the_viewer_asks_its_own_origin_for_films_and_stores_nothing() -> None:
    (source,) = app_config()["dataSources"]
    asked = source["configuration"]
    assert asked["qidoRoot"] == asked["wadoRoot"] == asked["wadoUriRoot"] == SETTINGS["DicomWeb"]["Root"].rstrip("/")
    assert asked["supportsStow"] is False


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_the_viewers_page_reads_the_archive_and_changes_nothing_in_it(tmp_path: Path) -> None:
    with stand_in_archive() as (archive, asked), nginx_running(tmp_path, archive) as viewer:
        page = requests.get(f"{viewer}/viewer?StudyInstanceUIDs=1", timeout=LONG)
        assert (page.status_code, page.text) == (200, "the viewer")
        assert requests.get(f"{viewer}/packed.js", timeout=LONG).text == "packed"
        assert requests.get(f"{viewer}/app-config.js", timeout=LONG).text.startswith("window.config")
        assert requests.get(f"{viewer}/dicom-web/studies", timeout=LONG).status_code == 200
        for way in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert requests.request(way, f"{viewer}/dicom-web/studies", timeout=LONG).status_code == 403
        for path in ("/instances", "/tools/shutdown", "/dicom-web/../instances", "/dicom-web/%2e%2e/instances"):
            assert requests.get(f"{viewer}{path}", timeout=LONG).text == "the viewer"
        assert asked == [("GET", "/dicom-web/studies", viewer.removeprefix("http://"))]


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_no_foreign_page_reads_a_film_through_the_viewer(tmp_path: Path) -> None:
    with stand_in_archive() as (archive, asked), nginx_running(tmp_path, archive) as viewer:
        answer = requests.get(f"{viewer}/dicom-web/studies", headers={"Origin": "http://evil.example"}, timeout=LONG)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = answer.headers["Content-Security-Policy"]
        assert "connect-src 'self' data: blob:;" in policy
        assert "frame-ancestors 'none'" in policy
        rebound = requests.get(f"{viewer}/dicom-web/studies", headers={"Host": "evil.example"}, timeout=LONG)
        assert rebound.status_code == 421
        assert len(asked) == 1


# ------------------------------------------------------------------ Orthanc


def of_archive(test: Callable[..., None]) -> Callable[..., None]:
    """A test that starts Orthanc."""
    test = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")(test)
    return pytest.mark.pacs(pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")(test))


def put(archive: Orthanc, film: bytes) -> None:
    requests.post(f"{archive.url}/instances", data=film, timeout=LONG).raise_for_status()


def sent(archive: Orthanc) -> Counter[str]:
    """How many of the archive's jobs ended how."""
    return Counter(job["State"] for job in archive.get("/jobs?expand"))


@of_archive
def test_a_film_that_the_archive_gets_comes_back_as_one_draft(tmp_path: Path) -> None:
    """Orthanc with the file of deploy/, changed in ports and places alone; `listen` with a stand-in for the model."""
    to = {"to_host": "127.0.0.1", "to_ae": "ORTHANC", "allowed_aets": ["ORTHANC"]}
    with orthanc(tmp_path / "orthanc", settings=archive_settings(tmp_path)) as archive:
        with listening(tmp_path / "listen", to_port=archive.dicom_port, **to) as one:
            assert one.port is not None
            archive.restart(archive_settings(tmp_path, listen=one.port))
            for study, number in ((1, 1), (1, 2), (2, 1)):
                put(archive, film_data(study, number))
            put(archive, film_data(3, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
            wait_until(lambda: archive.reports() == Counter({uid(1): 1, uid(2): 1}))
            wait_until(lambda: one.studies("sent") == 2)
        assert sent(archive) == {"Success": 3}, "three films, and neither the CT nor a draft"


@of_archive
def test_a_film_that_nobody_took_goes_again_with_the_next_one(tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", settings=archive_settings(tmp_path, listen=port)) as archive:
        put(archive, film_data(1))
        wait_until(lambda: sent(archive) == {"Failure": 1})
        wait_until(lambda: "a film was not sent: job " in (tmp_path / "orthanc" / "log").read_text())
        to = {"to_host": "127.0.0.1", "to_port": archive.dicom_port, "to_ae": "ORTHANC"}
        with listening(tmp_path / "listen", port=port, **to):
            put(archive, film_data(2))
            wait_until(lambda: archive.reports() == Counter({uid(1): 1, uid(2): 1}))
    assert "OnStoredInstance" not in (tmp_path / "orthanc" / "log").read_text(), "no fault of the script"


def test_the_ways_into_the_archive_are_those_of_films_and_of_the_viewer() -> None:
    assert SETTINGS["DicomCheckCalledAet"] is True
    allowed = {name: value for name, value in SETTINGS.items() if name.startswith("DicomAlwaysAllow")}
    assert [name for name, value in allowed.items() if value] == ["DicomAlwaysAllowStore"]
    assert not any(SETTINGS[name] for name in ("ExecuteLuaEnabled", "WebDavEnabled", "OverwriteInstances"))
    assert json.dumps(SETTINGS).count("DicomWeb.so") == len(SETTINGS["Plugins"]) == 1
