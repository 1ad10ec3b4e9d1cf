"""`listen` put together: spool, receiver, reporter, loop and peer, until a signal. Loads no model itself."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.clinical.archive.loop import Document, Loop, Send, Write
from r2gengpt.clinical.archive.receive import Receiver
from r2gengpt.clinical.archive.send import c_store
from r2gengpt.clinical.archive.spool import Spool
from r2gengpt.clinical.archive.tls import peer_tls
from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.forms import bytes_of
from r2gengpt.confidence.calibration import marked_text
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.report import Report, review_lines
from r2gengpt.settings import ListenConfig

if TYPE_CHECKING:
    from r2gengpt.reporter import Reporter

KINDS = {"sr": "SR", "pdf": "PDF"}
"""Form → the part of a draft whose UID is the object's (see `dicom_objects.new_object`)."""
JUDGED = DicomChoice(mixed_patients=True)
"""Whoever asks for a report has looked at whose films these are, and has refused what was not asked for."""


def document_of(report: Report, headers: Sequence[DicomHeader], model: str, digest: str, form: str) -> Document:
    """A report as a DICOM object of these films; the same report, films and model give the same UID."""
    now, film, review = datetime.now().astimezone(), report.findings, review_lines(report)
    draft = draft_of(marked_text(report), headers, model, digest, now, film=film, review=review)
    return Document(bytes_of(draft, form), draft.uid(KINDS[form]))


def writer(reporter: "Reporter", form: str) -> Write:
    """What writes reports with this model.

    Raises:
        InputError: parts of the weights are on disk, so that the model has no hash to make UIDs from.
    """
    from r2gengpt.films.sources import study_of

    digest = reporter.origin.model_sha256
    if digest is None:
        raise InputError("`offload_folder`: identifiers are made from all weights in memory: leave it out")

    def write(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
        (report,) = reporter.write([study_of(paths, JUDGED, reporter.side)])
        return document_of(report, headers, reporter.name, digest, form)

    return write


log = logging.getLogger("r2gengpt.clinical.archive")


def peer_of(settings: ListenConfig, connect: Callable[[str], Send]) -> Send:
    """Who gets the reports; `connect` makes a DICOMweb peer of a URL.

    Raises:
        InputError: nobody, or two; or a file of TLS cannot be used.
    """
    settings.check_peer()
    if settings.stow is not None:
        return connect(settings.stow)
    assert settings.to_host is not None
    assert settings.to_port is not None
    assert settings.to_ae is not None
    tls = peer_tls(settings, settings.to_host)
    return c_store(settings.to_host, settings.to_port, settings.to_ae, settings.ae_title, tls)


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
