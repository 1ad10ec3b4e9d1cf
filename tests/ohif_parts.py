"""OHIF's built viewer over an archive, on one port of this machine. No test stands here.

`@ohif/app` carries the built viewer in `dist`. npm fetches it into a directory of the drill's own: nothing is
installed, and nothing of it runs but in the browser.
"""

import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import requests

OHIF = "@ohif/app@3.13.2"
ROOT = "/dicom-web"
SOURCE = {
    "friendlyName": "archive", "name": "archive", "qidoRoot": ROOT, "wadoRoot": ROOT, "wadoUriRoot": ROOT,
    "qidoSupportsIncludeField": False, "supportsReject": False, "supportsFuzzyMatching": False,
    "supportsWildcard": True, "imageRendering": "wadors", "thumbnailRendering": "wadors",
    "enableStudyLazyLoad": True, "staticWado": False, "singlepart": "pdf,video",
    "bulkDataURI": {"enabled": True}, "omitQuotationForMultipartRequest": True,
}  # fmt: skip
SETTINGS = {
    "routerBasename": None, "extensions": [], "modes": [], "customizationService": {}, "showStudyList": True,
    "maxNumberOfWebWorkers": 1, "showWarningMessageForCrossOrigin": False, "showCPUFallbackMessage": False,
    "showLoadingIndicator": True, "strictZSpacingForVolumeViewport": True, "defaultDataSourceName": "ohif",
    "investigationalUseDialog": {"option": "never"},
    "dataSources": [{
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "ohif",
        "configuration": SOURCE,
    }],
}  # fmt: skip


def fetch_viewer(directory: Path) -> Path:
    """The built viewer's directory, fetched by npm.

    Raises:
        RuntimeError: npm is not there, or fetches nothing.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("needs npm")
    done = subprocess.run([npm, "pack", "--silent", OHIF], cwd=directory, capture_output=True, text=True, check=False)
    packed = list(directory.glob("ohif-app-*.tgz"))
    if done.returncode or not packed:
        raise RuntimeError(f"npm fetched no {OHIF}: {done.stderr[-300:]}")
    with tarfile.open(packed[0]) as archive:
        archive.extractall(directory, filter="data")
    return directory / "package" / "dist"


def handler_of(viewer: Path, archive: str) -> type[BaseHTTPRequestHandler]:
    """What answers: the archive's DICOMweb below `ROOT`, else a file of the viewer, else its page."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith(ROOT):
                accept = {"Accept": self.headers.get("Accept", "*/*")}
                found = requests.get(f"{archive}{self.path}", headers=accept, timeout=60)
                self.answer(found.status_code, found.headers.get("Content-Type", ""), found.content)
            elif path == "/app-config.js":
                self.answer(200, "text/javascript", f"window.config = {json.dumps(SETTINGS)};".encode())
            else:
                file = (viewer / path.lstrip("/")).resolve()
                file = file if file.is_file() and file.is_relative_to(viewer.resolve()) else viewer / "index.html"
                kind = "application/wasm" if file.suffix == ".wasm" else guess_type(file.name)[0]
                self.answer(200, kind or "application/octet-stream", file.read_bytes())

    return Handler


@contextmanager
def served_viewer(viewer: Path, archive: str) -> Iterator[str]:
    """The viewer's address while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(viewer, archive))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
