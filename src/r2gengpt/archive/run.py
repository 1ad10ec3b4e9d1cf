"""`listen` put together: spool, receiver, loop and peer, until a signal. Loads no model itself."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from r2gengpt.archive.loop import Loop, Send, Write
from r2gengpt.archive.receive import Receiver
from r2gengpt.archive.send import c_store
from r2gengpt.archive.settings import ListenConfig
from r2gengpt.archive.spool import Spool

log = logging.getLogger("r2gengpt.archive")


def peer_of(settings: ListenConfig, connect: Callable[[str], Send]) -> Send:
    """Who gets the reports; `connect` makes a DICOMweb peer of a URL.

    Raises:
        InputError: nobody, or two.
    """
    settings.check_peer()
    if settings.stow is not None:
        return connect(settings.stow)
    assert settings.to_host is not None
    assert settings.to_port is not None
    assert settings.to_ae is not None
    return c_store(settings.to_host, settings.to_port, settings.to_ae, settings.ae_title)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs."""
    stop = threading.Event()
    kept = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def listen(settings: ListenConfig, send: Send, load: Callable[[], Write], on_port: Callable[[int], None]) -> None:
    """Receive, report and send until SIGTERM or SIGINT; the study that is being reported then is finished.

    Films are received, and wait, while the model is still being loaded.

    Args:
        settings: who, where, how much.
        send: brings reports to the peer.
        load: loads the model, once.
        on_port: gets the port as soon as films are received there.

    Raises:
        InputError: the spool or the address cannot be had, or the model not be loaded.
    """
    with stopped_by_signals() as stop:
        spool = Spool(Path(settings.spool), settings.max_spool_bytes, keep_seconds=settings.keep_sent_seconds)
        try:
            receiver = Receiver(spool, settings)
            try:
                on_port(receiver.port)
                write = load()
                log.info("ready")
                most, mixed = settings.max_images, settings.mixed_patients
                Loop(spool, write, send, settings.quiet_seconds, most, mixed=mixed).run(stop)
            finally:
                receiver.close()
        finally:
            spool.close()
