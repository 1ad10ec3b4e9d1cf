"""Clients' connections within limits: how many there are, and how long one may keep the server waiting. No requests.

A connection waits for its peer until a request has come whole, and again when it has been answered. Beyond the limits
the one that has waited longest makes room, so idle and slow peers never keep a quick one out.

A request may have its answer before its body has come. Many clients read no answer until they have sent all, so the
rest is thrown away as long as it keeps the pace of a body: a reset in its place would take the answer from them.
"""

import asyncio
import ipaddress
import json
import socket
import struct
from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial
from operator import itemgetter
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.guard import HEADERS
from r2gengpt.serving.uploads import SLOWEST

HEAD_SECONDS = 10.0
"""From the connection, or from an answer, to the end of the next request's head."""
HEAD_COMES = 1.0
"""In which the head of a good request is there: who takes longer is idle, and makes room before a slow body does."""
REST_SECONDS = 120.0
"""In which the rest of a body must come whose request was answered before."""
WRITE_SECONDS = 60.0
"""In which a peer that reads slowly has to take `LEAST_READ` bytes of its answer."""
LEAST_READ = 2**16


RESET = struct.pack("ii", 1, 0)
"""SO_LINGER's value for an end without waiting: the peer gets a reset."""


class Phase(IntEnum):
    """What a connection waits for."""

    HEAD = 0
    BODY = 1
    ANSWER = 2


def network_of(peername: Any) -> str:
    """What counts as one peer: an address of IPv4, or the first 64 bits of one of IPv6, of which one owner has many."""
    try:
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except (TypeError, IndexError, ValueError):
        return "other"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


class Peers:
    """The open connections of one server.

    Args:
        most: in all.
        most_each: of one peer.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self.most = most
        self.most_each = most_each
        self._open: dict[LimitedProtocol, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: "LimitedProtocol", network: str) -> bool:
        """Let a connection in, where there is room or one that waits for its peer can go."""
        same = [one for one, where in self._open.items() if where == network]
        if len(same) >= self.most_each and not self._make_room(same):
            return False
        if len(self._open) >= self.most and not self._make_room(self._open):
            return False
        self._open[new] = network
        return True

    def _make_room(self, among: Iterable["LimitedProtocol"]) -> bool:
        waiting = [(one.waiting_since, one) for one in among if one.waiting_since is not None]
        if not waiting:
            return False
        before = waiting[0][1].loop.time() - HEAD_COMES
        late = [(since, one) for since, one in waiting if one.phase is Phase.HEAD and since < before]
        _, oldest = min(late or waiting, key=itemgetter(0))
        self.leave(oldest)
        oldest.cut()
        return True

    def leave(self, connection: "LimitedProtocol") -> None:
        """A connection has ended."""
        self._open.pop(connection, None)


class Deadline:
    """Something that a connection's peer has to do in time, or the connection is closed.

    Attributes:
        since: when it began, in the event loop's time; None where nothing has to be done.
    """

    def __init__(self, connection: "LimitedProtocol") -> None:
        self.connection = connection
        self.since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float | None, late: Callable[[], None] | None = None) -> None:
        """Begin anew; without seconds there is no end. `late` is done then, instead of closing the connection."""
        self.end()
        loop = self.connection.loop
        self.since = loop.time()
        if seconds is not None:
            self._timer = loop.call_later(seconds, late or self.connection.cut)

    def extend(self, seconds: float) -> None:
        """Let it be done within so many seconds of its beginning, by whichever end."""
        if self.since is not None and self._timer is not None:
            self._timer.cancel()
            self._timer = self.connection.loop.call_at(self.since + seconds, self.connection.cut)

    def end(self) -> None:
        """It is done."""
        self.since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _PatientTransport:
    """A transport whose close, while a peer is still sending, ends its writing half alone: the peer has its answer."""

    def __init__(self, transport: asyncio.Transport, connection: "LimitedProtocol") -> None:
        self._transport, self._connection = transport, connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._connection.has_said_all or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing() or not self._connection.is_sent_in_vain:
            self._transport.close()
            return
        self._connection.has_said_all = True
        self._transport.write_eof()
        self._transport.resume_reading()


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol, whose peers have to keep up. `peers` is shared by the connections of a server."""

    def __init__(self, *args: Any, peers: Peers, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.peers = peers
        self.phase = Phase.HEAD
        self._request = Deadline(self)
        self._reading = Deadline(self)
        self.has_said_all = False
        self._thrown_away = 0

    @property
    def is_sent_in_vain(self) -> bool:
        """Whether the rest of a body may come, whose request has its answer."""
        answered = self.cycle is not None and self.cycle.response_complete
        return answered and self.conn.their_state is h11.SEND_BODY

    @property
    def waiting_since(self) -> float | None:
        """Since when the server waits for the peer, in the event loop's time; None while the peer waits for it."""
        return self._request.since if self._request.since is not None else self._reading.since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """A peer has connected."""
        self.transport = transport
        if not self.peers.admit(self, network_of(transport.get_extra_info("peername"))):
            busy = ApiError(503, "too many connections: try again later", "too_many_connections", {"Retry-After": "1"})
            transport.write(raw_answer(busy))
            transport.close()
            return
        super().connection_made(cast(asyncio.Transport, _PatientTransport(transport, self)))
        self._request.begin(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.peers.leave(self)
        self._request.end()
        self._reading.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The peer has sent something."""
        if self.is_sent_in_vain:
            self._thrown_away += len(data)
            self._request.extend(min(HEAD_SECONDS + self._thrown_away / SLOWEST, REST_SECONDS))
        if not self.has_said_all:
            super().data_received(data)
            self._look()

    def on_response_complete(self) -> None:
        """A request has its answer; the next one may have come already."""
        super().on_response_complete()
        self.phase = Phase.HEAD
        self._thrown_away = 0
        self._request.begin(None if self.flow.write_paused else HEAD_SECONDS)
        self._look()

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._see_reading(self.transport.get_write_buffer_size() + LEAST_READ)

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self._reading.end()
        if self.phase is Phase.HEAD:
            self._request.begin(HEAD_SECONDS)

    def _see_reading(self, before: int) -> None:
        """See whether enough has been read since so many bytes were to be read."""
        left = self.transport.get_write_buffer_size()
        if before - left < LEAST_READ:
            self.cut()
        else:
            self._reading.begin(WRITE_SECONDS, partial(self._see_reading, left))

    def cut(self) -> None:
        """End the connection at once, and let go of what the peer has not read, in the system's buffers too.

        A plain close leaves it there until the peer reads, and a peer that is sending may never learn of the end.
        """
        if (opened := self.transport.get_extra_info("socket")) is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the shape of every other refusal."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(raw_answer(ApiError(400, "the request is no HTTP/1.1")))
        self.transport.close()

    def _look(self) -> None:
        """See what is waited for, after something has come."""
        cycle = self.cycle
        answered = cycle is None or cycle.response_complete
        phase = Phase.HEAD if answered else Phase.BODY if cycle.more_body else Phase.ANSWER
        if phase is self.phase:
            return
        self.phase = phase
        if phase is Phase.ANSWER:
            self._request.end()
        else:  # a body's own deadline is its reader's
            self._request.begin(HEAD_SECONDS if phase is Phase.HEAD else None)


def raw_answer(error: ApiError) -> bytes:
    """A refusal as bytes, for a connection that serves no request; it ends with it."""
    body = json.dumps(error.body()).encode()
    own = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {error.status} Refused", *(f"{k}: {v}" for k, v in (HEADERS | own | error.headers).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
