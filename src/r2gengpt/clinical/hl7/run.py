"""MLLP of `listen` put together: orders, who listens for them, who sends results. Knows no model."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from r2gengpt.auditlog.log import AuditLog
from r2gengpt.clinical.archive.loop import Send
from r2gengpt.clinical.archive.spool import Spool
from r2gengpt.clinical.archive.tls import client_tls, prompt_server_context
from r2gengpt.clinical.hl7.book import NAME, OrderBook
from r2gengpt.clinical.hl7.intake import OrderIntake
from r2gengpt.clinical.hl7.listener import OrderListener
from r2gengpt.clinical.hl7.results import MessageQueue, mllp_send
from r2gengpt.errors import InputError
from r2gengpt.settings import ListenConfig, MllpConfig

log = logging.getLogger("r2gengpt.clinical.hl7")


def message_peer_of(mllp: MllpConfig, settings: ListenConfig) -> Send | None:
    """Who gets results as messages.

    Raises:
        InputError: a file of TLS cannot be used.
    """
    if mllp.mllp is None:
        return None
    host, port = mllp.peer
    return mllp_send(host, port, client_tls(settings, host) if mllp.mllp_tls else None)


@contextmanager
def orders_in(spool: Spool, mllp: MllpConfig) -> Iterator[OrderBook]:
    """The orders that are kept beside the films.

    Raises:
        InputError: their data base cannot be opened.
    """
    try:
        book = OrderBook(spool.directory / NAME, mllp.max_orders, mllp.keep_orders_seconds)
    except (OSError, sqlite3.Error) as error:
        words = f"{NAME} cannot be opened: {getattr(error, 'strerror', None) or error}"
        raise InputError(words, field="spool", value=spool.directory) from None
    with closing(book):
        yield book


@contextmanager
def order_listener(
    settings: ListenConfig,
    mllp: MllpConfig,
    book: OrderBook,
    audit: AuditLog | None = None,
    on_unsafe: Callable[[str, str], None] = lambda address, words: None,
) -> Iterator[int | None]:
    """The port that orders come in at while the block runs; None where there is none.

    `on_unsafe` gets the address of a peer whose handshake failed, and why.

    Raises:
        InputError: the port cannot be had, or a file of TLS not be used.
    """
    if mllp.mllp_port is None:
        yield None
        return
    tls = prompt_server_context(settings) if mllp.mllp_tls else None
    intake = OrderIntake(book, mllp.max_message_bytes, audit)
    made = OrderListener(settings.bind, mllp.mllp_port, intake, mllp.max_mllp_peers, tls, on_unsafe)
    with closing(made) as listener:
        yield listener.port


@contextmanager
def results_sent(spool: Spool, send: Send | None) -> Iterator[None]:
    """Messages go to their peer, in a thread of its own, while the block runs."""
    if send is None:
        if waiting := len(spool.messages()):
            log.warning("%d messages wait in the spool, and nobody gets them (`mllp`)", waiting)
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=MessageQueue(spool, send).run, args=(stop,), name="results", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
