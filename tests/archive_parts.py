"""Parts that the tests of the archive loop share: films, a stand-in for the model, peers. No test stands here."""

import gc
import io
import shutil
import socket
import sqlite3
import subprocess
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, evt

from dicom_files import CR, DX, data_of, film
from programs import STORESCU
from r2gengpt.clinical.archive.audited import ArchiveAudit
from r2gengpt.clinical.archive.loop import Document, Loop, Send
from r2gengpt.clinical.archive.receive import Receiver, silence_pynetdicom
from r2gengpt.clinical.archive.run import document_of
from r2gengpt.clinical.archive.spool import Spool
from r2gengpt.clinical.documents.dicom_objects import code, item
from r2gengpt.clinical.hl7.orders import Order
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.report import Report
from r2gengpt.settings import ListenConfig

SR, PDF = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.104.1"
COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
UID_ROOT = "1.2.826.0.1.3680043.8.498.77"
TEXT = "FINDINGS: The heart is large.\nIMPRESSION: Cardiomegaly."
LONG = 120.0


def uid(study: int, number: int = 0) -> str:
    """UIDs of the tests: of a study, or of an instance of it."""
    return f"{UID_ROOT}.{study + 1}" + (f".{number}" if number else "")


def study_film(study: int, number: int = 1, **more: Any) -> Dataset:
    """Film `number` (1 is a DX, others are CR) of a drawn study."""
    pixels = np.random.default_rng((study, number)).integers(0, 4096, (40, 32)).astype(np.uint16)
    kind = DX if number == 1 else CR
    values: dict[str, Any] = {
        "StudyInstanceUID": uid(study), "SeriesInstanceUID": uid(study, 100 + number), "SOPClassUID": kind,
        "SOPInstanceUID": uid(study, number), "Modality": "DX" if kind == DX else "CR", "SeriesNumber": str(number),
        "PatientID": f"P-{study}", "ViewPosition": "PA" if number == 1 else "LL",
    }  # fmt: skip
    made = film(pixels, **{**values, **more})
    if "PixelData" in more:
        made.PixelData = more["PixelData"]
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def film_data(study: int, number: int = 1, **more: Any) -> bytes:
    """Its file."""
    return data_of(study_film(study, number, **more))


def study_report(study: int, content: Sequence[Dataset], **more: Any) -> Dataset:
    """A complete and verified structured report of a drawn study, with these content items."""
    made = study_film(study, 900)
    for element in [one for one in made if one.tag.group == 0x0028 or one.keyword in ("PixelData", "ViewPosition")]:
        del made[element.tag]
    values: dict[str, Any] = {
        "SOPClassUID": SR, "Modality": "SR", "SeriesNumber": "900", "CompletionFlag": "COMPLETE",
        "VerificationFlag": "VERIFIED", "ValueType": "CONTAINER", "ContinuityOfContent": "SEPARATE",
        "ConceptNameCodeSequence": code("18748-4", "LN", "Diagnostic Imaging Report"), "ContentDate": "20260101",
        "ContentTime": "090000", "ContentSequence": Items(content),
    }  # fmt: skip
    for name, value in {**values, **more}.items():
        setattr(made, name, value)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def content_text(concept: tuple[str, str, str], text: str, **more: Any) -> Dataset:
    """A content item of the kind TEXT."""
    values = {"RelationshipType": "CONTAINS", "ValueType": "TEXT", "TextValue": text, **more}
    return item(ConceptNameCodeSequence=code(*concept), **values)


def section(concept: tuple[str, str, str], *content: Dataset) -> Dataset:
    """A container of content items."""
    return item(
        RelationshipType="CONTAINS", ValueType="CONTAINER", ContinuityOfContent="SEPARATE",
        ConceptNameCodeSequence=code(*concept), ContentSequence=Items(content),
    )  # fmt: skip


