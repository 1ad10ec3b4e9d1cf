"""A session whose every HTTP exchange is bounded in time and bytes and follows no redirect. Knows nothing of DICOM.

The libraries below wait for the next bytes only, so a server that sends one a minute would hold them for ever.
Here the whole exchange has a time, and its connection is shut when that is up.
"""

import contextlib
import io
import socket
import threading
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

PIECE = 2**16
"""Bytes that are read at once."""


class Doubtful(requests.exceptions.RequestException):  # type: ignore[misc]  # types of requests are not followed
    """An answer that can't be used: too large, too slow, cut off or a redirect. One line, without what it holds."""


class TooLarge(Doubtful):
    """The server sends more than was allowed."""


class _Deadline:
    """Shuts the connections that were opened under it when the time is up."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._copies: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """A copy is shut, as TLS takes the connection's own handle for itself."""
        with self._lock:
            self._copies.append(connection.dup())

    def _end(self) -> None:
        with self._lock:
            self.over = True
            for copy in self._copies:
                with contextlib.suppress(OSError):  # it has ended already
                    copy.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hold what is opened in the block to the deadline."""
        token = _current.set(self)
        self._timer.start()
        try:
            yield
        finally:
            _current.reset(token)
            self._timer.cancel()
            with self._lock:
                for copy in self._copies:
                    copy.close()
                self._copies.clear()


_current: ContextVar[_Deadline] = ContextVar("deadline")


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        _current.get().watch(made)
        return made


class _Tls(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        _current.get().watch(made)
        return made


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


class _Adapter(HTTPAdapter):  # type: ignore[misc]  # as above
    """Opens connections under the current deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
        return manager


class BoundedSession(requests.Session):  # type: ignore[misc]  # as above
    """A session; each exchange has a connection of its own, and its answer is read whole.

    Args:
        most_bytes: of an answer, unpacked.
        most_seconds: of an exchange, from the connection to the answer's last byte.
    """

    def __init__(self, most_bytes: int, most_seconds: float) -> None:
        super().__init__()
        self.most_bytes, self.most_seconds = most_bytes, most_seconds
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def merge_environment_settings(
        self, url: str, proxies: Any, stream: bool | None, verify: bool | str | None, cert: Any
    ) -> dict[str, Any]:
        """As the environment has them, but for certificates where the session names its own (`REQUESTS_CA_BUNDLE`)."""
        own = self.verify if verify is None else verify
        found: dict[str, Any] = super().merge_environment_settings(url, proxies, stream, own, cert)
        return found

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """One exchange.

        Raises:
            requests.exceptions.RequestException: no whole answer (`Doubtful`, with words of ours), or no connection.
        """
        deadline = _Deadline(self.most_seconds)
        try:
            with deadline.running():
                response = super().send(request, **{**kwargs, "stream": True, "allow_redirects": False})
                response.raw = io.BytesIO(self._body(response))
            if deadline.over:  # what was cut off within its headers passes for a whole answer
                raise Doubtful(self._too_slow())
        except (requests.exceptions.RequestException, HTTPError, OSError, ValueError) as error:
            if deadline.over:
                raise Doubtful(self._too_slow()) from None
            if isinstance(error, requests.exceptions.RequestException):
                raise
            raise Doubtful(f"its answer cannot be read ({type(error).__name__})") from None
        finally:
            self.close()  # its connections, which are not used again
        if 300 <= response.status_code < 400:
            raise Doubtful(f"redirects us ({response.status_code}), which is not followed")
        return response

    def _too_slow(self) -> str:
        return f"takes more than {self.most_seconds:.0f} s to answer"

    def _body(self, response: requests.Response) -> bytes:
        """The answer's body, unpacked.

        Raises:
            Doubtful: it is too large, or packed in another way.
        """
        packed, total = [], 0
        with contextlib.closing(response.raw) as raw:
            for piece in raw.stream(PIECE, decode_content=False):
                total += len(piece)
                if total > self.most_bytes:
                    raise TooLarge(f"sends more than {self.most_bytes} bytes")
                packed.append(piece)
        return _unpacked(b"".join(packed), response.headers.get("Content-Encoding", ""), self.most_bytes)


def _unpacked(data: bytes, encoding: str, most: int) -> bytes:
    """The bytes that were sent, in at most as much memory as is allowed.

    Raises:
        Doubtful: they are too many, cut off, or packed in a way that is not read.
    """
    kind = encoding.strip().lower()
    if kind in ("", "identity") or not data:
        return data
    if kind not in ("gzip", "x-gzip", "deflate"):
        raise Doubtful("packs its answer in a way that is not read")
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as its first bytes say
    try:
        whole = reader.decompress(data, most + 1)
    except zlib.error:
        raise Doubtful("its packed answer cannot be read") from None
    if len(whole) > most:
        raise TooLarge(f"sends more than {most} bytes")
    if not reader.eof:
        raise Doubtful("its packed answer is cut off")
    return whole
