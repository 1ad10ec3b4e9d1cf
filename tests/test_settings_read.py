"""The trace of settings sees what the program reads, straight and through a property, and not what merely checks."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import settings_read
from r2gengpt.config import TrainConfig


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    found: set[str] = set()
    monkeypatch.setattr(settings_read, "read", found)
    return found


def in_the_program(code: str, **values: Any) -> None:
    """Run code as if it stood in a module of the program."""
    exec(compile(code, f"{settings_read.SOURCE}/training/somewhere.py", "exec"), values)


def test_a_read_counts_straight_and_through_a_property(noted: set[str]) -> None:
    options = TrainConfig(ckpt_file=str(Path("best")))
    assert not noted, "checks read everything"
    in_the_program("options.seed", options=options)
    assert noted == {"TrainConfig.seed"}
    in_the_program("options.start_from", options=options)
    assert noted == {"TrainConfig.seed", "TrainConfig.ckpt_file"}


def test_what_a_test_reads_does_not_count(noted: set[str]) -> None:
    options = TrainConfig()
    assert [getattr(options, f.name) for f in fields(options)]
    assert options.start_from is None
    assert not noted
