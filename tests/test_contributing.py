"""CONTRIBUTING.md's worked examples, applied to a copy of the source as they stand there, and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dicom_files import data_of
from dicom_files import film as dicom

ROOT = Path(__file__).parents[1]
SECTION = r"^### {}.*?\n(.*?)^##"
BLOCK = re.compile(
    r"(?:^`(?P<file>src/[\w/.]+)`[^\n]*:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


class Example(NamedTuple):
    """One worked example: the files that it touches, the code that tries it, what that prints."""

    touched: set[str]
    code: str
    printed: str


def changed(text: str, diff: str) -> str:
    """A file's text under a diff block, whose hunks are set apart by empty lines."""
    for hunk in re.split(r"\n(?=\n )\n?", diff.rstrip("\n")):
        lines = hunk.strip("\n").splitlines()
        before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        after = "\n".join(line[1:] for line in lines)
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def apply(section: str, copy: Path) -> Example:
    """Follow a section of CONTRIBUTING.md in a copy of the repository's src."""
    document = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(SECTION.format(section), document, re.DOTALL | re.MULTILINE)
    assert found is not None
    touched, code, printed = set(), "", ""
    for block in BLOCK.finditer(found[1]):
        if (name := block["file"]) is None:
            code, printed = (block["text"], printed) if block["kind"] == "python" else (code, block["text"])
            continue
        touched.add(name)
        path = copy / name
        if block["kind"] == "diff":
            path.write_text(changed(path.read_text(encoding="utf-8"), block["text"]), encoding="utf-8")
        else:
            assert not path.exists()
            path.write_text(block["text"], encoding="utf-8")
    return Example(touched, code, printed)


def run_in(copy: Path, code: str, *words: str) -> str:
    """What Python code prints with the copy's source."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the source, code only."""
    code = ROOT / "src" / "r2gengpt"
    skipped = shutil.ignore_patterns("__pycache__", "*.safetensors", "examples")
    shutil.copytree(code, tmp_path / "src" / "r2gengpt", ignore=skipped)
    return tmp_path


@pytest.mark.parametrize(("section", "files"), [("A new metric", 2), ("A new family of language models", 1)])
def test_an_example_works_as_it_stands(section: str, files: int, copy: Path) -> None:
    example = apply(section, copy)
    assert len(example.touched) == files
    assert run_in(copy, example.code) == example.printed


FORM = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from r2gengpt.cli.commands.generate import GenerateFlags
from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.forms import bytes_of
from r2gengpt.films.sources import study_of

flags = GenerateFlags(format="markdown")
study = study_of([Path(sys.argv[1])])
headers = [header for header in study.headers if header is not None]
draft = draft_of("FINDINGS: Clear lungs. IMPRESSION: Normal.", headers, "tiny", "ab" * 32, datetime.now(UTC))
print(bytes_of(draft, flags.format).decode())
"""


def test_the_new_form_is_written_as_it_stands(copy: Path) -> None:
    example = apply("A new output form", copy)
    assert len(example.touched) == 2
    (copy / "front.dcm").write_bytes(data_of(dicom()))
    page = run_in(copy, FORM, str(copy / "front.dcm"))
    assert page.startswith("**AI draft, not verified, research only.")
    assert "## Findings\n\nClear lungs.\n\n## Impression\n\nNormal.\n" in page
