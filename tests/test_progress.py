"""A long step tells how far it is: by a bar on a terminal, by whole lines in a log."""

import io
import itertools
import re
import sys
from pathlib import Path

import pytest

from conftest import TinySet
from r2gengpt import progress
from r2gengpt.progress import Bar
from r2gengpt.training import watching
from r2gengpt.training.run import train
from training_settings import small_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def counted(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, first: float) -> str:
    """What three steps of a count of three write to a stream."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "FIRST_AFTER", first)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Bar(desc="films", total=3) as bar:
        for _ in range(3):
            bar.update()
    return stream.getvalue()


def test_a_log_gets_whole_lines_and_the_last_tells_that_all_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    written = counted(io.StringIO(), monkeypatch, first=0.0)
    assert "\r" not in written
    lines = written.splitlines()
    assert all(re.fullmatch(r"films: \d of 3, 0:00 gone(, 0:00 left)?", line) for line in lines)
    assert lines[-1] == "films: 3 of 3, 0:00 gone"


def test_a_short_step_writes_no_line_into_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(io.StringIO(), monkeypatch, first=60.0) == ""


def test_a_step_over_a_list_counts_each_item_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log, seconds = io.StringIO(), itertools.count()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(seconds)))
    assert list(Bar(range(100), desc="films")) == list(range(100))
    counts = [int(line.split()[1]) for line in log.getvalue().splitlines()]
    assert counts == sorted(set(counts))
    assert 3 < len(counts) < 40, "a line each half minute"
    assert counts[-1] == 100


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    written = counted(Terminal(), monkeypatch, first=60.0)
    assert "\rfilms:" in written
    assert "3/3" in written


def test_a_training_writes_a_line_an_epoch_into_a_log(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(watching, "FIRST_AFTER", 3600.0)
    train(small_run(tiny_parts, tiny_set, tmp_path / "run", max_epochs=2))
    epochs = [line for line in log.getvalue().splitlines() if line.startswith("epoch ")]
    assert "\repoch" not in log.getvalue()
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert "loss " in epochs[0]
    assert re.search(r"gone, \d+:\d\d left$", epochs[0])
    assert epochs[1].endswith(" gone")


def test_a_long_epoch_writes_a_line_now_and_then(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(watching, "FIRST_AFTER", 0.0)
    monkeypatch.setattr(watching, "EVERY", 0.0)
    train(small_run(tiny_parts, tiny_set, tmp_path / "run", max_epochs=1))
    assert "epoch 1/1, step 1 of " in log.getvalue()
