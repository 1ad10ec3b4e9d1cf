"""That tests start dcmtk's programs, whatever else is on PATH under their names."""

import os
import re
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest

from programs import program

pytest.importorskip("pynetdicom")
NAMES = sorted(one.name for one in distribution("pynetdicom").entry_points if one.group == "console_scripts")


def stand_in(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_script_beside_the_interpreter_is_not_taken_for_dcmtks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, link, theirs = tmp_path / "venv" / "bin", tmp_path / "link", tmp_path / "usr"
    stand_in(ours, name)
    link.symlink_to(ours)
    monkeypatch.setattr(sysconfig, "get_path", {"scripts": str(ours)}.__getitem__)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, (ours, link))))
    assert program(name) is None
    expected = stand_in(theirs, name)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, (ours, link, theirs))))
    assert program(name) == str(expected)


def test_no_test_starts_or_looks_for_such_a_program_by_its_bare_name() -> None:
    assert "storescu" in NAMES
    bare = re.compile(rf"""(?:\[|which\(|run\(|Popen\()\s*["'](?:{"|".join(NAMES)})["']""")
    assert bare.search('["storescu", "-aec"]')
    found = [path.name for path in Path(__file__).parent.glob("*.py") if bare.search(path.read_text(encoding="utf-8"))]
    assert found == [Path(__file__).name]
