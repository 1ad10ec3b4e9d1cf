"""The web page at `/`: its files, from memory, under a strict policy. No template: it holds nothing of a request."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Content-Security-Policy of the page: its own files, images as bytes; nothing inline, nothing from elsewhere."""
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def page_files() -> dict[str, bytes]:
    """Name → contents of the page's files."""
    folder = files("r2gengpt.serving").joinpath("page")
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name.rpartition(".")[2] in TYPES}


def file_route(contents: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler that gives one file, whatever is asked."""
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

    async def give(request: Request) -> Response:
        return Response(contents, media_type=f"{kind}; charset=utf-8", headers=headers)

    return give


def page_routes() -> APIRouter:
    """`GET /`, and `GET /page/NAME` for each of the page's files: fixed names, none is made from a request."""
    router = APIRouter()
    for name, contents in page_files().items():
        path = "/" if name == "index.html" else f"/page/{name}"
        router.add_route(path, file_route(contents, TYPES[name.rpartition(".")[2]]))
    return router
