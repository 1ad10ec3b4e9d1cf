"""Which settings the tests saw the program read: a plugin that traces each field of each group. No test stands here.

A run of the whole suite fails where a field of a settings class was read by no module of the program but those that
declare, check and parse settings. One process counts for all: with `--numprocesses`, each worker hands its list over.
"""

import dataclasses
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import r2gengpt
from r2gengpt import config, settings

SOURCE = str(Path(r2gengpt.__file__).parent)
BRIDGES = tuple(f"{SOURCE}/{name}" for name in ("config/", "settings/", "options.py", "cli/bridge.py", "cli/memory.py"))
"""Modules that read every setting alike, whatever it means."""
GROUPS = [
    kind
    for module in (config, settings)
    for kind in vars(module).values()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__name__.endswith("Config")
]
ONLY_CHECKED = {
    "ModelConfig.alignment": "stands for freeze_vm and vis_use_lora, which it sets",
    "PlacementConfig.low_resource": "stands for quantization int8, which it sets",
    "DecodeConfig.num_beam_groups": "refused unless 1",
    "DecodeConfig.diversity_penalty": "refused unless 0",
}
read: set[str] = set()


def caller_of(frame: FrameType) -> str:
    """The file of whoever reads a property: between the two stands the trace itself."""
    behind = frame.f_back
    while behind is not None and behind.f_code.co_filename == __file__:
        behind = behind.f_back
    return "" if behind is None else behind.f_code.co_filename


def trace(kind: type) -> None:
    """Note each field of a settings class when a module of the program reads it, also through a property."""
    names = {f.name for f in dataclasses.fields(kind)}

    def noted(self: object, name: str) -> Any:
        if name in names and f"{kind.__name__}.{name}" not in read:
            frame = sys._getframe(1)
            inside = frame.f_code.co_filename
            if inside.startswith(BRIDGES) and frame.f_code.co_name in PROPERTIES[kind]:
                inside = caller_of(frame)
            if inside.startswith(SOURCE) and not inside.startswith(BRIDGES):
                read.add(f"{kind.__name__}.{name}")
        return object.__getattribute__(self, name)

    kind.__getattribute__ = noted  # type: ignore[method-assign,assignment]


PROPERTIES = {
    kind: {name for name, value in vars(kind).items() if isinstance(value, property) or callable(value)}
    - {"__init__", "__post_init__", "__getattribute__"}
    for kind in GROUPS
}


def unread() -> list[str]:
    """Fields that nobody read, as Group.field."""
    every = {f"{kind.__name__}.{f.name}" for kind in GROUPS for f in dataclasses.fields(kind)}
    return sorted(every - read - set(ONLY_CHECKED))


def pytest_configure(config: pytest.Config) -> None:
    for kind in GROUPS:
        if "_traced" not in vars(kind):
            trace(kind)
            kind._traced = True  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended."""
    read.update(getattr(node, "workeroutput", {}).get("settings_read", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["settings_read"] = sorted(read)
        return
    option = session.config.option
    is_whole = not option.file_or_dir and not option.keyword and option.markexpr == "not drill"
    if is_whole and session.exitstatus == 0 and unread():
        print(f"\nno module reads these settings in any test: {', '.join(unread())}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