def stand_in(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
    """In place of a model: the same text for all films."""
    assert all(path.exists() for path in paths)
    return document_of(Report("study", TEXT), headers, "stand-in", "ab" * 32, "sr")


def stand_in_for(
    find: Callable[[Sequence[DicomHeader]], Order],
    message_to: str | None,
    paths: Sequence[Path],
    headers: Sequence[DicomHeader],
    forms: Sequence[str] = ("sr",),
) -> Document:
    """As `stand_in`, with the indication of the study's order in the text, and as a message too if asked for."""
    assert all(path.exists() for path in paths)
    order = find(headers)
    report = Report("study", f"{TEXT} {order.indication}".strip())
    (form, *further), digest = forms, "ab" * 32
    return document_of(
        report, headers, "stand-in", digest, form, further=further, message_to=message_to, placer=order.placer
    )


class Kept:
    """A peer in this process that keeps what it gets, unless it is told to raise something first."""

    def __init__(self) -> None:
        self.reports: list[Dataset] = []
        self.raising: list[Exception] = []

    def __call__(self, report: bytes) -> None:
        if self.raising:
            raise self.raising.pop(0)
        self.reports.append(dcmread(io.BytesIO(report)))

    @property
    def studies(self) -> list[str]:
        return sorted(str(one.StudyInstanceUID) for one in self.reports)


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def spool_in(directory: Path, most: int = 2**30, clock: Callable[[], float] | None = None) -> Iterator[Spool]:
    spool = Spool(directory / "spool", most, clock or Clock())
    try:
        yield spool
    finally:
        spool.close()


def later(spool: Spool, seconds: float) -> None:
    """Let the spool's own clock go on."""
    assert isinstance(spool.clock, Clock)
    spool.clock.now += seconds


def run_all(loop: Loop) -> None:
    """Step until there is nothing to do."""
    while loop.step():
        pass


def states(spool: Spool) -> dict[str, str]:
    return {study.key: study.state for study in spool.ledger.studies()}


def files(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def drop_sockets() -> None:
    """Let go of sockets that pynetdicom has dropped without closing them, as it does where the peer has gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def receiver_in(directory: Path, audit: ArchiveAudit | None = None, **changes: Any) -> Iterator[tuple[Spool, Receiver]]:
    """A receiver on a free port, and its spool."""
    settings = ListenConfig(port=0, spool=str(directory / "spool"), **changes)
    spool = Spool(directory / "spool", settings.max_spool_bytes)
    receiver = Receiver(spool, settings, audit)
    try:
        yield spool, receiver
    finally:
        receiver.close()
        spool.close()
        drop_sockets()


@contextmanager
def association(
    port: int, *datasets: Dataset, calling: str = "TESTER", called: str = "R2GENGPT", patience: float = 30.0
) -> Iterator[Any]:
    """An association of ours for the classes and syntaxes of these datasets.

    `patience` is how many seconds an answer may take; pynetdicom waits as long for who has closed the connection.
    """
    silence_pynetdicom()
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.network_timeout = LONG
    ae.dimse_timeout = patience
    wanted = {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets}
    for kind, syntax in sorted(wanted) or [("1.2.840.10008.1.1", "1.2.840.10008.1.2")]:
        ae.add_requested_context(kind, syntax)
    assoc = ae.associate("127.0.0.1", port, ae_title=called)
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def store(port: int, *datasets: Dataset) -> list[int | None]:
    """Send by C-STORE; the statuses."""
    with association(port, *datasets) as assoc:
        assert assoc.is_established
        return [assoc.send_c_store(one).get("Status") for one in datasets]


@contextmanager
def peer(statuses: Sequence[int] = ()) -> Iterator[tuple[int, list[str]]]:
    """A Storage SCP that answers with these statuses, then with success: its port, and the UIDs that it has stored."""
    silence_pynetdicom()
    left, stored = list(statuses), []

    def handle(event: Any) -> int:
        status = left.pop(0) if left else 0
        if not status:
            stored.append(str(event.request.AffectedSOPInstanceUID))
        return status

    ae = AE(ae_title="PEER")
    for kind in (SR, PDF, COMPREHENSIVE):
        ae.add_supported_context(kind, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    try:
        yield server.server_address[1], stored
    finally:
        ae.shutdown()
        drop_sockets()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = LONG, every: float = 0.05) -> None:
    """Wait for another process; fails when it takes longer."""
    pause = threading.Event()
    for _ in range(int(seconds / every)):
        if condition():
            return
        pause.wait(every)
    raise AssertionError(f"not within {seconds} s")


ORTHANC = shutil.which("Orthanc") or ("/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else None)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = [
    name for name, there in (
        ("orthanc", ORTHANC is not None), ("orthanc-dicomweb", PLUGIN.exists()),
        ("dcmtk", bool(STORESCU)),
    ) if not there
]  # fmt: skip


class Orthanc:
    """Debian's Orthanc with its DICOMweb plugin, in a directory and on ports of its own.

    Args:
        directory: for its files.
        login: a name and a password that it asks for.
        settings: its own settings, but for ports and places, in place of the test's.
    """

    def __init__(
        self, directory: Path, login: tuple[str, str] | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        self.directory, self.login = directory, login
        directory.mkdir(parents=True, exist_ok=True)
        self.dicom_port, self.http_port = free_port(), free_port()
        self.settings = directory / "orthanc.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.restart(settings or {
            "Name": "test", "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False, "AuthenticationEnabled": login is not None,
            "RegisteredUsers": dict([login]) if login else {}, "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "Plugins": [str(PLUGIN)],
            "HttpThreadsCount": 4, "DicomScpTimeout": 30, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        })  # fmt: skip

    def restart(self, settings: dict[str, Any]) -> None:
        """Stop it, and start it with these settings, its own ports and its own directory."""
        import json

        self.stop()
        places = {"StorageDirectory": str(self.directory / "db"), "IndexDirectory": str(self.directory / "db")}
        ports = {"DicomPort": self.dicom_port, "HttpPort": self.http_port}
        self.settings.write_text(json.dumps({**settings, **places, **ports}), encoding="utf-8")
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> Any:
        answer = requests.get(f"{self.url}{path}", auth=self.login, timeout=LONG)
        answer.raise_for_status()
        return answer.json()

    def start(self) -> None:
        assert ORTHANC is not None
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([ORTHANC, str(self.settings)], stdout=log, stderr=log)
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
        try:
            return requests.get(f"{self.url}/system", auth=self.login, timeout=LONG).ok
        except requests.ConnectionError:
            return False

    def stop(self, kill: bool = False) -> None:
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(LONG)
            self.process = None

    def get_reports(self, study: str) -> list[bytes]:
        """The files of a study's structured reports."""
        found = []
        for series in self.get("/series?expand"):
            parent = self.get(f"/studies/{series['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"]
            if series["MainDicomTags"].get("Modality") == "SR" and parent == study:
                for one in series["Instances"]:
                    answer = requests.get(f"{self.url}/instances/{one}/file", auth=self.login, timeout=LONG)
                    found.append(answer.content)
        return found

    def reports(self) -> Counter[str]:
        """How many structured reports it holds, by Study Instance UID."""
        found: Counter[str] = Counter()
        for series in self.get("/series?expand"):
            if series["MainDicomTags"].get("Modality") == "SR":
                study = self.get(f"/studies/{series['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"]
                found[study] += len(series["Instances"])
        return found


@contextmanager
def orthanc(
    directory: Path, login: tuple[str, str] | None = None, settings: dict[str, Any] | None = None
) -> Iterator[Orthanc]:
    one = Orthanc(directory, login, settings)
    try:
        yield one
    finally:
        one.stop(kill=True)


def to_peer(port: int) -> Send:
    from r2gengpt.clinical.archive.send import c_store

    return c_store("127.0.0.1", port, "PEER", "R2GENGPT")


def states_in(spool: Path) -> list[str]:
    """The states of the studies in a spool's ledger, read from outside."""
    with closing(sqlite3.connect(f"file:{spool / 'ledger.sqlite'}?mode=ro", uri=True, timeout=30)) as base:
        return [state for (state,) in base.execute("SELECT state FROM studies")]


class Listening:
    """`archive_child.py` with these settings, and a port of its own, from its first line to its end."""

    def __init__(self, directory: Path, kill_before: int | None = None, **settings: Any) -> None:
        import json
        import sys

        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "listen.json"
        values = {"port": 0, "spool": str(directory / "spool"), "quiet_seconds": 0.0, **settings}
        file.write_text(json.dumps(values), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).with_name("archive_child.py")), str(file)]
        if kill_before is not None:
            command.append(str(kill_before))
        self.log = directory / "listen.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port, self.orders_port = map(int, line.split()) if line else (None, None)

    def end(self, number: int) -> int:
        """Send a signal; the process's exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(LONG)
        assert self.process.stdout is not None
        self.process.stdout.close()
        drop_sockets()
        return code

    def studies(self, state: str) -> int:
        """How many studies its ledger has in a state."""
        return states_in(self.log.parent / "spool").count(state)


@contextmanager
def listening(directory: Path, **settings: Any) -> Iterator[Listening]:
    one = Listening(directory, **settings)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()


def try_to_store(port: int | None, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Send what can be sent; gives what was not answered for with success, which its sender would send again."""
    if port is None:
        return list(datasets)
    try:
        with association(port, *datasets, patience=1.0) as assoc:
            if not assoc.is_established:
                return list(datasets)
            left = []
            for one in datasets:
                done = assoc.is_established and assoc.send_c_store(one).get("Status") == 0
                left += [] if done else [one]
            return left
    except (RuntimeError, ValueError, OSError):  # the association ended between two requests
        return list(datasets)
