"""A worklist server (UPS-RS) with an archive (QIDO-RS, WADO-RS, STOW-RS) behind it, for tests. No test stands here.

The states and refusals are those of the standard's own tables: PS3.4, CC.1.1-2 (which change is taken in which
state), CC.2.5-3 (what a final state needs); PS3.18, 11.5 to 11.7 (which status says so).
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from archive_parts import Clock, film_data, stand_in, uid
from r2gengpt.clinical.archive.loop import Write
from r2gengpt.clinical.archive.server import connect
from r2gengpt.clinical.archive.stow import stow
from r2gengpt.clinical.worklist.claims import Claims
from r2gengpt.clinical.worklist.films import fetcher
from r2gengpt.clinical.worklist.performer import Performer
from r2gengpt.clinical.worklist.run import output_of
from r2gengpt.clinical.worklist.service import Worklist
from r2gengpt.clinical.worklist.stages import Assignment, Means
from r2gengpt.films.dicom.header import read_header
from stow_answers import answer, body_of, item, uid_in

STATION, PROCEDURE = "R2GENGPT", "110003"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
FINAL = ("COMPLETED", "CANCELED")
IDLE = 40.0
Node = dict[str, Any]
Fault = Callable[[str, str], bytes | None]
"""Method and path → an answer in place of the server's own, or None."""


def element(vr: str, *values: object) -> Node:
    return {"vr": vr, "Value": list(values)}


def coded(value: str) -> Node:
    return {"00080100": element("SH", value), "00080102": element("SH", "99T"), "00080104": element("LO", value)}


def item_uid(number: int) -> str:
    return f"1.2.826.0.1.3680043.8.498.99.{number}"


def work_item(number: int, *instances: int, **changes: Any) -> Node:
    """A scheduled item for study `number`, which names these of its instances; changes are by tag, None takes away."""
    refs = [{"00081150": element("UI", DX), "00081155": element("UI", uid(number, one))} for one in instances]
    inputs: Node = {"0040E020": element("CS", "DICOM"), "0020000D": element("UI", uid(number))}
    if refs:
        inputs["00081199"] = element("SQ", *refs)
    made: Node = {
        "00080016": element("UI", "1.2.840.10008.5.1.4.34.6.1"),
        "00080018": element("UI", item_uid(number)),
        "00741000": element("CS", "SCHEDULED"),
        "00404041": element("CS", "READY"),
        "00741200": element("CS", "MEDIUM"),
        "00404005": element("DT", "20260101080000"),
        "00404025": element("SQ", coded(STATION)),
        "00404018": element("SQ", coded(PROCEDURE)),
        "00404021": element("SQ", inputs),
        "00100020": element("LO", f"P-{number}"),
        "00100010": element("PN", {"Alphabetic": "Muster^Erika"}),
    }
    made.update({f"{int(tag.removeprefix('t'), 16):08X}": value for tag, value in changes.items()})
    return {tag: value for tag, value in made.items() if value is not None}


def first(node: Any, tag: str) -> Any:
    """The first value of an element; None where there is none, or it is of another form."""
    one = node.get(tag) if isinstance(node, Mapping) else None
    values = one.get("Value") if isinstance(one, Mapping) else None
    return values[0] if isinstance(values, list) and values else None


class Refusal(Exception):
    """The status that a request is refused with."""


