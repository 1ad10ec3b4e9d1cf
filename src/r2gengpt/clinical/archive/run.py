"""`listen` put together: spool, receiver, orders, reporter, loop and peers, until a signal. Loads no model itself."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from r2gengpt.auditlog.log import AuditLog
from r2gengpt.base_reporter import BaseReporter
from r2gengpt.clinical.archive.audited import recording, report_peer
from r2gengpt.clinical.archive.earlier import NO_STUDY, EarlierStudies
from r2gengpt.clinical.archive.loop import DicomObject, Document, Loop, Send, Write
from r2gengpt.clinical.archive.receive import Receiver
from r2gengpt.clinical.archive.send import c_store
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.spool import Spool
from r2gengpt.clinical.archive.tls import peer_tls
from r2gengpt.clinical.documents.draft import Draft, draft_of
from r2gengpt.clinical.documents.forms import FORMS, bytes_of
from r2gengpt.clinical.documents.hl7 import addressed
from r2gengpt.clinical.hl7.audited import subjects_of_result
from r2gengpt.clinical.hl7.orders import NO_ORDER, Order
from r2gengpt.clinical.hl7.run import message_peer_of, order_listener, orders_in, results_sent
from r2gengpt.confidence.review import marked_text
from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError, place_of
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.context import since
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.regions import Region
from r2gengpt.report import Report, review_lines
from r2gengpt.settings import ListenConfig, MllpConfig, PriorConfig
from r2gengpt.text.context import NO_CONTEXT, UNTRAINED, Context

NO_MLLP = MllpConfig()
JUDGED = DicomChoice(mixed_patients=True)
"""Whoever asks for a report has looked at whose films these are, and has refused what was not asked for."""


FindOrder = Callable[[Sequence[DicomHeader]], Order]
"""The films of a study → its order, or one that asks for nothing."""
log = logging.getLogger("r2gengpt.clinical.archive")


def document_of(
    report: Report,
    headers: Sequence[DicomHeader],
    model: str,
    digest: str,
    form: str,
    *,
    further: Sequence[str] = (),
    regions: Sequence[Region] = (),
    message_to: str | None = None,
    placer: str = "",
) -> Document:
    """A report as DICOM objects of these films; the same report, films and model give the same UIDs.

    Args:
        report: the report.
        headers: of its films.
        model: the model's name.
        digest: of its weights.
        form: one of `FORMS` that is a DICOM object.
        further: other such forms; each is an object with a UID of its own.
        regions: of the films, for forms that hold them.
        message_to: it becomes an HL7 message too, if its films name a patient, to this application and facility
            ("" for none); None: no message.
        placer: the number of its order by who placed it.
    """
    now, film, review = datetime.now().astimezone(), report.findings, review_lines(report)
    common = draft_of(
        marked_text(report),
        headers,
        model,
        digest,
        now,
        film=film,
        review=review,
        regions=regions,
        placer=placer,
    )
    first, *others = [_object_of(common, one) for one in (form, *further)]
    draft = _for_form(common, form)
    message = b""
    if message_to is not None and draft.patient.patient_id:
        message = addressed(bytes_of(draft, "hl7"), message_to)
    elif message_to is not None:
        log.warning("a report becomes no message, as its films have no Patient ID")
    return Document(first.data, first.uid, message, tuple(others))


def _for_form(draft: Draft, form: str) -> Draft:
    """The draft with what a form holds alone: so an object has the same UID whatever other forms are asked for."""
    return draft if FORMS[form].regions else replace(draft, regions=())


def _object_of(draft: Draft, form: str) -> DicomObject:
    """The draft as an object of a form."""
    own = _for_form(draft, form)
    return DicomObject(bytes_of(own, form), own.uid(FORMS[form].part))


def no_order(_: Sequence[DicomHeader]) -> Order:
    """In place of orders, where none come in."""
    return NO_ORDER


def writer(
    reporter: BaseReporter,
    form: str,
    find: FindOrder = no_order,
    *,
    further: Sequence[str] = (),
    message_to: str | None = None,
    earlier: EarlierStudies | None = None,
) -> Write:
    """What writes reports with this model.

    Args:
        reporter: the model.
        form: of the DICOM objects.
        find: gives a study's order, whose indication stands in the prompt; of a model that was trained with context,
            all that the order tells.
        further: forms that the reports have besides.
        message_to: see `document_of`.
        earlier: finds the patient's study before, for a model that was trained with such; None: nothing is looked for.

    Raises:
        InputError: parts of the weights are on disk, so that the model has no hash to make UIDs from.
    """
    from r2gengpt.films.sources import study_of

    digest = reporter.documents_sha256
    if digest is None:
        raise InputError("`offload_folder`: identifiers are made from all weights in memory: leave it out")

    def write(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
        order, study = find(headers), study_of(paths, JUDGED, reporter.side)

        before = NO_STUDY if earlier is None or PRIOR not in reporter.context_fields else earlier.of(headers)
        prior = study_of([data for data, _ in before.films], JUDGED, reporter.side) if before.films else None
        context = order.context.only([name for name in reporter.context_fields or UNTRAINED if name != PRIOR])
        whole = context if prior is None else since(replace(context, prior=before.report), headers, prior.headers)

        def report_with(words: Context) -> Report:
            (report,) = reporter.write([study], context=words, prior=prior if words or not whole else None)
            return report

        report, placer = written_for(whole, report_with), order.placer
        regions = reporter.regions(report) if any(FORMS[one].regions for one in (form, *further)) else ()
        return document_of(
            report,
            headers,
            reporter.name,
            digest,
            form,
            further=further,
            regions=regions,
            message_to=message_to,
            placer=placer,
        )

    return write


def written_for(context: Context, write: Callable[[Context], Report]) -> Report:
    """A report with what is known beside the films, but for what cannot stand in the prompt.

    Raises:
        InputError: it cannot be written without either.
    """
    if not context:
        return write(NO_CONTEXT)
    for words in [context, replace(context, prior="")] if context.prior else [context]:
        try:
            return write(words)
        except InputError as error:
            log.info("of an order or an earlier report: %s", place_of(error))
        if words.prior:
            log.warning("the report of the earlier study cannot stand in the prompt: it is left out")
    log.warning("what an order tells cannot stand in the prompt: its study is reported without it")
    return write(NO_CONTEXT)


def earlier_of(settings: ListenConfig, prior: PriorConfig, connect: Callable[[str], Server]) -> EarlierStudies | None:
    """What finds earlier studies; None where none are asked for. `connect` makes a DICOMweb client of a URL.

    Raises:
        InputError: C-MOVE together with TLS, or a file of TLS cannot be used.
    """
    if prior.prior_url is not None:
        from r2gengpt.clinical.archive.earlier_web import WebArchive

        return EarlierStudies(WebArchive(connect(prior.prior_url)), settings.max_images)
    if prior.prior_host is None:
        return None
    from r2gengpt.clinical.archive.retrieve import DimseArchive, MoveTo

    assert prior.prior_port is not None
    assert prior.prior_ae is not None
    move = None
    if prior.prior_move_port is not None:
        if settings.tls_cert is not None:
            words = "films would come in plain text beside `tls_cert`: leave it out, C-GET brings them"
            raise InputError(words, field="prior_move_port", value=prior.prior_move_port)
        move = MoveTo(prior.prior_move_ae, settings.bind, prior.prior_move_port)
    archive = DimseArchive(
        prior.prior_host,
        prior.prior_port,
        prior.prior_ae,
        settings.ae_title,
        settings.max_images * settings.max_instance_bytes,
        peer_tls(settings, prior.prior_host),
        move,
    )
    return EarlierStudies(archive, settings.max_images)


def peer_of(settings: ListenConfig, connect: Callable[[str], Server]) -> Send:
    """Who gets the reports; `connect` makes a DICOMweb client of a URL.

    Raises:
        InputError: nobody, or two; or a file of TLS cannot be used.
    """
    settings.check_peer()
    if settings.stow is not None:
        from r2gengpt.clinical.archive.stow import stow

        return stow(connect(settings.stow))
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


def _nobody_told(address: str, words: str) -> None:
    """In place of a record, where nothing is recorded."""


Load = Callable[[FindOrder], Write]
"""Loads the model; it gets what gives a study's order."""
OnPorts = Callable[[int, int | None], None]
"""Gets the port of films, and that of orders where there is one."""


