"""The audit log's chain: it holds through kills, several writers and full disks, and every change of it is found."""

import os
import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from r2gengpt.auditlog.chain import NOTHING, read_record, record_after
from r2gengpt.auditlog.codes import own_code
from r2gengpt.auditlog.events import NOBODY, accessed, subjects_of, subjects_of_draft, this_process
from r2gengpt.auditlog.files import log_files
from r2gengpt.auditlog.log import AuditFault, AuditLog, opened_log
from r2gengpt.auditlog.message import xml_of
from r2gengpt.auditlog.verify import verify
from r2gengpt.cli.main import run
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.settings import ServeConfig

CHILD = Path(__file__).with_name("audit_child.py")
SEED = int(os.environ.get("R2GENGPT_DRILL_SEED", "7"))


class Day:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def put(log: AuditLog, *names: str) -> None:
    for name in names:
        log.append(accessed(log.process, None, NOBODY, own_code(name, "of a test")))


def filled(directory: Path, count: int = 5, clock: Callable[[], datetime] | None = None) -> AuditLog:
    """A log with so many records."""
    directory.mkdir(exist_ok=True)
    log = AuditLog(directory, "test", clock=clock or Day())
    put(log, *(f"n{number}" for number in range(count)))
    return log


def lines_of(directory: Path) -> list[bytes]:
    return [line for path in log_files(directory) for line in path.read_bytes().splitlines()]


def names_in(directory: Path) -> list[str]:
    """Which of the tests' own records there are, in their order."""
    return re.findall(r'csd-code="(\w+-?\d+)" codeSystemName="99R2GENGPT"', b"\n".join(lines_of(directory)).decode())


def rewrite(directory: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    (path,) = log_files(directory)
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))


def test_each_record_names_the_one_before_and_files_of_days_are_one_chain(tmp_path: Path) -> None:
    day = Day()
    log = filled(tmp_path, 3, day)
    day.now += timedelta(days=1)
    put(log, "n3", "n4")
    day.now -= timedelta(days=1)  # a clock that goes back does not go back to an older file
    put(AuditLog(tmp_path, "other", clock=day), "n5")
    records = [read_record(line) for line in lines_of(tmp_path)]
    previous = NOTHING
    for number, record in enumerate(records, 1):
        assert record is not None
        assert (record.previous, record.number) == (previous, number)
        previous = record.digest
    found = verify(tmp_path)
    assert (found.records, found.files, found.digest) == (6, ("audit-2026-01-02.log", "audit-2026-01-03.log"), previous)
    assert names_in(tmp_path) == [f"n{number}" for number in range(6)]
    assert (tmp_path / "audit-2026-01-02.log").stat().st_mode & 0o777 == 0o600


