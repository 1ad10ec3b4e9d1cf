"""A day of a reading room: order, films by TLS, drafts in the archive, result, verdict on the page, review, audit log.

Every program is a process of its own: `listen`, `serve`, Debian's Orthanc, dcmtk, a browser.
"""

import json
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO

pytest.importorskip("playwright")
pytest.importorskip("highdicom")
from playwright.sync_api import Browser, expect

from archive_keys import NEEDS_OPENSSL, Keys
from archive_parts import LONG, MISSING, Orthanc, film_data, orthanc, states_in, uid, wait_until
from conftest import Outcome
from edge_parts import checkpoint_with_head
from mllp_parts import ResultReceiver, Sender, code_of, order, result_receiver, segments_of
from page_parts import NEEDS_BROWSER, browser, open_page
from programs import STORESCU
from serving_process import Process
from test_archive_orthanc import Command, put
from test_serving_page_verdicts import press, told

__all__ = ["browser"]  # fixtures
Run = Callable[[list[str]], Outcome]
pytestmark = [
    pytest.mark.pacs,
    NEEDS_OPENSSL,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    NEEDS_BROWSER,
]
expect.set_options(timeout=60_000)  # a busy machine
STUDY, ACCESSION = 60, "A-60"
BASIC_TEXT, COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.33"


@dataclass(frozen=True)
class Room:
    """What stands in the reading room beside our programs."""

    archive: Orthanc
    ris: ResultReceiver
    keys: Keys
    model: Path
    place: Path

    def listen(self) -> Command:
        """`listen` with TLS towards modalities, and orders, results and an audit log."""
        return Command(
            *("--model", str(self.model), "--format", "measurement-sr", "sr", "--quiet_seconds", "0.5"),
            *("--to_host", "127.0.0.1", "--to_port", str(self.archive.dicom_port), "--to_ae", "ORTHANC"),
            *("--tls_cert", str(self.keys.server.cert), "--tls_key", str(self.keys.server.key)),
            *("--tls_ca", str(self.keys.ca.cert), "--to_tls", "False", "--mllp_tls", "False"),
            *("--mllp_port", "0", "--mllp", self.ris.address),
            *("--spool", str(self.place / "spool"), "--audit_log", str(self.place / "audit-listen")),
        )

    def store(self, port: int, *films: Path) -> int:
        """Send films, those of the ordered study where none are named, by dcmtk over TLS; its exit code."""
        tls = ["+tls", *self.keys.client.words, "+cf", str(self.keys.ca.cert)]
        command = [STORESCU, *tls, "-aet", "MODALITY", "-aec", "R2GENGPT", "127.0.0.1", str(port)]
        done = subprocess.run(
            [*command, *map(str, films or self.films)], capture_output=True, check=False, timeout=LONG
        )
        return done.returncode

    @property
    def films(self) -> list[Path]:
        """Two films of the ordered study."""
        paths = [self.place / "front.dcm", self.place / "side.dcm"]
        for number, path in enumerate(paths, 1):
            path.write_bytes(film_data(STUDY, number, AccessionNumber=ACCESSION))
        return paths

    def kinds(self) -> Counter[str]:
        """The SOP Classes of the drafts that the archive has of the study."""
        return Counter(str(one.SOPClassUID) for one in self.drafts())

    def drafts(self) -> list[Dataset]:
        """The drafts that the archive has of the study."""
        return [dcmread(DicomBytesIO(one)) for one in self.archive.get_reports(uid(STUDY))]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    place = tmp_path / "room"
    place.mkdir()
    with orthanc(tmp_path / "orthanc") as archive, result_receiver() as ris:
        model = checkpoint_with_head(tmp_path, "Llama-2", "vit")
        yield Room(archive, ris, Keys(tmp_path / "keys"), model, place)


def orders_port(listening: Command) -> int:
    return int(listening.first.split("for orders at 127.0.0.1:")[1].split()[0])


def ordered_and_sent(room: Room, listening: Command) -> None:
    """An order comes in, then the films; both are taken."""
    with Sender(orders_port(listening)) as sender:
        answer = sender.send(order(ACCESSION, patient=f"P-{STUDY}", reason="Fever", control="7"))
        assert code_of(answer) == "AA 7"
    assert room.store(listening.port) == 0


