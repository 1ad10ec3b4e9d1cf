"""The files of deploy/ taken apart: the Dockerfile's stages, nginx's template filled in. No test stands here."""

import fnmatch
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from serving_parts import LONG, wait_for

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
WORDS = {"ARG", "FROM", "WORKDIR", "COPY", "ENV", "RUN", "USER", "EXPOSE", "STOPSIGNAL"}
WORDS |= {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
"""Instructions of a Dockerfile that ours has; another one needs a look here first."""


@dataclass
class Stage:
    """A stage of a Dockerfile: its name, what it is built on, its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        """The last argument of an instruction; None where there is none."""
        return next((argument for name, argument in reversed(self.instructions) if name == word), None)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines put together."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, argument = line.strip().partition(" ")
        assert word in WORDS, f"unknown instruction {word}"
        yield word, re.sub(r"\s+", " ", argument).strip()


def stages(text: str) -> dict[str, Stage]:
    """The stages by name; what stands before the first is of none."""
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for word, argument in instructions(text):
        if word == "FROM":
            base, name = argument.split(" AS ")
            stage = found[name] = Stage(name, base)
        elif stage is not None:
            stage.instructions.append((word, argument))
    return found


def chain(found: dict[str, Stage], target: str) -> list[Stage]:
    """A target and the stages that it is built on, from the first."""
    stage = found[target]
    return [*(chain(found, stage.base) if stage.base in found else []), stage]


def words_of(argument: str) -> list[str]:
    """An argument in its JSON form."""
    parsed = json.loads(argument)
    assert isinstance(parsed, list)
    return parsed


def in_context(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path from the root is sent to the builder, by .dockerignore: the last line that fits decides."""
    kept = True
    for pattern in patterns:
        name, allowed = pattern.removeprefix("!"), pattern.startswith("!")
        parents = [path, *(str(parent) for parent in Path(path).parents)][:-1] or [path]
        if name.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, name[3:]) for part in Path(path).parts)
        else:
            fits = any(fnmatch.fnmatch(one, name) for one in parents)
        kept = allowed if fits else kept
    return kept


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def nginx_config(scratch: Path, port: int, replicas: Sequence[str]) -> Path:
    """The template as a file in `scratch`, filled in as its head says."""
    servers = " ".join(f"server {address.removeprefix('http://')} fail_timeout=5s;" for address in replicas)
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    filled = Template(text).safe_substitute(LISTEN=f"127.0.0.1:{port}", SCRATCH=str(scratch), REPLICAS=servers)
    path = scratch / "nginx.conf"
    path.write_text(filled, encoding="utf-8")
    return path


def nginx_command(scratch: Path, config: Path) -> list[str]:
    """Its words; `-e` keeps it from the log that it was built with."""
    assert NGINX is not None
    return [NGINX, "-e", "stderr", "-p", str(scratch), "-c", str(config)]


@contextmanager
def nginx(scratch: Path, replicas: Sequence[str]) -> Iterator[str]:
    """nginx over these replicas, on a free port of this machine; its address."""
    for _ in range(5):
        port = free_port()
        config = nginx_config(scratch, port, replicas)
        process = subprocess.Popen(nginx_command(scratch, config), stderr=subprocess.PIPE, text=True)
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(process, lines))
        reader.start()
        try:
            wait_for(lambda: process.poll() is not None or listens(port))  # noqa: B023
            if process.poll() is None:
                yield f"http://127.0.0.1:{port}"
                return
            assert any("Address already in use" in line for line in lines), lines
        finally:
            process.terminate()
            process.wait(LONG)
            reader.join(LONG)
            assert process.stderr is not None
            process.stderr.close()
    raise AssertionError("every port was taken meanwhile")


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    lines.extend(process.stderr)


def listens(port: int) -> bool:
    """Whether somebody listens on this port of this machine."""
    with closing(socket.socket()) as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