def made_anew(lines: list[bytes]) -> list[bytes]:
    """The third record with another text, and all after it chained to it as if nothing had happened."""
    kept = lines[:2]
    last = read_record(lines[1])
    for line in lines[2:]:
        record = read_record(line)
        assert last is not None
        assert record is not None
        last = record_after(last.digest, last.number, record.message.replace("n2", "n9"))
        kept.append(last.line.rstrip())
    return kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: [it[0], it[1].replace(b"n1", b"n9"), *it[2:]], "record 2 (audit-2026-01-02.log, line 2): its text"),
        (
            lambda it: [it[0], (b"1" if it[1].startswith(b"0") else b"0") + it[1][1:], *it[2:]],
            "record 2 (audit-2026-01-02.log, line 2): its text or its hash",
        ),
        (lambda it: [*it[:2], *it[3:]], "record 4 (audit-2026-01-02.log, line 3): does not follow record 2"),
        (
            lambda it: [it[0], it[2], it[1], *it[3:]],
            "record 3 (audit-2026-01-02.log, line 2): does not follow record 1",
        ),
        (lambda it: it[1:], "record 2 (audit-2026-01-02.log, line 1): does not follow the beginning of a chain"),
        (lambda it: [*it[:2], it[1], *it[2:]], "record 2 (audit-2026-01-02.log, line 3): does not follow record 2"),
        (lambda it: [it[0], it[1][:40], *it[2:]], "audit-2026-01-02.log, line 2: is no record, and record 3"),
        (lambda it: [*it[:4], it[4] + b" "], "record 5 (audit-2026-01-02.log, line 5): its text or its hash"),
        (lambda it: [*it[:4], it[4].replace(b"<AuditMessage>", b"")], "record 5 (audit-2026-01-02.log, line 5): its"),
        (lambda it: [one + b"\r" for one in it], "record 1 (audit-2026-01-02.log, line 1): its text or its hash"),
        (lambda it: [one[1:] for one in it], "audit-2026-01-02.log: no record is left, and 5 lines that are none"),
        (lambda it: [], "audit-2026-01-02.log: no record is left, and 0 lines"),
        (lambda it: [made_anew(it)[2] if at == 2 else one for at, one in enumerate(it)], "record 4 (audit-2026-01-02"),
    ],
)
def test_the_first_record_that_breaks_the_chain_is_named(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    filled(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(RunError) as broken:
        verify(tmp_path)
    assert str(broken.value).startswith(words)


@pytest.mark.parametrize("change", [made_anew, lambda it: it[:3]], ids=["made anew", "cut off"])
def test_a_cut_off_end_and_a_chain_made_anew_show_against_a_known_hash_alone(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    log = filled(tmp_path)
    known = verify(tmp_path).digest
    put(log, "n5")
    assert verify(tmp_path, known=known).known_at == 5
    rewrite(tmp_path, change)
    assert verify(tmp_path).records >= 3
    with pytest.raises(RunError, match=f"no record has the hash {known}: the end was cut off"):
        verify(tmp_path, known=known)


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (path,) = log_files(tmp_path)
    whole, draw = path.read_bytes(), random.Random(SEED)
    known = verify(tmp_path).digest
    for _ in range(200):
        at = draw.randrange(len(whole) - 1)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ draw.randrange(1, 256)]) + whole[at + 1 :])
        with pytest.raises(RunError):
            verify(tmp_path, known=known)


def test_older_files_may_be_put_away_with_the_hash_of_their_last_record(tmp_path: Path) -> None:
    day = Day()
    log = filled(tmp_path, 3, day)
    last = verify(tmp_path).digest
    day.now += timedelta(days=1)
    put(log, "n3")
    (tmp_path / "audit-2026-01-02.log").unlink()
    with pytest.raises(RunError, match=r"record 4 .* does not follow the beginning of a chain"):
        verify(tmp_path)
    assert verify(tmp_path, after=last).records == 1
    put(AuditLog(tmp_path, "later", clock=day), "n4")
    assert verify(tmp_path, after=last).records == 2


@pytest.mark.parametrize("cut", [1, 30, 64, 200, 400])
def test_a_torn_last_line_is_told_of_by_the_next_record_and_the_chain_goes_on(tmp_path: Path, cut: int) -> None:
    filled(tmp_path, 2)
    (path,) = log_files(tmp_path)
    line = path.read_bytes().splitlines()[1]
    with path.open("ab") as file:
        file.write(line[:cut])
    assert verify(tmp_path).open_end == 1
    put(AuditLog(tmp_path, "next", clock=Day()), "n2")
    found = verify(tmp_path)
    assert (found.records, found.torn, found.open_end) == (4, 1, 0), "two, the one that tells, one more"
    assert names_in(tmp_path)[:2] == ["n0", "n1"]
    rewrite(tmp_path, lambda it: [*it[:2], *it[3:]])
    with pytest.raises(RunError, match=r"record 3 .* tells of torn lines that are not there any more"):
        verify(tmp_path)


