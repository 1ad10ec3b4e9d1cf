"""The files of deploy/: what they say exists, starts as nobody, and parses. Nothing is built."""

import configparser
import re
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from deploy_parts import (
    DEPLOY,
    NGINX,
    ROOT,
    chain,
    in_context,
    instructions,
    nginx_command,
    nginx_config,
    stages,
    words_of,
)
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.served import ServedModel
from r2gengpt.settings import ServeConfig
from r2gengpt.version import __version__
from serving_parts import running_server
from test_documentation import parse_with

DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
STAGES = stages(DOCKERFILE)
TARGETS = ("cpu", "full")
IGNORED = [
    line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
USER = 10001
DRAIN = ServeConfig().drain_timeout


def default_of(name: str) -> str:
    """An ARG's default."""
    (found,) = (
        argument.partition("=")[2]
        for word, argument in instructions(DOCKERFILE)
        if word == "ARG" and argument.startswith(f"{name}=")
    )
    return found


def check_serves(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> Any:
    """The flags are the command's, and the server can be reached from outside where it runs."""
    space = parse_with(monkeypatch, words)
    assert (words[0], space.host, space.port, space.model) == ("serve", "0.0.0.0", 8000, "/model")
    return space


# ------------------------------------------------------------------ Dockerfile


def test_every_file_that_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    copied = 0
    for number, stage in enumerate(STAGES.values()):
        earlier = list(STAGES)[:number]
        for word, argument in stage.instructions:
            if word != "COPY":
                continue
            *sources, _ = argument.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in earlier
                continue
            for source in sources:
                copied += 1
                assert (ROOT / source).exists(), source
                assert in_context(source, IGNORED), source
    assert copied > 4


def test_what_no_image_needs_is_not_sent_to_the_builder() -> None:
    for path in (
        ".git/config",
        "save/best/config.json",
        "tests/test_deploy.py",
        "deploy/keys",
        "src/x/__pycache__/a.pyc",
    ):
        assert not in_context(path, IGNORED), path
    assert in_context("src/r2gengpt/serving/app.py", IGNORED)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_nobody_asks_for_its_health_and_serves(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built_on = chain(STAGES, target)
    last = {
        word: next((one for stage in reversed(built_on) if (one := stage.last(word)) is not None), "")
        for word in ("USER", "HEALTHCHECK", "ENTRYPOINT", "CMD", "ENV")
    }
    assert last["USER"] == f"{USER}:{USER}"
    assert "/health'" in last["HEALTHCHECK"]
    assert words_of(last["ENTRYPOINT"]) == ["r2gengpt"]
    check_serves(monkeypatch, words_of(last["CMD"]))
    after_user = [word for stage in built_on for word, _ in stage.instructions]
    assert "RUN" not in after_user[after_user.index("USER") :], "what it runs as may write nowhere"


def test_no_image_is_whatever_is_latest() -> None:
    base = default_of("PYTHON")
    assert re.fullmatch(r"python:3\.11[\w.]*-slim-\w+", base)
    assert {stage.base for stage in STAGES.values()} == {"${PYTHON}", "base"}
    for text in (DOCKERFILE, (DEPLOY / "compose.yaml").read_text(), (DEPLOY / "kubernetes.yaml").read_text()):
        assert "latest" not in text


@pytest.mark.parametrize("target", TARGETS)
def test_every_package_of_an_image_is_checked_against_its_hash(target: str) -> None:
    (name,) = (
        argument.split()[0].removeprefix("--from=") for word, argument in STAGES[target].instructions if word == "COPY"
    )
    runs = [argument for word, argument in STAGES[name].instructions if word == "RUN"]
    installs = [part for run in runs for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 2
    for part in installs:
        assert "--no-deps" in part
        assert "--require-hashes" in part or "--no-build-isolation /source" in part, part


def test_the_health_check_tells_a_server_that_answers_from_none() -> None:
    health = next(stage.last("HEALTHCHECK") for stage in STAGES.values() if stage.last("HEALTHCHECK"))
    python, flag, code = words_of(str(health).partition("CMD ")[2])
    assert (python, flag) == ("python", "-c")
    with running_server(cast(ServedModel, None), Generator(1, 1)) as (address, _):  # its model is never loaded
        here = code.replace("http://127.0.0.1:8000", address)
        assert here != code
        assert subprocess.run([sys.executable, "-c", here], check=False).returncode == 0
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert urllib.error.URLError.__name__ in done.stderr


# ------------------------------------------------------------------ compose


@pytest.mark.parametrize("name", TARGETS)
def test_a_composed_service_is_its_target_behind_read_only_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = COMPOSE["services"][name]
    build = service["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert (build["target"], service["image"]) == (name, f"r2gengpt:{__version__}-{name}")
    assert service["read_only"] is True
    assert service["user"] == f"{USER}:{USER}"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["volumes"] == ["${MODEL:?a directory}:/model:ro"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert float(service["stop_grace_period"].removesuffix("s")) > DRAIN + 3
    assert check_serves(monkeypatch, service["command"]).api_key_file == "/run/secrets/keys"


def test_the_secret_of_the_services_is_a_file_that_the_caller_names() -> None:
    assert COMPOSE["secrets"] == {"keys": {"file": "${KEYS:?a file}"}}
    assert set(COMPOSE["services"]) == set(TARGETS)


def has_compose() -> bool:
    docker = shutil.which("docker")
    done = docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return bool(done and done.returncode == 0)


@pytest.mark.skipif(not has_compose(), reason="needs docker compose")
def test_docker_reads_the_compose_file(tmp_path: Path) -> None:
    environment = {"MODEL": str(tmp_path), "KEYS": str(tmp_path / "keys"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    command = ["docker", "compose", "--file", str(DEPLOY / "compose.yaml"), "--profile", "full", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------ systemd


@pytest.fixture
def unit() -> configparser.ConfigParser:
    """The unit; of a key that stands twice the last counts here."""
    parser = configparser.ConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are written
    parser.read(DEPLOY / "r2gengpt.service", encoding="utf-8")
    return parser


def test_the_service_runs_as_nobody_and_may_change_nothing(unit: configparser.ConfigParser) -> None:
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    service = unit["Service"]
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectProc"):
        assert service[name] in ("yes", "invisible"), name
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert re.fullmatch(r"\d+G", service["MemoryMax"])
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == ("any", "localhost")
    assert float(service["TimeoutStopSec"]) > DRAIN + 3


def test_the_service_starts_the_command_with_flags_that_it_has(
    unit: configparser.ConfigParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *words = unit["Service"]["ExecStart"].split()
    assert program == "/opt/r2gengpt/bin/r2gengpt"
    space = parse_with(monkeypatch, words)
    assert (words[0], space.model, space.port) == ("serve", "/srv/r2gengpt/model", 8000)
    assert not hasattr(space, "host"), "another address than this machine's own needs other lines of the unit too"
    assert space.api_key_file == "${CREDENTIALS_DIRECTORY}/keys"
    assert unit["Service"]["LoadCredential"].startswith("keys:")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_service(tmp_path: Path) -> None:
    """The program is not where the unit has it, so another one stands for it."""
    text = (DEPLOY / "r2gengpt.service").read_text(encoding="utf-8")
    path = tmp_path / "r2gengpt.service"
    path.write_text(text.replace("/opt/r2gengpt/bin/r2gengpt", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.write_text(f"{text}\n[Service]\nProtectSystm=strict\n", encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert "ProtectSystm" in done.stderr


# ------------------------------------------------------------------ Kubernetes


def test_the_manifest_has_two_servers_behind_one_address() -> None:
    kinds = {one["kind"]: one for one in OBJECTS}
    assert set(kinds) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    label = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Deployment"]["spec"]["replicas"] == 2
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == label
    assert kinds["Service"]["spec"]["selector"] == label
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == label
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label
    assert kinds["NetworkPolicy"]["spec"]["egress"] == []


def test_a_pod_is_nobody_with_probes_limits_and_one_place_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = OBJECTS[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    context, own = pod["securityContext"], container["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, USER)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
    assert set(container["resources"]) == {"requests", "limits"}
    assert container["image"] == COMPOSE["services"]["cpu"]["image"]
    assert pod["terminationGracePeriodSeconds"] > DRAIN + 3 + 5
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp"}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert check_serves(monkeypatch, container["args"]).api_key_file == "/keys/keys"


# ------------------------------------------------------------------ nginx


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_nginx_reads_the_template_once_its_three_names_are_filled_in(tmp_path: Path) -> None:
    config = nginx_config(tmp_path, 8080, ["http://127.0.0.1:8001", "http://127.0.0.1:8002"])
    assert "${" not in config.read_text(encoding="utf-8")
    command = [*nginx_command(tmp_path, config), "-t"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
    assert "warn" not in done.stderr
