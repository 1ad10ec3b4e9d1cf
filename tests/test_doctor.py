"""What `r2gengpt doctor` finds, and what it advises."""

import importlib.metadata
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from conftest import Outcome
from r2gengpt.cli import surroundings
from r2gengpt.cli.advice import LOST, advice
from r2gengpt.cli.commands import doctor
from r2gengpt.cli.main import COMMANDS
from r2gengpt.cli.surroundings import Cache, Hub, Surroundings, Torch, hub_here, lacks, look_around, torch_here
from r2gengpt.parts.machine import Gpu, Machine

Run = Callable[[list[str]], Outcome]
MACHINE = Machine(64 * 10**9, 60 * 10**9, 8, "a processor", bfloat16=True, gpus=(Gpu("a GPU", 8 * 10**9, 7 * 10**9),))
WELL = Surroundings(
    versions=("0.1.0", "3.11.7", "Linux"),
    packages={"numpy": "2.4.6"},
    wrong=(),
    extras={"train": (), "openvino": (), "clinical": ("RadEval",)},
    machine=MACHINE,
    torch=Torch(cuda="12.6", threads=8),
    nvidia=True,
    shared_bytes=2**30,
    cache=Cache("/cache", "", 10**11),
    hub=Hub("/hub", (), False),
)
ON_CPU = replace(MACHINE, gpus=())
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "an old package": (
        {"wrong": ("numpy",), "packages": {"numpy": "1.0, must be >=2.0"}},
        "numpy is 1.0, must",
        "make setup",
    ),
    "no torch": ({"torch": Torch(fault="No module named 'torch'")}, "No module named 'torch'", "pip install torch"),
    "a CPU build beside a GPU": (
        {"machine": ON_CPU, "torch": Torch(threads=8)},
        "an NVIDIA GPU, but this PyTorch is built for CPUs",
        "--force-reinstall",
    ),
    "a GPU without its driver": ({"machine": ON_CPU}, "PyTorch (CUDA 12.6) cannot use the NVIDIA GPU", "nvidia-smi"),
    "no GPU": ({"machine": ON_CPU, "nvidia": False}, "no GPU", "r2gengpt plan"),
    "emulated bfloat16": (
        {"machine": replace(ON_CPU, bfloat16=False), "nvidia": False},
        "no bfloat16 arithmetic",
        "--precision and --dtype",
    ),
    "one thread": ({"torch": Torch(cuda="12.6", threads=1)}, "with 1 of 8 processors", "unset OMP_NUM_THREADS"),
    "no OpenVINO": ({"extras": {"openvino": ("openvino",)}}, "OpenVINO is missing", "r2gengpt pull embedded"),
    "no graphs": ({"cache": Cache("/cache", "", 10**11, graphs=False)}, "are not made", "r2gengpt pull embedded"),
    "no embedded model": (
        {"cache": Cache("/cache", "not here", 10**11)},
        "not here (/cache)",
        "r2gengpt pull embedded",
    ),
    "a full disk": ({"cache": Cache("/cache", "", 10**9)}, "1.0 GB are free at /cache", "HF_HOME"),
    "an offline hub": ({"hub": Hub("/hub", (), True)}, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"),
    "a small /dev/shm": ({"shared_bytes": 64 * 10**6}, "/dev/shm has 64 MB", "--shm-size"),
    **{f"no {extra}": ({"extras": {extra: ("package",)}}, "package missing", f"'.[{extra}]'") for extra in LOST},
}


def test_where_all_is_well_nothing_is_advised(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert advice(WELL) == []
    monkeypatch.setattr(doctor, "look_around", lambda: WELL)
    outcome = run_cli(["doctor"])
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.endswith("\nNothing is slow or missing.\n")
    assert "          clinical lacks RadEval\n" in outcome.stdout


@pytest.mark.parametrize("name", CASES)
def test_each_lack_is_advised_with_its_reason_and_its_remedy(
    name: str, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, why, mend = CASES[name]
    here = replace(WELL, **changed)
    assert [(why in one.why, mend in one.mend) for one in advice(here)].count((True, True)) == 1
    monkeypatch.setattr(doctor, "look_around", lambda: here)
    outcome = run_cli(["doctor"])
    assert mend in outcome.stdout
    assert why in " ".join(outcome.stdout.split())
    assert outcome.code == (1 if name in ("an old package", "no torch") else 0)
    assert outcome.stderr.count("\n") == outcome.code
    found = json.loads(run_cli(["doctor", "--format", "json"]).stdout)
    assert [one["why"] for one in found["advice"]] == [one.why for one in advice(here)]


def test_the_commands_that_are_advised_exist() -> None:
    every = " ".join(one.mend for changed, _, _ in CASES.values() for one in advice(replace(WELL, **changed)))
    named = set(re.findall(r"r2gengpt (\w+)", every))
    assert named
    assert named <= set(COMMANDS)


def test_this_machine_is_looked_at(run_cli: Run) -> None:
    here = look_around()
    assert not here.wrong
    assert here.torch.fault == ""
    assert "torch" in here.packages
    assert here.extras["train"] == ()
    assert here.machine.memory > here.machine.free > 0
    outcome = run_cli(["doctor"])
    assert outcome.code == 0
    assert max(map(len, outcome.stdout.splitlines())) <= 100


def test_a_torch_that_cannot_be_imported_is_a_fault_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = torch_here()
    assert found.fault.startswith("import of torch halted")
    assert surroundings.machine_of(found).gpus == ()


@pytest.mark.parametrize(
    ("asked", "is_wrong"),
    [("numpy>=1", False), ("numpy>=99", True), ("no-such-package-at-all", True)],
)
def test_a_package_is_wrong_where_it_is_missing_or_of_another_version(asked: str, is_wrong: bool) -> None:
    assert lacks(Requirement(asked)) is is_wrong


def test_a_program_that_is_not_installed_has_no_list_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", not_there)
    assert surroundings.installed() == ({}, (), {})


def test_the_hubs_cache_is_found_by_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "models--stabilityai--stablelm-3b-4e1t").mkdir(parents=True)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub_here() == Hub(str(tmp_path / "hub"), ("stabilityai/stablelm-3b-4e1t",), True)
