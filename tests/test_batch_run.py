"""Bulk runs on Ray: rows equal `generate`'s, a killed run ends as an undisturbed one, bad input ends early."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from batch_parts import InStep, archive, contents, refuse, run_stand_in, seeded_kill, session_ray
from conftest import Outcome
from r2gengpt.batch import driver as driver_room
from r2gengpt.errors import InputError
from r2gengpt.testing import noise_image

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
PARTS = Path(__file__).with_name("batch_parts.py")
KINDS = ("driver", "actor", "write", "rename", "decoder")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """One Ray for the tests of this file."""
    with session_ray() as found:
        yield found


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 drawn studies of one to three views, one of them broken."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(20):
        (folder / f"s{number:02d}").mkdir()
        for view in range(1 + number % 3):
            noise_image(3 * number + view).save(folder / f"s{number:02d}" / f"{view}.png")
    (folder / "s07" / "0.png").write_bytes(b"no film")
    return folder


def start(source: Path, output: Path, address: str, kill: str = "") -> subprocess.CompletedProcess[str]:
    """A driver of its own over stand-ins, which ends by itself or is killed as planned."""
    return subprocess.run(
        [sys.executable, str(PARTS), str(source), str(output), address], capture_output=True, text=True, check=False,
        env={**os.environ, "KILL": kill}, timeout=120,
    )  # fmt: skip


def records(output: Path) -> list[dict[str, Any]]:
    """All rows of a JSON-lines run in the plan's order."""
    lines = [line for path in sorted((output / "shards").iterdir()) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_of_twenty_studies_every_third_is_compared_with_generate_and_a_bad_one_is_a_row(
    address: str, films: Path, tiny_checkpoint: Path, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    output = tmp_path / "out"
    flags = [
        "--input",
        str(films),
        "--output",
        str(output),
        "--delta",
        str(tiny_checkpoint),
        "--batch_size",
        "3",
        "--threads",
        "1",
        "--address",
        address,
    ]
    done = run_cli(["batch", *flags])
    assert (done.code, done.stdout) == (0, f"{output / 'manifest.json'}\n"), done.stderr
    rows = records(output)
    assert [row["id"] for row in rows] == sorted(path.name for path in films.iterdir())
    for row in rows:
        if row["id"] == "s07":
            assert row["report"] is None
            assert row["error"] == {
                "kind": "image",
                "message": "image s07/0.png: is not a PNG or JPEG image, nor DICOM",
            }
            continue
        assert row["error"] is None
        if int(str(row["id"])[1:]) % 3:
            continue
        views = sorted((films / str(row["id"])).iterdir())
        one = run_cli(["generate", *map(str, views), "--model", str(tiny_checkpoint), "--format", "json"])
        expected = json.loads(one.stdout)
        assert row["report"] == expected["report"]
        assert row["tokens"] == expected["tokens"]
        assert row["logprob"] == pytest.approx(expected["logprob"], abs=1e-4)  # float32 sums in another batch
        provenance = row["provenance"]
        assert isinstance(provenance, dict)
        assert [one["path"] for one in provenance["inputs"]] == [f"{row['id']}/{path.name}" for path in views]
        assert len(provenance["model_sha256"]) == len(provenance["delta_sha256"]) == 64
    assert "20 studies written" in done.stderr
    assert "failed: image 1" in done.stderr
    assert run_cli(["batch", *flags]).stdout == done.stdout
    refused = run_cli(["batch", *flags, "--beam_size", "2"])
    assert refused.code == 2
    assert "--beam_size 2: the run in" in refused.stderr
    assert "began with 3" in refused.stderr


def test_a_run_killed_three_times_ends_as_an_undisturbed_one(address: str, tmp_path: Path) -> None:
    """Within half a write, then the driver between two, then the model's actor, each at a seeded moment."""
    source = archive(tmp_path / "in", 60, bad=(5, 41))
    run_stand_in(source, tmp_path / "whole", address)
    output = tmp_path / "out"
    for seed, kind in ((1, "write"), (2, "driver")):
        done = start(source, output, address, seeded_kill(seed, (kind,), 60, 4))
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (output / "manifest.json").exists()
    last = Path(f"{output}.killed")
    assert start(source, output, address, "actor:59").returncode == 0  # its shard is made anew by another actor
    assert last.exists()
    assert contents(output) == contents(tmp_path / "whole")


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(20))
def test_twenty_seeded_kills_over_three_hundred_studies(address: str, tmp_path: Path, seed: int) -> None:
    source = archive(tmp_path / "in", 300, bad=(7, 150, 299))
    run_stand_in(source, tmp_path / "whole", address)
    kinds = (*KINDS, "node")
    kill = seeded_kill(seed, kinds, 300, 30)
    where = "local" if kill.startswith("node") else address
    done = start(source, tmp_path / "out", where, kill)
    if kill.startswith(("actor", "decoder")):
        assert Path(f"{tmp_path / 'out'}.killed").exists(), kill
    else:
        assert done.returncode != 0, kill
        assert not (tmp_path / "out" / "manifest.json").exists()
        assert start(source, tmp_path / "out", where).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_shard_is_written_when_it_is_finished_and_not_when_the_next_one_is(address: str, tmp_path: Path) -> None:
    """Ray's `iter_rows` held it back for as long: a kill lost it, and the time left was of the shard before."""
    source, output = archive(tmp_path / "in", 6), tmp_path / "out"
    run_stand_in(source, output, address, make=partial(InStep, output / "shards"), shard_size=2)
    assert len(records(output)) == 6


def test_what_a_worker_refuses_is_refused_in_its_own_words(address: str, tmp_path: Path) -> None:
    source = archive(tmp_path / "in", 2)
    with pytest.raises(InputError, match=r"^delta x: no such directory$"):
        run_stand_in(source, tmp_path / "out", address, make=partial(refuse, "delta x: no such directory"))


STAGES = """
import pickle, sys
from pathlib import Path
import ray
from batch_parts import BytePixels, make_stand_in
from r2gengpt.batch.cluster import ClusterJob, Workers, joined, stages
from r2gengpt.batch.listing import read_listing
from r2gengpt.batch.plan import settled_plan
listing = read_listing(Path(sys.argv[1]), None, "all")
plan = settled_plan(Path(sys.argv[2]), listing, {"shard_size": 1})
makers = pickle.dumps(BytePixels()), pickle.dumps(make_stand_in)
rows = [plan.shard(number).row() for number in range(3)]
job = ClusterJob(rows, listing.root, *makers, Workers(1, 1, False, 1), sys.argv[3])
with joined(job, "") as workers:
    print(stages(job, workers).materialize().stats())
"""


def test_films_are_decoded_outside_the_process_of_the_model(address: str, tmp_path: Path) -> None:
    """Ray would otherwise fuse the two stages, and a GPU would wait for JPEG."""
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", STAGES, str(archive(tmp_path / "in", 3)), str(tmp_path / "out"), address]
    stats = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "Map(decode_shard)" in stats
    assert "decode_shard)->" not in stats


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("nowhere", "must be HOST:PORT"),
        ("ray://127.0.0.1:10001", "must be HOST:PORT"),
        ("127.0.0.1:1", "address 127.0.0.1:1: does not answer: Connection refused"),
    ],
)
def test_an_address_without_a_cluster_is_refused_in_one_line(given: str, part: str) -> None:
    with pytest.raises(InputError) as refusal:
        driver_room.check_address(given)
    assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_address_that_takes_connections_and_says_nothing_is_given_up_in_time(
    films: Path, tiny_checkpoint: Path, tmp_path: Path, run_cli: Callable[[list[str]], Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(driver_room, "PATIENCE", 1.0)
    flags = ["--input", str(films), "--output", str(tmp_path / "out"), "--delta", str(tiny_checkpoint)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = run_cli(["batch", *flags, "--address", address])
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"r2gengpt batch: --address {address}: no Ray cluster there")


def test_a_cluster_too_small_for_the_actors_is_refused(address: str, tmp_path: Path) -> None:
    source = archive(tmp_path / "in", 2)
    with pytest.raises(InputError, match="actors 9 threads 1: need 10 CPUs"):
        run_stand_in(source, tmp_path / "out", address, actors=9)


@pytest.mark.parametrize(
    ("kill", "code"), [("end:1", 130), pytest.param("driver:1", -signal.SIGKILL, marks=pytest.mark.drill)]
)
def test_a_ray_of_its_own_stays_on_loopback_prints_nothing_and_ends_with_the_program(
    kill: str, code: int, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ADDRESS", address)  # of another one, which is not meant
    monkeypatch.setenv("TMPDIR", str(short := Path(tempfile.mkdtemp(dir="/tmp"))))  # Ray's sockets need short paths
    done = start(archive(tmp_path / "in", 30), tmp_path / "out", "local", kill)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    told = json.loads(Path(f"{tmp_path / 'out'}.processes").read_text())
    assert told["listening"]
    assert [ip for ip in told["listening"] if not ip_address(ip.removeprefix("::ffff:")).is_loopback] == []
    assert len(told["processes"]) > 5
    until = time.monotonic() + 30
    while left := [number for number in told["processes"] if running(number)]:
        assert time.monotonic() < until, left
    assert not list(short.iterdir()) or kill.startswith("driver")
    shutil.rmtree(short)


def running(process: int) -> bool:
    """Whether there is such a process that has not ended yet."""
    status = Path(f"/proc/{process}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
