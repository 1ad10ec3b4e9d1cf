"""What a performer sets in a work item, as DICOM's JSON: progress, what was performed, why it was canceled.

Sends nothing. Source: PS3.3, C.30.1 and C.30.3; PS3.4, table CC.2.5-3 (what a final state needs).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from r2gengpt.clinical.archive.dicom_json import Node, element
from r2gengpt.clinical.worklist.workitem import CLASS as CLASS_UID
from r2gengpt.clinical.worklist.workitem import (
    CODE_MEANING,
    CODE_SCHEME,
    CODE_VALUE,
    INSTANCE,
    REFERENCED,
    SERIES,
    STATE,
    STUDY,
    ProcedureCode,
)

TRANSACTION = "00081195"
PROGRESS_SEQUENCE, PROGRESS, PROGRESS_WORDS, CANCELED_AT, REASON, REASON_CODES = (
    *("00741002", "00741004", "00741006", "00404052", "00741238", "0074100E"),
)
PERFORMED, STATION_NAMES, PERFORMED_CODES, STARTED, ENDED, OUTPUTS = (
    *("00741216", "00404028", "00404019", "00404050", "00404051", "00404033"),
)
KIND_OF_INSTANCES, WADO_RS, RETRIEVE_URL = "0040E020", "0040E025", "00081190"
SCHEME = "99R2GENGPT"
DIAGNOSIS = ProcedureCode("110003", "DCM", "Computer Aided Diagnosis")
"""What was performed, where the item does not say what was to be: of CID 9231."""


@dataclass(frozen=True)
class Discontinuation:
    """Why an item is canceled: a code of CID 9300."""

    value: str
    meaning: str


WRONG_OBJECTS = Discontinuation("110521", "Objects incorrectly formatted")
WRONG_KINDS = Discontinuation("110522", "Object Types not supported")
MISSING_OBJECTS = Discontinuation("110523", "Object Set incomplete")
UNSPECIFIED = Discontinuation("110513", "Discontinued for unspecified reason")
WRONG_ENTRY = Discontinuation("110514", "Incorrect worklist entry selected")
DISCONTINUATIONS = {one.value: one for one in (WRONG_OBJECTS, WRONG_KINDS, MISSING_OBJECTS, UNSPECIFIED, WRONG_ENTRY)}


@dataclass(frozen=True)
class OutputInstance:
    """A report that is stored: its study, series, instance and class."""

    study: str
    series: str
    instance: str
    class_uid: str

    def to_dict(self) -> dict[str, str]:
        """As the ledger keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class Performance:
    """What was done for an item.

    Attributes:
        station: code value of the station that did it.
        codes: what was to be done.
        started: when.
        ended: when.
        outputs: what is stored.
        url: of the DICOMweb service that has it.
    """

    station: str
    codes: tuple[ProcedureCode, ...]
    started: datetime
    ended: datetime
    outputs: tuple[OutputInstance, ...]
    url: str


def state_change(state: str, transaction: str) -> Node:
    """The payload that claims, completes or cancels. Source: PS3.4, table CC.2.1-1."""
    return {STATE: element("CS", state), TRANSACTION: element("UI", transaction)}


def progress_of(percent: int, words: str) -> Node:
    """How far the work is."""
    return {PROGRESS_SEQUENCE: element("SQ", _progress(percent, words))}


def completion_of(performance: Performance) -> Node:
    """All that the state COMPLETED needs."""
    return {
        PROGRESS_SEQUENCE: element("SQ", _progress(100, "The draft is stored")),
        PERFORMED: element("SQ", _performed(performance)),
    }


def cancellation_of(reason: str, code: Discontinuation, performance: Performance) -> Node:
    """All that the state CANCELED needs, and what is stored all the same."""
    progress = {
        CANCELED_AT: element("DT", _time(performance.ended)),
        REASON: element("LT", reason[:1024]),
        REASON_CODES: element("SQ", _coded(code.value, "DCM", code.meaning)),
    }
    return {
        PROGRESS_SEQUENCE: element("SQ", progress),
        PERFORMED: element("SQ", _performed(performance)),
    }


def _progress(percent: int, words: str) -> Node:
    return {PROGRESS: element("DS", percent), PROGRESS_WORDS: element("ST", words)}


def _performed(performance: Performance) -> Node:
    codes = performance.codes or (DIAGNOSIS,)
    return {
        STATION_NAMES: element("SQ", _coded(performance.station, SCHEME, performance.station)),
        PERFORMED_CODES: element("SQ", *(_coded(code.value, code.scheme, code.meaning) for code in codes)),
        STARTED: element("DT", _time(performance.started)),
        ENDED: element("DT", _time(performance.ended)),
        OUTPUTS: element("SQ", *_outputs(performance.outputs, performance.url)),
    }


def _outputs(outputs: Sequence[OutputInstance], url: str) -> list[Node]:
    """An item for each series. Source: PS3.3, table 10-3b."""
    series: dict[tuple[str, str], list[OutputInstance]] = {}
    for one in outputs:
        series.setdefault((one.study, one.series), []).append(one)
    return [
        {
            KIND_OF_INSTANCES: element("CS", "DICOM"),
            STUDY: element("UI", study),
            SERIES: element("UI", uid),
            REFERENCED: element("SQ", *(_reference(one) for one in members)),
            WADO_RS: element("SQ", {RETRIEVE_URL: element("UR", f"{url}/studies/{study}/series/{uid}")}),
        }
        for (study, uid), members in series.items()
    ]


def _reference(one: OutputInstance) -> Node:
    return {CLASS_UID: element("UI", one.class_uid), INSTANCE: element("UI", one.instance)}


def _coded(value: str, scheme: str, meaning: str) -> Node:
    return {
        CODE_VALUE: element("SH", value),
        CODE_SCHEME: element("SH", scheme),
        CODE_MEANING: element("LO", meaning),
    }


def _time(when: datetime) -> str:
    return f"{when.astimezone():%Y%m%d%H%M%S%z}"
