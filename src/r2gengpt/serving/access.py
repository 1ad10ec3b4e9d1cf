"""Which roles each route is for, and who a request's caller is. Reads no keys, and knows no route's work."""

from dataclasses import dataclass
from functools import cache
from re import Pattern
from typing import Any

from starlette.requests import HTTPConnection
from starlette.routing import compile_path

from r2gengpt.serving.keys import ADMIN, READ, REPORT, ROLES

OPEN: frozenset[str] = frozenset()
"""Asked without a key: a page that asks for one itself, and what machines look at to see whether the server lives."""
ANY, ASKS, READS = frozenset(ROLES), frozenset({REPORT, ADMIN}), frozenset({READ, ADMIN})
ACCESS = {
    "POST /v1/chat/completions": ASKS,
    "POST /v1/reports": ASKS,
    "POST /v1/evidence": ASKS,
    "POST /v1/preview": ASKS,
    "POST /v1/documents": ASKS,
    "POST /v1/pdf": ASKS,
    "POST /v1/verdicts": ASKS,
    "GET /v1/models": ANY,
    "GET /v1/models/{name:path}": ANY,
    "GET /v1/card": ANY,
    "GET /v1/queue/{ticket}": ANY,
    "GET /metrics": READS,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /": OPEN,
}
"""Method and pattern of a route → the roles that may use it; a route that is missing here is an admin's alone."""
PAGE = "/page/"
"""What the addresses of the page's own files begin with: open."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: of the key, or the subject of a token.
        roles: what they may do.
        how: key or token; "" where the server asks for neither.
        issuer: of a token; "" where there is none.
    """

    name: str
    roles: frozenset[str]
    how: str
    issuer: str = ""

    @property
    def id(self) -> str:
        """Tells callers apart: a key may have the name of a token's subject."""
        return f"{self.how} {self.issuer} {self.name}"


ANYBODY = Caller("anybody", ANY, "")
"""The caller where the server has no keys."""


@cache
def _patterns() -> tuple[tuple[str, Pattern[str], frozenset[str]], ...]:
    """Method, path and roles of each row of the table."""
    rows = [(*name.partition(" "), roles) for name, roles in ACCESS.items()]
    return tuple((method, compile_path(path)[0], roles) for method, _, path, roles in rows)


@dataclass(frozen=True)
class Wanted:
    """What a request needs: one of these roles, or None where the table has no such route.

    Attributes:
        roles: `OPEN` where it needs none.
        is_address: the table has this path, if by another method.
    """

    roles: frozenset[str] | None
    is_address: bool = True


def wanted(method: str, path: str) -> Wanted:
    """What the table has of a request; the page's own files are open.

    >>> sorted(wanted("GET", "/v1/queue/0123456789abcdef").roles), wanted("PUT", "/v1/reports")
    (['admin', 'read', 'report'], Wanted(roles=None, is_address=True))
    """
    method = "GET" if method == "HEAD" else method
    if path.startswith(PAGE):
        return Wanted(OPEN)
    fitting = {named: roles for named, pattern, roles in _patterns() if pattern.fullmatch(path)}
    return Wanted(fitting.get(method), bool(fitting))


def caller_of(request: HTTPConnection) -> Caller:
    """Who asks, as the guard has found."""
    found: Any = getattr(request.state, "caller", ANYBODY)
    return found if isinstance(found, Caller) else ANYBODY
