"""No command writes its output over a file that it reads, or for more readers than the user lets read it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from r2gengpt.cli.commands.generate import deliver
from r2gengpt.cli.main import run
from r2gengpt.files import whole_directory, whole_file

FILM = b"a film"
COMMANDS = {
    "film": ("generate", "{}", "--output", "{}"),
    "film under another name": ("generate", "{}", "--output", "{link}"),
    "film in another form": ("generate", "{}", "--format", "json", "--output", "{}"),
    "film before": ("generate", "other.png", "--prior", "{}", "--output", "{}"),
    "report before": ("generate", "other.png", "--prior_report", "{}", "--output", "{}"),
    "original weights": ("generate", "other.png", "--model", "{}", "--output", "{}"),
    "certificates": ("dicomweb", "--url", "http://h", "--study", "1", "--ca_file", "{}", "--output", "{}"),
    "verdicts": ("review", "--verdicts", "{}", "--output", "{}"),
    "verdicts by URL": ("review", "--verdicts", "sqlite:///{}", "--output", "{}"),
    "reports to label": ("label", "--predictions", "{}", "--output", "{}"),
    "published figures": ("results", "save", "--published", "{}", "--output", "{}"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_file_that_is_read_is_not_written_over(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(FILM)
    link.symlink_to(path)
    command, *flags = (word.format(path, link=link) for word in words)
    assert run(command, flags) == 2
    assert capsys.readouterr().err.endswith("names: it would be written over\n")
    assert path.read_bytes() == FILM


@pytest.mark.parametrize(
    ("command", "flags"),
    [("review", ("--verdicts", "v.db", "--output")), ("label", ("--predictions", "p.csv", "--output"))],
)
def test_a_file_of_settings_is_not_written_over(
    command: str, flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.json"
    path.write_text("{}")
    assert run(command, ["--config", str(path), *flags, str(path)]) == 2
    assert "is what --config names" in capsys.readouterr().err
    assert path.read_text() == "{}"


def test_the_default_output_is_looked_at_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("id,report\n1,Clear lungs.\n")
    assert run("label", ["--predictions", "labels.csv"]) == 2
    assert "labels.csv: is what --predictions names" in capsys.readouterr().err


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o027, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_report_is_readable_as_the_umask_has_it(umask: int, tmp_path: Path) -> None:
    deliver("A report.", str(tmp_path / "report.txt"))
    assert mode(tmp_path / "report.txt") == 0o666 & ~umask


def test_a_directory_is_readable_as_the_umask_has_it(umask: int, tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out") as temporary:
        assert mode(temporary) == 0o700
        (temporary / "inner").mkdir(mode=0o700)
        (temporary / "inner" / "weights").touch(mode=0o600)  # as libraries leave theirs
    made = tmp_path / "out"
    assert [mode(made), mode(made / "inner"), mode(made / "inner" / "weights")] == [
        *[0o777 & ~umask] * 2,
        0o666 & ~umask,
    ]


@pytest.mark.parametrize("before", [0o600, 0o640, 0o644])
def test_a_file_that_is_written_anew_keeps_its_readers(before: int, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.touch()
    path.chmod(before)
    with whole_file(path) as temporary:
        assert mode(temporary) == 0o600
        temporary.write_text("A report.")
    assert (path.read_text(), mode(path)) == ("A report.", before)
    assert [one.name for one in tmp_path.iterdir()] == ["report.txt"]
