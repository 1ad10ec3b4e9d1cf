"""The recipes for clusters: their commands parse, and run a step on two CPU processes where the strategy can."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TinySet
from processes import flags
from r2gengpt.config import TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.training.distributed.processes import check_strategy
from test_documentation import ROOT, parse_with, run_script

CLUSTER = ROOT / "runs" / "cluster"
STRATEGIES = ("ddp", "fsdp", "deepspeed_stage_2", "deepspeed_stage_3")
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds its operations for CPUs by g++")
LAUNCHERS = ("slurm.sh", "torchrun.sh")

SRUN = """#!/usr/bin/env bash
shift
export SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_NNODES=1 SLURM_JOB_NAME=r2gengpt SLURM_JOB_ID=$PPID \\
  SLURM_NODELIST=127.0.0.1 SLURM_NODEID=0 MASTER_PORT=$FREE_PORT
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & other=$!
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"
wait $other
"""
"""What SLURM does, on this machine: two tasks that know their number."""


def programs(folder: Path, **scripts: str) -> str:
    """A PATH whose first folder holds these programs."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_recipe_is_a_training_command_for_two_machines_of_eight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    (words,) = run_script(CLUSTER / "train.sh", tmp_path, "--seed", "7", STRATEGY=strategy)
    space = parse_with(monkeypatch, words)
    assert (words[0], space.num_nodes, space.devices, space.strategy) == ("train", 2, "8", strategy)
    assert (space.savedmodel_path, space.seed) == (f"save/mimic_cxr/{strategy}", 7)
    check_strategy(TrainConfig(strategy=space.strategy, devices=space.devices, num_nodes=2))


def test_without_deepspeed_its_strategies_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"deepspeed_stage_3: needs DeepSpeed: pip install '.\[deepspeed\]'"):
        check_strategy(TrainConfig(strategy="deepspeed_stage_3"))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_starts_the_recipe_sixteen_times_over(tmp_path: Path, name: str) -> None:
    """What `srun` and `torchrun` are given; SLURM's own lines ask for the same."""
    record = '#!/usr/bin/env bash\nprintf "%s\\n" "$*" > "$RECORD"\n'
    path = programs(tmp_path / "bin", srun=record, torchrun=record)
    given = {"PATH": path, "RECORD": str(tmp_path / "call"), "HEAD": "node0:29500"}
    subprocess.run(["bash", str(CLUSTER / name), "--seed", "7"], check=True, cwd=ROOT, env=given)
    words = shlex.split((tmp_path / "call").read_text())
    assert words[-4:] == ["bash", "runs/cluster/train.sh", "--seed", "7"]
    if name == "torchrun.sh":
        options = dict(zip(words[:-5:2], words[1:-5:2], strict=True))
        assert (options["--nnodes"], options["--nproc-per-node"]) == ("2", "8")
        assert options["--rdzv-endpoint"] == "node0:29500"
    else:
        asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", (CLUSTER / name).read_text(), re.MULTILINE))
        assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "8", "8")


def step(parts: Path, data: TinySet, output: Path, strategy: str) -> list[str]:
    """Flags that turn the recipe into two steps of a tiny model on CPUs."""
    words = flags(parts, data, output, 1, strategy=strategy, max_epochs=1, limit_val_batches=1,
                  batch_size=2, scorer_types="val_loss", weights=1.0, num_workers=0)  # fmt: skip
    given = dict(zip(words[::2], words[1::2], strict=True))
    del given["--devices"], given["--strategy"]
    return [word for pair in given.items() for word in pair]


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("torchrun.sh", "fsdp"),
        pytest.param("torchrun.sh", "deepspeed_stage_2", marks=[pytest.mark.drill, COMPILER]),
        pytest.param("torchrun.sh", "deepspeed_stage_3", marks=COMPILER),
        pytest.param("slurm.sh", "deepspeed_stage_2", marks=[pytest.mark.drill, COMPILER]),
        pytest.param("slurm.sh", "deepspeed_stage_3", marks=[pytest.mark.drill, COMPILER]),
        pytest.param("torchrun.sh", "ddp", marks=pytest.mark.drill),
        pytest.param("slurm.sh", "ddp", marks=pytest.mark.drill),
        pytest.param("slurm.sh", "fsdp", marks=pytest.mark.drill),
    ],
)
def test_a_recipe_trains_on_two_processes(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, free_port: int, name: str, strategy: str
) -> None:
    program = f'#!/usr/bin/env bash\nexec {sys.executable} -c "from r2gengpt.cli.main import main; main()" "$@"\n'
    torchrun = f'#!/usr/bin/env bash\nexec {sys.executable} -m torch.distributed.run "$@"\n'
    path = programs(tmp_path / "bin", r2gengpt=program, torchrun=torchrun, srun=SRUN)
    given = {"PATH": path, "NODES": "1", "GPUS": "2", "HEAD": "localhost:0", "STRATEGY": strategy}
    done = subprocess.run(
        ["bash", str(CLUSTER / name), *step(tiny_parts, tiny_set, tmp_path / "run", strategy)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=240,
        env={**os.environ, **given, "FREE_PORT": str(free_port)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "run" / "best")]
    assert (tmp_path / "run" / "best" / "delta.safetensors").is_file()


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on just now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
