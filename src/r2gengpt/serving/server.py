"""The application on a socket, until a signal: running requests are finished, waiting ones refused. No routes."""

import asyncio
import logging
import math
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from r2gengpt.serving.address import BACKLOG, bound, listens_inside, opened
from r2gengpt.serving.address import address_of as address_of
from r2gengpt.serving.connections import LimitedProtocol, Peers
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.identity import KEYS_VARIABLE, Identity
from r2gengpt.settings import ServeConfig

log = logging.getLogger("r2gengpt.serving")
AT_LAST = 1.0
"""Seconds after the last of these that the process is ended, whatever it still does."""
LAST_PASS = 2.0
"""Seconds that the writing thread has to notice, after its current pass, that nobody waits any more."""


def listen(settings: ServeConfig) -> socket.socket:
    """A socket that listens at the settings' address.

    Raises:
        InputError: the address is not this machine's, or the port is taken or not allowed.
    """
    return opened(bound(settings.host, settings.port))


def warn_if_open(settings: ServeConfig, identity: Identity) -> None:
    """Say in one line that everybody may ask, or that tokens cannot be checked yet.

    Raises:
        InputError: another provider of tokens is there than the settings name.
    """
    if not listens_inside(settings.host) and not identity.asks:
        log.warning(
            "`host` %s without keys: whoever reaches this address may use the model; set `api_keys` or %s",
            settings.host,
            KEYS_VARIABLE,
        )
    if identity.tokens is not None and (why := identity.tokens.check_issuer()):
        log.warning("`oidc_issuer` %s: its keys cannot be fetched (%s): no token counts until then",
                    settings.oidc_issuer, why)  # fmt: skip


class DrainingServer(uvicorn.Server):
    """uvicorn, which after a signal lets running requests finish, and then ends as one that was asked to."""

    def __init__(self, config: uvicorn.Config, generator: Generator) -> None:
        super().__init__(config)
        self.generator = generator
        seconds = (config.timeout_graceful_shutdown or 0) + LAST_PASS + AT_LAST
        self.end = threading.Timer(seconds, os._exit, (0,))
        self.end.daemon = True  # goes on while the interpreter waits for threads that do not end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept: few at once, as `server_config` settles, while many may wait in the system's queue."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM and SIGINT; a second one does not wait."""
        if not self.should_exit:
            self.end.start()
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end. A model that could not be loaded is a reason."""
        return await super().on_tick(counter) or self.generator.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse who waits, then wait for who is being written."""
        self.generator.drain()
        await super().shutdown(sockets)


def peers_of(settings: ServeConfig) -> Peers:
    """The limits on connections; at most half of the files that this process may open are connections."""
    most = settings.max_connections
    with suppress(ImportError):  # not on Windows, which has no such limit
        import resource

        most = min(most, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, 1))
    return Peers(most, min(most, settings.max_connections_each))


def server_config(app: FastAPI, settings: ServeConfig) -> uvicorn.Config:
    """uvicorn's settings: HTTP/1.1 only, no log of its own but faults."""
    peers = peers_of(settings)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # its lines hold paths as clients wrote them
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        loop="asyncio",
        http=cast(type[asyncio.Protocol], partial(LimitedProtocol, peers=peers)),
        backlog=min(BACKLOG, max(peers.most // 8, 8)),  # accepted at once, some times before one can make room
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
    )


def serve(app: FastAPI, generator: Generator, settings: ServeConfig, listening: socket.socket) -> bool:
    """Answer requests until a signal; whether the writing thread has ended.

    Raises:
        BaseException: what kept the model from being loaded.
    """
    DrainingServer(server_config(app, settings), generator).run([listening])
    if generator.failure is not None:
        raise generator.failure
    return generator.stop(LAST_PASS)