def listen(
    settings: ListenConfig,
    send: Send,
    load: Load,
    on_ports: OnPorts,
    mllp: MllpConfig = NO_MLLP,
    audit: AuditLog | None = None,
    earlier: EarlierStudies | None = None,
) -> None:
    """Receive, report and send until SIGTERM or SIGINT; the study that is being reported then is finished.

    Films and orders are received, and wait, while the model is still being loaded.

    Args:
        settings: who, where, how much.
        send: brings reports to the peer.
        load: loads the model, once.
        on_ports: gets the ports as soon as something is received there.
        mllp: where orders come in, and who gets messages.
        audit: records what comes, is used and goes; None where nothing is recorded.
        earlier: what `load` was given to find earlier studies, whose films are recorded too.

    Raises:
        InputError: the spool, the audit log or an address cannot be had, or the model not be loaded.
    """
    send_message = message_peer_of(mllp, settings)
    with stopped_by_signals() as stop, ExitStack() as stack:
        recorder = stack.enter_context(recording(audit))
        if recorder is not None and earlier is not None:
            earlier.recorder = recorder
        if recorder is not None:
            send = recorder.sending(send, report_peer(settings))
            send_message = send_message and recorder.exporting(send_message, mllp.peer, subjects_of_result)
        spool = Spool(Path(settings.spool), settings.max_spool_bytes, keep_seconds=settings.keep_sent_seconds)
        stack.callback(spool.close)
        book = stack.enter_context(orders_in(spool, mllp))
        receiver = stack.enter_context(closing(Receiver(spool, settings, recorder)))
        unsafe = recorder.unsafe if recorder is not None else _nobody_told
        orders_port = stack.enter_context(order_listener(settings, mllp, book, audit, unsafe))
        stack.enter_context(results_sent(spool, send_message))
        on_ports(receiver.port, orders_port)
        write = load(book.order_for)
        if recorder is not None:
            write = recorder.writing(write)
        log.info("ready")
        most, mixed = settings.max_images, settings.mixed_patients
        Loop(spool, write, send, settings.quiet_seconds, most, mixed=mixed, urgent=book.urgent).run(stop)
