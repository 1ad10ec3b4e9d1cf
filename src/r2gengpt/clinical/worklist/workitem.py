"""A work item (Unified Procedure Step) as far as a performer reads it, from DICOM's JSON. Asks and changes nothing.

Source: PS3.3, C.30 (attributes); PS3.4, CC.1.1 (states) and table CC.2.5-3 (keys).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from r2gengpt.clinical.archive.dicom_json import Node, is_uid, text, texts, values
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.dicom.values import date_of

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"
FINAL = (COMPLETED, CANCELED)
READY = "READY"
SOP_INSTANCE, STATE, READINESS, STATION, WORKITEM_CODE = "00080018", "00741000", "00404041", "00404025", "00404018"
START, PRIORITY, INPUTS, CODE_VALUE, CODE_SCHEME, CODE_MEANING = (
    *("00404005", "00741200", "00404021", "00080100", "00080102", "00080104"),
)
PATIENT_ID, ISSUER, BIRTH_DATE = "00100020", "00100021", "00100030"
STUDY, SERIES, REFERENCED, CLASS, INSTANCE = "0020000D", "0020000E", "00081199", "00081150", "00081155"
"""Tags: of the item, of its inputs, of what these refer to."""
PRIORITIES = {"HIGH": 2, "MEDIUM": 1, "LOW": 0}
MOST_INPUTS = 1000
"""Instances that an item may name."""
_DATE_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.\d{1,6})?([+-]\d{4})?")


@dataclass(frozen=True)
class ProcedureCode:
    """A coded procedure: value, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class InputInstance:
    """An instance that an item names as its input: its class and its UID."""

    class_uid: str
    uid: str


@dataclass(frozen=True)
class WorkItem:
    """One work item.

    Attributes:
        uid: its SOP Instance UID.
        state: its Procedure Step State; "" where it has none.
        readiness: its Input Readiness State.
        stations: code values of the stations that it is scheduled for.
        codes: what is to be done.
        priority: from 0 (LOW) to 2 (HIGH).
        start: when it may begin, as DICOM has times; "" for at once.
        studies: Study Instance UIDs of its inputs.
        instances: that its inputs name; none: all of the study.
        patient_id: the patient's number; "" where it names none.
        issuer: of that number; "" where it names none.
        birth_date: the patient's, as YYYYMMDD; "" where it names none.
    """

    uid: str
    state: str
    readiness: str = ""
    stations: tuple[str, ...] = ()
    codes: tuple[ProcedureCode, ...] = ()
    priority: int = 1
    start: str = ""
    studies: tuple[str, ...] = ()
    instances: tuple[InputInstance, ...] = ()
    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""

    def to_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, kept: str) -> "WorkItem":
        """What `to_json` gave."""
        raw = json.loads(kept)
        raw["codes"] = tuple(ProcedureCode(**one) for one in raw["codes"])
        raw["instances"] = tuple(InputInstance(**one) for one in raw["instances"])
        return cls(**{**raw, "stations": tuple(raw["stations"]), "studies": tuple(raw["studies"])})

    def is_for(self, station: str, procedures: Sequence[str], now: datetime) -> bool:
        """Whether it can be claimed at `station` now, for one of `procedures` (none: for any)."""
        return (
            self.state == SCHEDULED
            and self.readiness in ("", READY)
            and station in self.stations
            and (not procedures or any(code.value in procedures for code in self.codes))
            and _has_begun(self.start, now)
        )

    @property
    def patient(self) -> DicomHeader:
        """Whose films it asks for, in the form that films tell it."""
        return DicomHeader(
            "", "", "", "", "", patient_id=self.patient_id, issuer=self.issuer, birth_date=self.birth_date
        )

    @property
    def problem(self) -> str:
        """Why nothing can be drafted from its inputs, in a line; or ""."""
        if not self.studies:
            return "its Input Information Sequence names no study"
        if len(self.studies) > 1:
            return f"its Input Information Sequence names {len(self.studies)} studies: one is needed"
        if len(self.instances) > MOST_INPUTS:
            return f"its Input Information Sequence names more than {MOST_INPUTS} instances"
        return ""


def read_workitems(nodes: Sequence[object]) -> list[WorkItem]:
    """The items of an answer's datasets; those that name no UID are left out."""
    return [item for one in nodes if (item := read_workitem(one)) is not None]


def read_workitem(node: object) -> WorkItem | None:
    """An item, or None where it names no UID that can stand in a URL. What else is missing is empty."""
    uid = text(node, SOP_INSTANCE)
    if not is_uid(uid):
        return None
    inputs = values(node, INPUTS)
    studies = [study for one in inputs if is_uid(study := text(one, STUDY))]
    named = [InputInstance(text(ref, CLASS), text(ref, INSTANCE)) for one in inputs for ref in values(one, REFERENCED)]
    return WorkItem(
        uid=uid,
        state=text(node, STATE),
        readiness=text(node, READINESS),
        stations=tuple(value for one in values(node, STATION) for value in texts(one, CODE_VALUE)),
        codes=tuple(_code(one) for one in values(node, WORKITEM_CODE) if text(one, CODE_VALUE)),
        priority=PRIORITIES.get(text(node, PRIORITY), 1),
        start=text(node, START),
        studies=tuple(dict.fromkeys(studies)),
        instances=tuple(dict.fromkeys(one for one in named if is_uid(one.uid)))[: MOST_INPUTS + 1],
        patient_id=text(node, PATIENT_ID),
        issuer=text(node, ISSUER),
        birth_date=date_of(text(node, BIRTH_DATE)),
    )


def _code(node: Node) -> ProcedureCode:
    return ProcedureCode(text(node, CODE_VALUE), text(node, CODE_SCHEME), text(node, CODE_MEANING))


def _has_begun(start: str, now: datetime) -> bool:
    """Whether a DICOM date and time is not ahead; without an offset it is of this machine's zone."""
    found = _DATE_TIME.fullmatch(start)
    if found is None:
        return True
    *parts, offset = found.groups()
    year, month, day, hour, minute, second = (
        int(one) if one else least for one, least in zip(parts, (1, 1, 1, 0, 0, 0), strict=True)
    )
    try:
        when = datetime(year, month, day, hour, minute, min(second, 59))
        zoned = datetime.strptime(f"{when:%Y%m%d%H%M%S}{offset}", "%Y%m%d%H%M%S%z") if offset else when.astimezone()
        return zoned.astimezone(UTC) <= now.astimezone(UTC)
    except (ValueError, OverflowError):
        return True