def test_a_record_that_lacks_its_lines_end_alone_is_whole(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    (path,) = log_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    put(AuditLog(tmp_path, "next", clock=Day()), "n2")
    assert (verify(tmp_path).records, verify(tmp_path).torn) == (3, 0)


def test_a_last_record_that_was_changed_is_added_to_by_nobody(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    rewrite(tmp_path, lambda it: [it[0], it[1].replace(b"n1", b"n9")])
    with pytest.raises(InputError, match=r"audit_log .*: the last record of audit-2026-01-02.log was changed"):
        opened_log(str(tmp_path), "test")
    with pytest.raises(AuditFault, match="was changed"):
        put(AuditLog(tmp_path, "test", clock=Day()), "n2")


def child(directory: Path, name: str, *words: int) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(CHILD), str(directory), name, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def killed_over_and_over(directory: Path, kills: int) -> None:
    """Processes are ended within their writes: what they have acknowledged is there, once, and the chain holds."""
    draw, acknowledged = random.Random(SEED), list[str]()
    for kill in range(kills):
        with child(directory, f"k{kill}", 50, draw.randrange(1, 8000)) as process:
            assert process.stdout is not None
            acknowledged += process.stdout.read().split()
        assert process.returncode == -9
        verify(directory)
    with child(directory, "end", 1) as process:
        assert process.stdout is not None
        acknowledged += process.stdout.read().split()
    found, there = verify(directory), names_in(directory)
    assert there.count("end-0") == 1
    assert [name for name in there if name in set(acknowledged)] == acknowledged
    assert len(there) - len(acknowledged) <= kills, "at most the record that was being written"
    assert found.open_end == 0
    assert found.torn >= kills // 2


def test_what_was_acknowledged_outlives_kills_within_writes(tmp_path: Path) -> None:
    killed_over_and_over(tmp_path, 3)


@pytest.mark.drill
def test_what_was_acknowledged_outlives_twenty_kills_within_writes(tmp_path: Path) -> None:
    killed_over_and_over(tmp_path, 20)


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    writers = [child(tmp_path, f"w{number}", 25) for number in range(4)]
    outputs = [writer.communicate()[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert verify(tmp_path).records == 100
    there = names_in(tmp_path)
    for number, names in enumerate(outputs):
        assert [name for name in there if name.startswith(f"w{number}-")] == names
        assert len(names) == 25


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: the system writes a part, then refuses."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


def test_without_room_nothing_is_acknowledged_and_the_next_record_tells_of_the_gap(tmp_path: Path) -> None:
    log = filled(tmp_path, 2)
    (path,) = log_files(tmp_path)
    with files_of_at_most(path.stat().st_size + 300):
        for name in ("lost1", "lost2", "lost3"):
            with pytest.raises(AuditFault, match=r"the audit log cannot be written \(File too large\)"):
                put(log, name)
    assert log.fault == "File too large"
    assert verify(tmp_path).records == 2
    put(log, "n2")
    assert log.fault == ""
    found = verify(tmp_path)
    assert (found.records, found.torn) == (4, 1)
    assert [name for name in names_in(tmp_path) if name.startswith("n")] == ["n0", "n1", "n2"]


def test_after_a_fault_a_look_alone_tells_that_recording_goes_on(tmp_path: Path) -> None:
    log = filled(tmp_path, 1)
    log.check()
    assert verify(tmp_path).records == 1, "without a fault there is nothing to tell"
    with files_of_at_most(1), pytest.raises(AuditFault):
        put(log, "lost")
    with files_of_at_most(1), pytest.raises(AuditFault):
        log.check()
    log.check()
    assert verify(tmp_path).records == 2
    assert b"Audit Recording Started" in lines_of(tmp_path)[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text(""), "is no directory"),
        (lambda path: (path.mkdir(), path.chmod(0o777)), "everybody may write it: chmod o-w"),
        (lambda path: (path.mkdir(), (path / "audit-2026-01-02.log").mkdir()), "is no regular file"),
        (lambda path: path.symlink_to("nowhere/at/all"), "File exists"),
    ],
)
def test_a_directory_that_cannot_hold_a_log_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "log")
    with pytest.raises(InputError, match=r"audit_log .*log: ") as refused:
        opened_log(str(tmp_path / "log"), "test")
    assert words in str(refused.value)
    with pytest.raises(InputError, match="audit_log is empty"):
        opened_log(" ", "test")


def test_a_new_log_is_its_owners_alone_and_its_start_and_stop_are_records(tmp_path: Path) -> None:
    log = opened_log(str(tmp_path / "deep" / "log"), "test", ["R2GENGPT"])
    with log.running():
        put(log, "n0")
    lines = lines_of(tmp_path / "deep" / "log")
    assert (tmp_path / "deep" / "log").stat().st_mode & 0o777 == 0o700
    assert [re.findall(rb'EventTypeCode csd-code="(\w+)"', line) for line in lines] == [
        [b"110120"],
        [b"n0"],
        [b"110121"],
    ]


@pytest.mark.parametrize("patients", [1, 2, 128])
def test_a_record_names_every_film_and_patient_of_the_largest_request(patients: int) -> None:
    most = next(one.metadata["high"] for one in fields(ServeConfig) if one.name == "max_images")
    numbers = range(2 * most)  # films and prior ones
    headers = [DicomHeader(f"1.2.{at}.", "", "", "", "DX", patient_id=f"P{at % patients}.") for at in numbers]
    digests = [f"{at:064}" for at in numbers]
    draft = subjects_of_draft("draft", digests[:most], "pseudonym")
    wanted = {f"1.2.{at}." for at in numbers} | {f"P{at}." for at in range(patients)}
    for subjects, names in (
        (subjects_of(headers), wanted),
        (subjects_of([None] * len(digests), digests), set(digests)),
        (draft, {"draft", "pseudonym", *digests[:most]}),
    ):
        made = xml_of(accessed(this_process("serve"), None, subjects, own_code("report", "a draft")), "us")
        assert names - set(re.findall(r'ParticipantObjectID="([^"]+)"', made)) == set()


@pytest.mark.parametrize("value", ["AAAAA", "é", "&none;"])
def test_a_chain_that_somebody_else_has_written_is_followed_whatever_its_details_hold(
    tmp_path: Path, value: str
) -> None:
    detail = f'<ParticipantObjectDetail type="Alert Description" value="{value}"/>'
    message = f'<AuditMessage code="110134">{detail}</AuditMessage>'
    (tmp_path / "audit-2026-01-02.log").write_bytes(record_after(NOTHING, 0, message).line)
    assert verify(tmp_path).records == 1
    (tmp_path / "audit-2026-01-02.log").write_bytes(b"torn\n" + record_after(NOTHING, 0, message).line)
    with pytest.raises(RunError, match="does not tell of it"):
        verify(tmp_path)


def test_the_command_prints_the_last_hash_and_names_what_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path)
    digest = verify(tmp_path).digest
    assert run("audit-log", ["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "5 records in 1 files, audit-2026-01-02.log to audit-2026-01-02.log: the chain holds",
        f"last hash: {digest}",
    ]
    assert run("audit-log", ["verify", str(tmp_path), "--last", digest]) == 0
    assert "the hash you gave is that of record 5" in capsys.readouterr().out
    assert run("audit-log", ["verify", str(tmp_path), "--last", "f" * 64]) == 1
    assert run("audit-log", ["verify", str(tmp_path), "--last", "F"]) == 2
    assert run("audit-log", ["verify", str(tmp_path / "none")]) == 2
    (tmp_path / "empty").mkdir()
    assert run("audit-log", ["verify", str(tmp_path / "empty")]) == 2
    (tmp_path / "strange" / "audit-2026-01-02.log").mkdir(parents=True)
    assert run("audit-log", ["verify", str(tmp_path / "strange")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5
    assert errors[-1] == f"r2gengpt audit-log: {tmp_path}/strange/audit-2026-01-02.log: is no regular file"
    rewrite(tmp_path, lambda it: [it[0], *it[2:]])
    assert run("audit-log", ["verify", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("r2gengpt audit-log: record 3 (audit-2026-01-02.log, line 2): does not")
