"""The archive loop for real: Debian's Orthanc with its DICOMweb plugin, and dcmtk, on ports of this machine."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from pydicom import dcmread

from archive_parts import (
    LONG,
    MISSING,
    SR,
    Orthanc,
    film_data,
    free_port,
    listening,
    orthanc,
    states_in,
    store,
    study_film,
    uid,
    wait_until,
)
from conftest import Outcome
from dicom_files import data_of
from programs import STORESCU
from r2gengpt.clinical.archive.loop import Refused
from r2gengpt.clinical.archive.web import connect, stow
from r2gengpt.text.written import NOTICE

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
Run = Callable[[list[str]], Outcome]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as one:
        yield one


def storescu(port: int, *paths: Path) -> subprocess.CompletedProcess[str]:
    command = [STORESCU, "-aet", "MODALITY", "-aec", "R2GENGPT", "127.0.0.1", str(port), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)


class Command:
    """`r2gengpt listen` with these flags, from its first line to its end."""

    def __init__(self, *flags: str) -> None:
        code = "from r2gengpt.cli.main import main; main()"
        command = [sys.executable, "-c", code, "listen", "--port", "0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        self.port = int(re.findall(r":(\d+) as ", self.first)[0])
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()))
        self.reader.start()

    def close(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        code = self.process.wait(LONG)
        self.reader.join(LONG)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


def text_of(report: bytes) -> str:
    """What a viewer would show: all texts of the tree, by pydicom."""

    def texts(items: list[object]) -> Iterator[str]:
        for one in items:
            yield str(one.get("TextValue", ""))  # type: ignore[attr-defined]
            yield from texts(one.get("ContentSequence", []))  # type: ignore[attr-defined]

    return "\n".join(texts(dcmread(io.BytesIO(report)).ContentSequence))


def test_a_study_sent_by_dcmtk_comes_back_to_orthanc_as_one_report_that_readers_show(
    archive: Orthanc, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """The round trip, with a model: dcmtk → listen → Orthanc → pydicom, dsrdump, DICOMweb; sent again, nothing more."""
    paths = [tmp_path / "front.dcm", tmp_path / "side.dcm"]
    for number, path in enumerate(paths, 1):
        path.write_bytes(film_data(900, number, StudyDescription="Thorax"))
    to = ("--to_host", "127.0.0.1", "--to_port", str(archive.dicom_port), "--to_ae", "ORTHANC")
    spool = ("--spool", str(tmp_path / "spool"), "--quiet_seconds", "0.5")
    one = Command("--model", str(tiny_checkpoint), *to, *spool, "--allowed_aets", "MODALITY")
    try:
        assert NOTICE in one.first
        done = storescu(one.port, *paths)
        assert (done.returncode, done.stderr) == (0, "")
        wait_until(lambda: archive.reports()[uid(900)] == 1)
        wait_until(lambda: any("report sent" in line for line in one.lines))
        assert storescu(one.port, *paths).returncode == 0
        assert states_in(tmp_path / "spool") == ["sent"]  # so there is nothing to report
        assert list((tmp_path / "spool" / "incoming").iterdir()) == []
        code = one.close(signal.SIGTERM)
    finally:
        if one.process.poll() is None:
            one.close()
    assert code == 0, one.lines
    assert archive.reports()[uid(900)] == 1
    assert not [line for line in one.lines if "Muster" in line or uid(900) in line or "rror" in line]
    (instance,) = archive.get_reports(uid(900))
    sr = dcmread(io.BytesIO(instance))
    assert (sr.SOPClassUID, sr.StudyInstanceUID, sr.PatientID) == (SR, uid(900), "P-900")
    assert (sr.VerificationFlag, sr.PreliminaryFlag, sr.SeriesDescription) == ("UNVERIFIED", "PRELIMINARY", NOTICE)
    shown = text_of(instance)
    assert NOTICE in shown
    (tmp_path / "sr.dcm").write_bytes(instance)
    dumped = subprocess.run(["dsrdump", "+Pl", str(tmp_path / "sr.dcm")], capture_output=True, text=True, check=True)
    utf8 = "W: The VR checker does not support this Specific Character Set: ISO_IR 192\n"  # a random model writes it
    assert dumped.stderr in ("", utf8)
    sentence = shown.splitlines()[-1] or shown.splitlines()[-2]
    assert sentence.split()[0] in dumped.stdout
    assert NOTICE in dumped.stdout
    series = f"{archive.url}/dicom-web/studies/{uid(900)}/series/{sr.SeriesInstanceUID}/instances/{sr.SOPInstanceUID}"
    metadata = requests.get(f"{series}/metadata", headers={"Accept": "application/dicom+json"}, timeout=LONG)
    assert NOTICE in metadata.text


def test_reports_wait_while_orthanc_is_away_and_come_once_it_is_back(tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        to = {"to_host": "127.0.0.1", "to_port": archive.dicom_port, "to_ae": "ORTHANC"}
        with listening(tmp_path / "listen", **to) as one:
            assert one.port is not None
            assert store(one.port, study_film(1)) == [0]
            wait_until(lambda: one.studies("sent") == 1)
            archive.stop(kill=True)
            assert store(one.port, study_film(2), study_film(3)) == [0, 0]
            wait_until(lambda: one.studies("reported") == 2)
            archive.start()
            wait_until(lambda: one.studies("sent") == 3)
            assert one.end(signal.SIGTERM) == 0
        assert archive.reports() == Counter(uid(study) for study in (1, 2, 3))


def test_reports_go_by_stow_too(archive: Orthanc, tmp_path: Path) -> None:
    with listening(tmp_path, stow=f"{archive.url}/dicom-web") as one:
        assert one.port is not None
        assert store(one.port, study_film(800)) == [0]
        wait_until(lambda: archive.reports()[uid(800)] == 1)
        assert one.end(signal.SIGTERM) == 0


def test_what_orthanc_cannot_store_is_refused_for_good(archive: Orthanc) -> None:
    broken = study_film(801)
    broken.SOPInstanceUID = broken.file_meta.MediaStorageSOPInstanceUID = ""
    out = io.BytesIO()
    broken.save_as(out, enforce_file_format=False)
    with pytest.raises(Refused):
        stow(connect(f"{archive.url}/dicom-web"))(out.getvalue())


def put(archive: Orthanc, *datasets: bytes) -> None:
    for one in datasets:
        requests.post(f"{archive.url}/instances", data=one, auth=archive.login, timeout=LONG).raise_for_status()


def test_dicomweb_pulls_a_study_and_pushes_its_report_once(
    archive: Orthanc, tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    put(archive, film_data(700, 1), film_data(700, 2), film_data(700, 3, Modality="CT"))
    words = ["dicomweb", "--url", f"{archive.url}/dicom-web/", "--study", uid(700), "--model", str(tiny_checkpoint)]
    first = run_cli([*words, "--output", str(tmp_path / "sr.dcm")])
    assert first.code == 0, first.stderr
    assert first.stdout.strip() == dcmread(tmp_path / "sr.dcm").SOPInstanceUID
    assert "Muster" not in first.stderr + first.stdout
    second = run_cli(words)
    assert (second.code, second.stdout) == (0, first.stdout)
    assert archive.reports()[uid(700)] == 1
    assert len(archive.get_reports(uid(700))) == 1
    refered = dcmread(tmp_path / "sr.dcm").CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(refered) == 2


def test_dicomweb_pushes_each_form_once(archive: Orthanc, tiny_checkpoint: Path, run_cli: Run) -> None:
    put(archive, film_data(705))
    words = ["dicomweb", "--url", f"{archive.url}/dicom-web", "--study", uid(705), "--model", str(tiny_checkpoint)]
    for _ in range(2):
        done = run_cli([*words, "--format", "sr", "measurement-sr", "pdf"])
        assert done.code == 0, done.stderr
    made = done.stdout.split()
    assert len(set(made)) == 3
    stored = {str(dcmread(io.BytesIO(one)).SOPInstanceUID) for one in archive.get_reports(uid(705))}
    assert stored == set(made[:2])


def test_dicomweb_writes_without_pushing_and_the_same_as_generate(
    archive: Orthanc, tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    films = [film_data(701, 1), film_data(701, 2)]
    put(archive, *films)
    words = ["dicomweb", "--url", f"{archive.url}/dicom-web", "--study", uid(701), "--model", str(tiny_checkpoint)]
    out = tmp_path / "page.dcm"
    done = run_cli([*words, "--no_push", "--output", str(out), "--format", "pdf"])
    assert done.code == 0, done.stderr
    assert archive.reports()[uid(701)] == 0
    paths = [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    for path, data in zip(paths, films, strict=True):
        path.write_bytes(data)
    other = tmp_path / "other.dcm"
    alone = ["generate", *map(str, paths), "--model", str(tiny_checkpoint), "--format", "pdf", "--output", str(other)]
    assert run_cli(alone).code == 0
    assert dcmread(other).SOPInstanceUID == dcmread(out).SOPInstanceUID


def test_dicomweb_says_in_one_line_what_is_wrong(archive: Orthanc, tiny_checkpoint: Path, run_cli: Run) -> None:
    put(archive, film_data(702, Modality="CT"), film_data(703, BodyPartExamined="HAND"))
    put(archive, *(film_data(704, number) for number in (1, 2, 3)))
    url = f"{archive.url}/dicom-web"
    cases = [
        (url, uid(999), (), 2, "no such study"),
        (url, uid(702), (), 2, "has no CR, DX, DR images, only CT"),
        (url, uid(703), (), 2, "shows HAND"),
        (url, uid(704), ("--max_images", "2"), 2, "has 3 films: at most 2"),
        (url, uid(704), ("--max_bytes", "3000"), 1, "sends more than 3000 bytes"),
        (f"{archive.url}/nothing", uid(704), (), 2, "404"),
        (f"http://127.0.0.1:{free_port()}/dicom-web", uid(704), (), 1, "cannot be reached"),
        ("ftp//x", uid(704), (), 2, "must be like http://"),
        (url, "1.2..3", (), 2, "--study 1.2..3"),
        (url, uid(704), ("--no_push",), 2, "--output"),
        (url, uid(704), ("--user", "me"), 2, "belong together"),
        (url, uid(704), ("--ca_file", "no/such"), 2, "--ca_file no/such"),
    ]
    for where, study, more, code, words in cases:
        done = run_cli(["dicomweb", "--url", where, "--study", study, "--model", str(tiny_checkpoint), *more])
        last = done.stderr.splitlines()[-1]
        assert (done.code, done.stdout) == (code, ""), (words, done.stderr)
        assert words in last
        assert "Traceback" not in done.stderr


def test_a_login_is_needed_where_the_server_wants_one_and_never_shown(
    tiny_checkpoint: Path, tmp_path: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with orthanc(tmp_path / "orthanc", ("doctor", "s3cret")) as archive:
        put(archive, film_data(1))
        words = ["dicomweb", "--url", f"{archive.url}/dicom-web", "--study", uid(1), "--model", str(tiny_checkpoint)]
        refused = run_cli(words)
        assert (refused.code, "refuses us (401)" in refused.stderr) == (2, True)
        (tmp_path / "password").write_text("s3cret\n")
        assert run_cli([*words, "--user", "doctor", "--password_file", str(tmp_path / "password")]).code == 0
        monkeypatch.setenv("R2GENGPT_DICOMWEB_PASSWORD", "s3cret")
        done = run_cli([*words, "--user", "doctor"])
        assert done.code == 0
        assert "s3cret" not in done.stderr + done.stdout
        assert archive.reports() == Counter([uid(1)])


def test_dcmtk_is_answered_out_of_resources_by_a_full_spool(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(data_of(study_film(1)))
    limits = {"max_instance_bytes": 1024, "max_spool_bytes": 1024}
    with listening(tmp_path / "listen", stow="http://127.0.0.1:1/none", **limits) as one:
        assert one.port is not None
        path.write_bytes(data_of(study_film(1)))
        done = storescu(one.port, path)
    assert done.returncode == 0xA7  # dcmtk ends with the status's first byte


def test_the_programs_are_those_of_debian() -> None:
    assert shutil.which("dsrdump") is not None
    assert os.access("/usr/sbin/Orthanc", os.X_OK)