class WorklistServer:
    """The server; each request is in the lock, so that changes are one after another.

    Attributes:
        items: by UID, as they are now.
        locks: Transaction UID by item.
        films: by study.
        stored: how often each report came.
        refused: reports' failure reason, where the archive takes none.
        states: each state that an item reached, in order.
        fault: gives answers in place of the server's own.
        silent: requests that are carried out and never answered, by their number from 1.
        count: of requests.
    """

    def __init__(self) -> None:
        self.items: dict[str, Node] = {}
        self.locks: dict[str, str] = {}
        self.films: dict[str, list[bytes]] = {}
        self.stored: Counter[str] = Counter()
        self.refused: int | None = None
        self.states: dict[str, list[str]] = {}
        self.progress: dict[str, list[int]] = {}
        self.paths: list[str] = []
        self.fault: Fault = lambda method, path: None
        self.silent: set[int] = set()
        self.count = 0
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/dicom-web"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def schedule(self, number: int, films: int = 1, *instances: int, **changes: Any) -> str:
        """An item and the films of its study; its UID."""
        made = work_item(number, *instances, **changes)
        self.items[item_uid(number)] = made
        self.films[uid(number)] = [film_data(number, one) for one in range(1, films + 1)]
        return item_uid(number)

    def state(self, number: int) -> str:
        return str(first(self.items[item_uid(number)], "00741000"))

    def outputs(self, number: int) -> list[str]:
        """The UIDs of an item's Output Information Sequence."""
        performed = first(self.items[item_uid(number)], "00741216") or {}
        series = performed.get("00404033", {}).get("Value", [])
        return [str(first(ref, "00081155")) for one in series for ref in one["00081199"]["Value"]]

    def reason(self, number: int) -> str:
        progress = first(self.items[item_uid(number)], "00741002") or {}
        return str(first(progress, "00741238") or "")

    def answer(self, method: str, target: str, body: bytes) -> bytes | None:
        """The answer to a request as it goes over the network; None: it is carried out, and the connection ends."""
        with self.lock:
            self.count += 1
            number, parts = self.count, urlsplit(target)
            path = parts.path.removeprefix("/dicom-web")
            self.paths.append(f"{method} {path}")
            data = self.fault(method, path)
            if data is None:
                try:
                    data = self._carried_out(method, path, parts.query, body)
                except Refusal as error:
                    data = answer(int(str(error)), b"", None)
            return None if number in self.silent else data

    def _carried_out(self, method: str, path: str, query: str, body: bytes) -> bytes:
        _, room, *rest = path.split("/")
        if room == "workitems" and method == "GET":
            return self._search(query) if not rest else self._found([self._item(rest[0])])
        if room == "workitems" and method == "PUT" and rest[1:] == ["state"]:
            return self._change_state(rest[0], _dataset(body))
        if room == "workitems" and method == "POST" and len(rest) == 1:
            return self._update(rest[0], query, _dataset(body))
        if room == "studies" and method == "POST":
            return self._store(body)
        if room == "studies" and method == "GET":
            return self._archive(rest, query)
        raise Refusal(404)

    def _item(self, uid: str) -> Node:
        if uid not in self.items:
            raise Refusal(404)
        return self.items[uid]

    @staticmethod
    def _found(nodes: list[Node]) -> bytes:
        return answer(200, json.dumps(nodes).encode()) if nodes else answer(204, b"", None)

    def _search(self, query: str) -> bytes:
        asked = parse_qs(query)
        matching = [
            one
            for one in self.items.values()
            if first(one, "00741000") == asked["00741000"][0]
            and first(one, "00404041") == asked["00404041"][0]
            and first(first(one, "00404025") or {}, "00080100") == asked["00404025.00080100"][0]
        ]
        start = int(asked.get("offset", ["0"])[0])
        return self._found(matching[start : start + int(asked["limit"][0])])

    def _update(self, uid: str, query: str, change: Node) -> bytes:
        """PS3.18, table 11.6.3-1; PS3.4, CC.2.6.3."""
        one = self._item(uid)
        state = first(one, "00741000")
        if state in FINAL or "00741000" in change:
            raise Refusal(400)
        if state == "IN PROGRESS" and query != self.locks[uid]:
            raise Refusal(400)
        change.pop("00081195", None)
        one.update(change)
        percent = first(first(change, "00741002") or {}, "00741004")
        if percent is not None:
            self.progress.setdefault(uid, []).append(percent)
        return answer(200, b"", None)

    def _change_state(self, uid: str, change: Node) -> bytes:
        """PS3.4, table CC.1.1-2, by rows: a wrong transaction, then the state that is asked for."""
        one, wanted, lock = self._item(uid), first(change, "00741000"), first(change, "00081195")
        state = first(one, "00741000")
        if not lock or (state != "SCHEDULED" and lock != self.locks[uid]):
            raise Refusal(400)
        if wanted not in ("IN PROGRESS", *FINAL):
            raise Refusal(400)
        if state in FINAL and wanted == state:
            return answer(200, b"", None, f"Warning: 299 test: The UPS is already in the requested state of {state}")
        allowed = wanted == "IN PROGRESS" if state == "SCHEDULED" else state == "IN PROGRESS" and wanted in FINAL
        if not allowed or (wanted in FINAL and not _meets(one, wanted)):
            raise Refusal(409)
        if state == "SCHEDULED":
            self.locks[uid] = str(lock)
        one["00741000"] = element("CS", wanted)
        self.states.setdefault(uid, []).append(str(wanted))
        return answer(200, b"", None)

    def _store(self, body: bytes) -> bytes:
        report = uid_in(body)
        if self.refused is not None:
            return answer(409, body_of([], [item(report, self.refused)]))
        self.stored[report] += 1
        return answer(200, body_of([item(report)], []))

    def _archive(self, rest: list[str], query: str) -> bytes:
        if not rest:
            return self._found(self._studies(parse_qs(query)["PatientID"][0]))
        if rest[-1] == "instances":
            wanted = parse_qs(query)["SOPInstanceUID"][0]
            return self._found([{"00080018": element("UI", wanted)}] if self.stored[wanted] else [])
        films = self.films.get(rest[0], [])
        by_series: dict[str, list[bytes]] = {}
        kinds: dict[str, str] = {}
        for film in films:
            header = read_header(film, "film")
            by_series.setdefault(header.series_uid, []).append(film)
            kinds[header.series_uid] = header.modality
        if rest[1:] == ["series"]:
            series = [{"00080060": element("CS", kind), "0020000E": element("UI", one)} for one, kind in kinds.items()]
            return self._found(series)
        parts = [b"--abc\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % film for film in by_series[rest[2]]]
        kind = 'multipart/related; type="application/dicom"; boundary="abc"'
        return answer(200, b"".join(parts) + b"--abc--\r\n", kind)

    def _studies(self, patient: str) -> list[Node]:
        """The studies of a patient."""
        headers = [read_header(films[0], "film") for films in self.films.values()]
        return [
            {
                "0020000D": element("UI", one.study_uid), "00080020": element("DA", one.study_date),
                "00080030": element("TM", one.study_time), "00100020": element("LO", one.patient_id),
            }
            for one in headers
            if one.patient_id == patient
        ]  # fmt: skip


def _dataset(body: bytes) -> Node:
    """The one dataset of a payload, in a list or alone. Source: PS3.18, annex F."""
    found = json.loads(body)
    made = found[0] if isinstance(found, list) else found
    assert isinstance(made, dict)
    return made


def _meets(one: Node, state: str) -> bool:
    """Whether an item has what a final state needs. Source: PS3.4, table CC.2.5-3, codes P and X."""
    if state == "CANCELED":
        return bool(first(first(one, "00741002") or {}, "00404052"))
    performed = first(one, "00741216") or {}
    needed = ("00404028", "00404019", "00404050", "00404051")
    return all(first(performed, tag) for tag in needed) and "00404033" in performed


def _handler_of(server: WorklistServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = server.answer(self.command, self.path, body)
            if data is not None:
                with suppress(OSError):
                    self.wfile.write(data)
            self.close_connection = True

        do_GET = do_PUT = do_POST = _serve  # the library's names

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def worklist_server() -> Iterator[WorklistServer]:
    made = WorklistServer()
    try:
        yield made
    finally:
        made.close()


def day_of(claims: Claims) -> datetime:
    """The time of day that the clock of the claims makes."""
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=claims.clock())


def performer_of(
    server: WorklistServer, claims: Claims, write: Write = stand_in, most_films: int = 8, **assigned: Any
) -> Performer:
    """A performer of this server's items, with a stand-in for the model."""
    client = connect(server.url)
    means = Means(fetcher(client, most_films), write, stow(client), output_of, client.base_url)
    values = {"station": STATION, "poll_seconds": 5.0, "most_claimed": 4, **assigned}
    return Performer(Worklist(client), claims, Assignment(**values), means, lambda: day_of(claims))


@contextmanager
def claims_in(directory: Path) -> Iterator[Claims]:
    made = Claims(directory / "claims", Clock())
    try:
        yield made
    finally:
        made.close()


def run_on(performer: Performer, seconds: float = 400.0, pause: float = 1.0) -> None:
    """Let the performer work for so long by its clock, which moves where there is nothing to do.

    It ends earlier where nothing is claimed for `IDLE` seconds.
    """
    clock = performer.claims.clock
    assert isinstance(clock, Clock)
    end, idle = clock.now + seconds, 0.0
    while clock.now < end and idle <= IDLE:
        if performer.step() or performer.claims.open():
            idle = -pause
        clock.now += pause
        idle += pause
