"""Broken DICOM from strangers, by the reader and by C-STORE: an error in one line or a refusal each, and we go on."""

import gc
import io
import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import dcmread
from pynetdicom.dimse_primitives import C_STORE

from archive_parts import Kept, association, film_data, receiver_in, run_all, stand_in, study_film, uid, wait_until
from dicom_files import data_of
from r2gengpt.clinical.archive.films import checked_film, reason_of
from r2gengpt.clinical.archive.loop import Loop
from r2gengpt.clinical.archive.receive import FAULT, NO_ROOM, NOT_UNDERSTOOD
from r2gengpt.errors import InputError

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
SHORT, LONG_RUN = 60, 2000
MOST_GROWTH = 200 * 2**20
"""Bytes: a film here has 3,000. What grows is decoders' libraries, pydicom's dictionaries and the allocator."""
HERE = Path(__file__).parent / "data"


def seeds() -> list[bytes]:
    """Whole files: plain ones and lossless JPEG, of films that are read."""
    return [film_data(1), film_data(2, 2), (HERE / "dicom_jpeg_lossless16.dcm").read_bytes()]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with one to four faults of the kinds that disks, networks and enemies make."""
    body = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body)) if chance.random() < 0.5 else chance.randrange(min(len(body), 900))
        kind = chance.randrange(6)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            body[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"))
        elif kind == 2:
            del body[at : at + chance.randint(1, 64)]
        elif kind == 3:
            body[at:at] = chance.randbytes(chance.randint(1, 64))
        elif kind == 4:
            body[at:at] = body[at : at + 200]
        elif at > 200:
            del body[at:]
    return bytes(body)


def memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def read_many(count: int) -> Counter[bool]:
    """How many of the files are read, and how many are refused."""
    chance, found = random.Random(11), Counter[bool]()
    said: list[str] = []
    reasons: list[str] = []
    whole = seeds()
    for data in whole:
        checked_film(data)
    before = memory()
    for number in range(count):
        data = mutated(whole[number % len(whole)], chance)
        try:
            checked_film(data)
        except InputError as error:
            said.append(str(error))
            reasons.append(reason_of(error))
            found[False] += 1
        else:
            found[True] += 1
    assert memory() - before < MOST_GROWTH
    assert not [one for one in said if "\n" in one or "Muster" in one]
    assert all(reasons)
    return found


def send_raw(assoc: Any, kind: str, instance: str, data: bytes) -> int | None:
    """A C-STORE of these very bytes, whatever they are; its status."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = kind, instance
    request.DataSet = io.BytesIO(data)
    context = assoc.accepted_contexts[0].context_id
    assoc._reactor_checkpoint.clear()  # as in pynetdicom's own send_c_store: else its thread may take the answer
    wait_until(lambda: assoc._is_paused, every=0.0005)
    assoc.dimse.send_msg(request, context)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return None if answer is None else int(answer.Status)


def elements_of(dataset: Any) -> bytes:
    """The dataset as it goes over the network: without preamble and file meta."""
    data = data_of(dataset)
    (length,) = struct.unpack_from("<L", data, 140)  # of the file meta's elements, behind this number
    return data[144 + length :]


def store_many(directory: Path, count: int) -> Counter[str]:
    """Mutated films by C-STORE into one listener, and through its loop; what became of them."""
    chance, statuses = random.Random(12), Counter[int | None]()
    whole = seeds()
    with receiver_in(directory) as (spool, receiver):
        before = memory()
        for number, data in enumerate(whole):
            one = dcmread(io.BytesIO(data))
            one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = study_film(1).SOPClassUID
            with association(receiver.port, one) as assoc:
                for turn in range(number, count, len(whole)):
                    one.StudyInstanceUID, one.SOPInstanceUID = uid(turn), uid(turn, 1)
                    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
                    body = elements_of(one)
                    statuses[send_raw(assoc, one.SOPClassUID, one.SOPInstanceUID, mutated(body, chance))] += 1
        assert set(statuses) <= {0, NOT_UNDERSTOOD}, statuses
        assert not {FAULT, NO_ROOM, None} & set(statuses)
        kept = Kept()
        run_all(Loop(spool, stand_in, kept, 0, 64))
        films = spool.ledger.films()
        aside = [film for film in films if film.state == "aside"]
        assert all(film.reason for film in aside)
        assert {path.stem for path in spool.aside.glob("*.dcm")} == {film.key for film in aside}
        assert {path.stem for path in spool.aside.glob("*.txt")} == {film.key for film in aside}
        assert not [study for study in spool.ledger.studies() if study.state not in ("sent", "aside")]
        assert not list(spool.incoming.iterdir())
        assert store_again(receiver.port) == 0
        assert memory() - before < MOST_GROWTH
    return Counter(
        {"sent": count, "failed": statuses[NOT_UNDERSTOOD], "aside": len(aside), "reports": len(kept.reports)}
    )


def store_again(port: int) -> int | None:
    one = study_film(77_777)
    with association(port, one) as assoc:
        return assoc.send_c_store(one).get("Status")  # type: ignore[no-any-return]


def test_mutated_files_are_read_or_refused_in_one_line() -> None:
    found = read_many(SHORT)
    assert found[False] > 0 < found[True]


def test_mutated_films_are_answered_and_kept_aside_with_a_reason(tmp_path: Path) -> None:
    found = store_many(tmp_path, SHORT)
    assert min(found["failed"], found["aside"] - found["failed"], found["reports"]) > 0


@pytest.mark.drill
def test_two_thousand_mutated_files_are_read_or_refused_in_one_line() -> None:
    found = read_many(LONG_RUN)
    print(found)  # for who runs the drill with -s
    assert found.total() == LONG_RUN


@pytest.mark.drill
def test_two_thousand_mutated_films_are_answered_and_kept_aside_with_a_reason(tmp_path: Path) -> None:
    found = store_many(tmp_path, LONG_RUN)
    print(found)
    assert found["sent"] == LONG_RUN