def test_a_day_goes_from_the_order_to_the_review_and_the_same_day_again_doubles_nothing(
    room: Room, browser: Browser, run_cli: Run
) -> None:
    listening = room.listen()
    try:
        ordered_and_sent(room, listening)
        wait_until(lambda: states_in(room.place / "spool") == ["sent"] and len(room.ris.messages) == 1)
        ordered_and_sent(room, listening)  # again: the study is known, its draft is there
        assert listening.close(signal.SIGTERM) == 0, listening.lines
    finally:
        if listening.process.poll() is None:
            listening.close()
    assert segments_of(room.ris.messages[0])["OBR"][3] == ACCESSION
    put(room.archive, *(path.read_bytes() for path in room.films))
    before = room.drafts()
    assert room.kinds() == {COMPREHENSIVE: 1, BASIC_TEXT: 1}
    words = ["dicomweb", "--url", f"{room.archive.url}/dicom-web", "--study", uid(STUDY), "--model", str(room.model)]
    runs = [run_cli([*words, "--format", "sr", "measurement-sr"]) for _ in range(2)]
    assert [one.code for one in runs] == [0, 0]
    assert runs[0].stdout == runs[1].stdout
    ours = {str(one.SOPInstanceUID) for one in before}
    assert {str(one.SOPInstanceUID) for one in room.drafts()} == ours | set(runs[0].stdout.split())

    verdicts, audit = str(room.place / "verdicts.db"), room.place / "audit-serve"
    serving = Process("--model", str(room.model), "--verdicts", verdicts, "--audit_log", str(audit))
    try:
        address = serving.address
        assert serving.ready.wait(LONG)
        with open_page(browser, address) as page:
            page.get_by_label("Choose images").set_input_files(room.films)
            page.get_by_role("button", name="Write draft").click()
            expect(page.locator("#status")).to_contain_text("The draft is finished")
            press(page, "Accept")
            told(page)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.end(LONG) == 0
    finally:
        serving.close()
    seen = json.loads(run_cli(["review", "--verdicts", verdicts, "--output", "None", "--format", "json"]).stdout)
    assert seen["drafts"] == 1
    for log in (room.place / "audit-listen", audit):
        checked = run_cli(["audit-log", "verify", str(log)])
        assert checked.code == 0, checked.stderr


@pytest.mark.drill
@pytest.mark.parametrize("who", ["listen", "archive"])
def test_twenty_kills_on_a_busy_day_lose_no_draft_and_double_none(who: str, room: Room, run_cli: Run) -> None:
    rng = random.Random(who)
    studies = range(100, 120)
    listening = room.listen()
    try:
        for study in studies:
            path = room.place / f"{study}.dcm"
            path.write_bytes(film_data(study, AccessionNumber=f"A-{study}"))
            while not asked(room, listening, study, path):  # whoever got no answer sends again
                listening.close()
                listening = room.listen()
            sleep(rng.uniform(0, 4))
            if who == "listen":
                listening.close(signal.SIGKILL)
                listening = room.listen()
            else:
                room.archive.stop(kill=True)
                room.archive.start()
        wait_until(lambda: states_in(room.place / "spool").count("sent") == len(studies), 20 * LONG)
        wait_until(lambda: len(results(room)) == len(studies), LONG)
        assert listening.close(signal.SIGTERM) == 0, listening.lines
    finally:
        if listening.process.poll() is None:
            listening.close()
    assert room.archive.reports() == Counter({uid(study): 2 for study in studies})  # in two forms
    assert all(len(numbers) == 1 for numbers in results(room).values())
    checked = run_cli(["audit-log", "verify", str(room.place / "audit-listen")])
    assert checked.code == 0, checked.stderr


def asked(room: Room, listening: Command, study: int, film: Path) -> bool:
    """Whether a study's order and film were both taken."""
    try:
        with Sender(orders_port(listening)) as sender:
            said = sender.send(order(f"A-{study}", patient=f"P-{study}", control=str(study)))
    except OSError:
        return False
    return said != b"" and code_of(said).startswith("AA") and room.store(listening.port, film) == 0


def results(room: Room) -> dict[str, set[str]]:
    """Accession number → the control ids of its results: one where a result that was sent again is the same."""
    found: dict[str, set[str]] = {}
    for message in room.ris.messages:
        parts = segments_of(message)
        found.setdefault(parts["OBR"][3], set()).add(parts["MSH"][9])
    return found
