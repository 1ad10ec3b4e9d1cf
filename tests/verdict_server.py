"""A server of verdicts in a process that can be killed: the whole application, with a model that is never loaded."""

import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

import uvicorn

from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.settings import ServeConfig
from r2gengpt.verdicts.address import opened_store

forking = multiprocessing.get_context("forkserver")
PRELOADED = ["r2gengpt.serving.app", "r2gengpt.verdicts.store", "uvicorn"]
forking.set_forkserver_preload(PRELOADED)  # so that servers after the first start in tenths of a second


def serve(address: str, told: Connection) -> None:
    """Serve until the end of the process, and tell the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Generator(1, 1), ServeConfig(), opened_store(address))
    told.send(listening.getsockname()[1])
    told.close()
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listening])


@contextmanager
def running(address: str) -> Iterator[tuple[ForkServerProcess, int]]:
    """A server and its port; at the end it is killed."""
    ours, theirs = forking.Pipe(duplex=False)
    process = forking.Process(target=serve, args=(address, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours.recv()
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
