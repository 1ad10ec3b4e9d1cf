"""The Python sessions of the README and of the guide, word for word, on films under their names."""

import json
import re
import runpy
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

import r2gengpt
from dicom_files import ROOT as UID
from dicom_files import data_of
from dicom_files import film as dicom
from r2gengpt.parts.embedded.cache import resolve
from r2gengpt.testing import noise_image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide" / "reports.md").read_text(encoding="utf-8")
FIRST = 20
"""The session stands within so many lines."""


def session(page: str) -> str:
    """A page's only Python block."""
    (found,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(found)


def embedded_is_cached() -> bool:
    """Whether the embedded model's parts were pulled on this machine."""
    try:
        return bool(resolve("embedded:dinov2-s") and resolve("embedded:smollm2-135m"))
    except r2gengpt.InputError:
        return False


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, which becomes the working one, with films under the pages' names, and the guide's session."""
    noise_image(1).save(tmp_path / "frontal.png")
    for number, (name, view) in enumerate((("frontal", "PA"), ("lateral", "LL"))):
        data = data_of(dicom(ViewPosition=view, SOPInstanceUID=f"{UID}77{number}"))
        (tmp_path / f"{name}.dcm").write_bytes(data)
    (tmp_path / "session.py").write_text(session(GUIDE), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(namespace: dict[str, Any], printed: str) -> None:
    """Compare what the session made with what the guide promises."""
    report = namespace["report"]
    assert printed.startswith(f"{report.text}\n")
    assert all(f"{sentence.text} {sentence.confidence}\n" in printed for sentence in report.sentences)
    assert printed.endswith(f"{report.asserted}\n")
    assert json.loads(namespace["record"])["report"] == report.text
    assert json.loads(namespace["bundle"])["resourceType"] == "Bundle"
    document = pydicom.dcmread(BytesIO(namespace["document"]))
    assert (document.Modality, document.VerificationFlag) == ("SR", "UNVERIFIED")


def test_the_session_stands_in_the_first_lines() -> None:
    assert session(README) in "".join(README.splitlines(keepends=True)[:FIRST])


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 110


def test_the_session_works_word_for_word(
    films: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny model, which stands for the embedded one."""
    load = r2gengpt.load

    def load_tiny(model: str) -> object:
        assert model == "embedded"
        return load(tiny_checkpoint, accelerator="cpu")

    monkeypatch.setattr("r2gengpt.opening.load", load_tiny)
    check(runpy.run_path("session.py"), capsys.readouterr().out)
    Path("first.py").write_text(session(README), encoding="utf-8")
    first = runpy.run_path("first.py")["report"]
    assert capsys.readouterr().out == f"{first.text}\n"


@pytest.mark.drill
@pytest.mark.skipif(not embedded_is_cached(), reason="needs `r2gengpt pull embedded`")
def test_the_session_works_on_the_embedded_model(films: Path) -> None:
    done = subprocess.run([sys.executable, "session.py"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
