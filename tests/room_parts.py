"""The reading room's files, changed in ports and places alone, and programs that read them. No test stands here."""

import gzip
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from archive_parts import PLUGIN, free_port
from deploy_parts import DEPLOY, listens, nginx_command
from serving_parts import LONG, wait_for

ROOM = DEPLOY / "reading-room"
SETTINGS: dict[str, Any] = json.loads((ROOM / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))


def archive_settings(directory: Path, listen: int | None = None) -> dict[str, Any]:
    """Orthanc's file, with this machine's plugin and script, and the port of `listen` (None: nobody listens)."""
    peer = {**SETTINGS["DicomModalities"]["r2gengpt"], "Host": "127.0.0.1", "Port": listen or free_port()}
    places = {"Plugins": [str(PLUGIN)], "LuaScripts": [str(ROOM / "orthanc" / "forward.lua")]}
    return {**SETTINGS, **places, "DicomModalities": {"r2gengpt": peer}}


def app_config() -> dict[str, Any]:
    """OHIF's settings, which the file gives as JSON."""
    text = (ROOM / "viewer" / "app-config.js").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text.removeprefix("window.config = ").rstrip().removesuffix(";"))
    return settings


def viewer_config(scratch: Path, port: int, archive: str) -> Path:
    """The viewer's nginx.conf with a port, an archive and a viewer of the test's own: a page, and a packed script."""
    html = scratch / "html"
    html.mkdir(exist_ok=True)
    (html / "index.html").write_text("the viewer")
    (html / "packed.js").touch()
    (html / "packed.js.gz").write_bytes(gzip.compress(b"packed"))
    text = (ROOM / "viewer" / "nginx.conf").read_text(encoding="utf-8")
    for ours, theirs in (
        (" /tmp/", f" {scratch}/"),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("http://orthanc:8042", archive),
        ("/usr/share/nginx/html", str(html)),
        ("root /etc/viewer", f"root {ROOM / 'viewer'}"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    path = scratch / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def nginx_running(scratch: Path, archive: str) -> Iterator[str]:
    """The viewer's nginx before this archive; its address."""
    port = free_port()
    config = viewer_config(scratch, port, archive)
    reads = ["-g", "user root;"] if os.geteuid() == 0 else []  # else as nobody, who may not read the test's directory
    with subprocess.Popen([*nginx_command(scratch, config), *reads], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(LONG)


@contextmanager
def stand_in_archive() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """What answers each request with 200: its address, and method, path and Host of those that came."""
    asked: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append((self.command, self.path, self.headers["Host"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LONG)
