"""Reports to a DICOMweb server (STOW-RS), and whether it has them. Keeps nothing, and tries once.

A report counts as sent only if the server names it: in the answer's sequence of what was stored, or when it is asked
for it (QIDO-RS). It counts as refused only if the answer names it among the failures, with a reason that stays. A
login page, an empty answer, a redirect, an answer that is cut off: all of them mean that it is sent again later.
"""

import io
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

import requests
from pydicom import dcmread

from r2gengpt.clinical.archive.dicom_json import Node, is_json, json_of, kind_of, texts, values
from r2gengpt.clinical.archive.exchange import Doubtful
from r2gengpt.clinical.archive.loop import NotNow, Refused, Send
from r2gengpt.clinical.archive.send import judge
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.tls import why_unreached
from r2gengpt.films.dicom.header import silence_pydicom

log = logging.getLogger("r2gengpt.clinical.archive")
FAILED, STORED = "00081198", "00081199"
"""Sequences of an answer: Failed SOP, Referenced SOP."""
REFERENCED, REASON, INSTANCE = "00081155", "00081197", "00080018"
"""Referenced SOP Instance UID and Failure Reason within them; SOP Instance UID of what is found."""
TAKEN = (200, 201, 202)
"""Statuses whose answers may name what was stored."""
PROCESSING = 0x0110
"""A failure of the server in general, which may pass."""
MOST_ANSWER = 2**20
"""Bytes of an answer that is read for names."""
CONNECT, SILENT, WHOLE = 10.0, 30.0, 120.0
"""Seconds: to connect, between bytes, for a whole exchange."""


@dataclass(frozen=True)
class StowAnswer:
    """What an answer names: instances that were stored, and those that were not, with the reason where one is given."""

    stored: frozenset[str] = frozenset()
    failed: Mapping[str, int | None] = field(default_factory=dict)


def stow(server: Server) -> Send:
    """What sends reports to this server.

    Raises (when it sends):
        Refused: the server names the report among its failures, with a reason that stays.
        NotNow: it does not say that it has the report.
    """

    def send(report: bytes) -> None:
        place = _place_of(report)
        try:
            doubt = _post(server, report, place)
        except Doubtful as error:
            doubt = str(error)
        except requests.exceptions.RequestException as error:
            doubt = f"{server.base_url} cannot be reached ({why_unreached(error)})"
            if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.SSLError):
                raise NotNow(doubt) from None  # it has certainly got nothing
        if doubt and not _finds(server, place):
            raise NotNow(doubt)

    return send


@dataclass(frozen=True)
class _Place:
    """A report's UIDs."""

    study: str
    series: str
    instance: str


def _place_of(report: bytes) -> _Place:
    """Where a report belongs.

    Raises:
        Refused: it has no such UIDs, so that no answer could name it.
    """
    silence_pydicom()
    try:
        dataset = dcmread(io.BytesIO(report), stop_before_pixels=True)
        uids = [str(dataset.get(key) or "") for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    except Exception as error:  # a parser over bytes
        raise Refused(f"it is no DICOM file ({type(error).__name__})") from None
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise Refused("it has no valid UIDs")
    return _Place(*uids)


def _post(server: Server, report: bytes, place: _Place) -> str:
    """Send a report; gives "" where the answer names it as stored, else why that is in doubt.

    Raises:
        Refused: the answer names it among the failures, with a reason that stays.
        requests.exceptions.RequestException: no answer.
    """
    mark = uuid.uuid4().hex
    body = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n" % (mark.encode(), report, mark.encode())
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{mark}"',
        "Accept": "application/dicom+json",
        "Accept-Encoding": "identity",
    }
    with server.session_for(MOST_ANSWER, WHOLE) as session:
        response = session.post(f"{server.base_url}/studies", data=body, headers=headers, timeout=(CONNECT, SILENT))
    answer = read_answer(response.content, response.headers.get("Content-Type", ""))
    status = f"status {response.status_code}"
    if response.status_code in (401, 403):
        return f"{status}: it wants another name and password"
    if place.instance in answer.failed:
        reason = answer.failed[place.instance]
        if reason is None or reason == PROCESSING or place.instance in answer.stored:
            return f"{status}, which names it among the failures"
        _judge_failure(reason)
    if response.status_code in TAKEN and place.instance in answer.stored:
        return ""
    return f"{status}, which does not name it as stored"


def _judge_failure(reason: int) -> None:
    """Raises what a failure's reason means; a success or a warning among the failures means nothing."""
    try:
        judge(reason)
    except Refused:
        raise Refused(f"failure reason 0x{reason:04X}") from None
    raise NotNow(f"failure reason 0x{reason:04X}")


def _finds(server: Server, place: _Place) -> bool:
    """Whether the server, when it is asked, names the report as one that it has."""
    url = f"{server.base_url}/studies/{place.study}/series/{place.series}/instances"
    headers = {"Accept": "application/dicom+json", "Accept-Encoding": "identity"}
    try:
        with server.session_for(MOST_ANSWER, WHOLE) as session:
            response = session.get(
                url, params={"SOPInstanceUID": place.instance}, headers=headers, timeout=(CONNECT, SILENT)
            )
    except requests.exceptions.RequestException:
        return False
    found = json_of(response.content) if response.status_code == 200 and is_json(response.headers) else None
    return isinstance(found, list) and any(place.instance in texts(one, INSTANCE) for one in found)


def read_answer(body: bytes, content_type: str) -> StowAnswer:
    """What an answer to STOW-RS names; nothing where it is none of the standard's. Source: PS3.18, 10.5.3."""
    kind = kind_of(content_type)
    if kind in ("application/dicom+json", "application/json"):
        node = json_of(body)
    elif kind in ("application/dicom+xml", "application/xml", "text/xml"):
        node = _xml(body)
    else:
        return StowAnswer()
    stored = frozenset(uid for item in values(node, STORED) for uid in texts(item, REFERENCED))
    failed = {uid: _reason(item) for item in values(node, FAILED) for uid in texts(item, REFERENCED)}
    return StowAnswer(stored, failed)


def _reason(node: object) -> int | None:
    """Why an instance was not stored."""
    return next((number for number in map(_number, values(node, REASON)) if number is not None), None)


def _number(value: object) -> int | None:
    """A failure's reason, which some servers send as text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16 else None


def _xml(body: bytes) -> Node:
    """The sequences of an answer in DICOM's XML model, as JSON has them. Entities of its own are not read."""
    if b"<!" in body:
        return {}
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):  # LookupError: of an encoding that is not known
        return {}
    return dict(_elements(root))


def _elements(parent: ElementTree.Element, depth: int = 0) -> Iterator[tuple[str, Node]]:
    """Elements with texts, and with items down to those of a sequence's items."""
    for one in parent:
        if _name(one) != "DicomAttribute":
            continue
        found: list[object] = [child.text or "" for child in one if _name(child) == "Value"]
        if depth == 0:
            found += [dict(_elements(child, 1)) for child in one if _name(child) == "Item"]
        yield one.get("tag", ""), {"Value": found}


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
