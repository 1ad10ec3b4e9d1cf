"""`worklist` put together: servers, claims, model, loop, until a signal. Loads no model itself."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from r2gengpt.auditlog.log import AuditLog
from r2gengpt.auditlog.message import ActiveParticipant
from r2gengpt.clinical.archive.audited import recording
from r2gengpt.clinical.archive.earlier import EarlierStudies
from r2gengpt.clinical.archive.loop import Write
from r2gengpt.clinical.archive.run import stopped_by_signals
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.stow import stow
from r2gengpt.clinical.worklist.audited import recorded_changes, recorded_fetch
from r2gengpt.clinical.worklist.changes import OutputInstance
from r2gengpt.clinical.worklist.claims import Claims
from r2gengpt.clinical.worklist.films import fetcher
from r2gengpt.clinical.worklist.performer import Performer
from r2gengpt.clinical.worklist.service import Worklist
from r2gengpt.clinical.worklist.stages import Assignment, Means
from r2gengpt.films.dicom.header import read_header
from r2gengpt.settings import WorklistConfig

log = logging.getLogger("r2gengpt.clinical.worklist")


def output_of(report: bytes) -> OutputInstance:
    """The identifiers of a report as a DICOM file."""
    header = read_header(report, "report")
    return OutputInstance(header.study_uid, header.series_uid, header.instance_uid, header.class_uid)


def perform(
    settings: WorklistConfig,
    worklist: Server,
    archive: Server,
    load: Callable[[], Write],
    audit: AuditLog | None = None,
    earlier: EarlierStudies | None = None,
) -> None:
    """Claim, draft, store and complete work items until SIGTERM or SIGINT; the stage that was begun is finished.

    Args:
        settings: which items, where claims are kept, how much.
        worklist: the server of work items.
        archive: has the films, and gets the reports.
        load: loads the model, once, before anything is claimed.
        audit: records what comes, is used and goes; None where nothing is recorded.
        earlier: what `load` was given to find earlier studies, whose films are recorded too.

    Raises:
        InputError: the claims cannot be kept, the start not be recorded, or the model not be loaded.
    """
    with stopped_by_signals() as stop, ExitStack() as stack:
        recorder = stack.enter_context(recording(audit))
        if earlier is not None:
            earlier.recorder = recorder
        claims = Claims(Path(settings.claims))
        stack.callback(claims.close)
        fetch = fetcher(archive, settings.max_images, mixed=settings.mixed_patients)
        write, send, url = load(), stow(archive), archive.base_url
        means = Means(fetch, write, send, output_of, url)
        if recorder is not None:
            peer = ActiveParticipant(url, address=url)
            fetch, write, send = (
                recorded_fetch(fetch, recorder, url),
                recorder.writing(write),
                recorder.sending(send, peer),
            )
            means = Means(fetch, write, send, output_of, url, recorded_changes(recorder, worklist.base_url))
        assignment = Assignment(
            settings.station,
            settings.procedures,
            settings.poll_seconds,
            settings.max_claimed,
            settings.fetch_seconds,
        )
        if waiting := len(claims.open()):
            log.info("%d claimed work items are taken up again", waiting)
        log.info("ready")
        Performer(Worklist(worklist), claims, assignment, means).run(stop)
