"""A PostgreSQL server of a test's own: in a directory that goes with it, on a free port. No test stands here."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)
"""Debian's, the newest; its service is neither needed nor touched."""
PASSWORD = "a pass/word:with@signs"
QUOTED = "a%20pass%2Fword%3Awith%40signs"


def may_start() -> bool:
    """Whether there is a server's program, and a user that it may run as: it refuses root."""
    if PROGRAMS is None:
        return False
    return os.geteuid() != 0 or any(user.pw_name == "postgres" for user in pwd.getpwall())


@dataclass
class Server:
    """A server that runs; `restart` after `kill` gives it the same port and the same files."""

    directory: Path
    port: int
    running: subprocess.Popen[str]

    def url(self, database: str = "postgres", password: str = QUOTED) -> str:
        return f"postgresql://reader:{password}@127.0.0.1:{self.port}/{database}"

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        import psycopg

        with psycopg.connect(self.url().replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def kill(self) -> None:
        self.running.send_signal(signal.SIGQUIT)  # at once, without a checkpoint: what follows a crash
        self.running.wait()
        assert self.running.stderr is not None
        self.running.stderr.close()

    def restart(self) -> None:
        self.running = _started(self.directory, self.port)


def _as_nobody_of_rank() -> dict[str, Any]:
    """Arguments of `Popen` by which a program does not run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _started(directory: Path, port: int) -> "subprocess.Popen[str]":
    assert PROGRAMS is not None
    words = [PROGRAMS / "postgres", "-D", directory / "data", "-p", str(port), "-h", "127.0.0.1", "-k", directory]
    running = subprocess.Popen(
        [*map(str, words), "-F"], cwd=directory, stderr=subprocess.PIPE, text=True, **_as_nobody_of_rank()
    )
    assert running.stderr is not None
    told = []
    for line in running.stderr:
        told.append(line)
        if "ready to accept connections" in line:
            return running
    raise AssertionError("".join(told))


@contextmanager
def running_postgres() -> Iterator[Server]:
    """A server whose user `reader` owns all, with `PASSWORD`."""
    assert PROGRAMS is not None
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        secret = directory / "secret"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        words = ["-D", directory / "data", "-U", "reader", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"]
        subprocess.run(
            [str(PROGRAMS / "initdb"), *map(str, words), "-E", "UTF8", "--locale=C"],
            cwd=directory,
            check=True,
            capture_output=True,
            **_as_nobody_of_rank(),
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = Server(directory, port, _started(directory, port))
        try:
            yield server
        finally:
            if server.running.poll() is None:
                server.kill()
    finally:
        shutil.rmtree(directory)
