"""Bulk runs on Ray: rows equal `generate`'s, a killed run ends as an undisturbed one, bad input ends early."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch_parts import archive, contents, make_stand_in, refuse, run_stand_in, seeded_kill, session_ray
from conftest import Outcome
from r2gengpt.batch import cluster as cluster_room
from r2gengpt.errors import InputError
from r2gengpt.testing import noise_image

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")
PARTS = Path(__file__).with_name("batch_parts.py")
KINDS = ("driver", "actor", "write", "rename", "decoder")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """One Ray for all tests of this file, in this process."""
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
    run_stand_in(source, tmp_path / "whole")
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
    run_stand_in(source, tmp_path / "whole")
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


def test_what_a_worker_refuses_is_refused_in_its_own_words(address: str, tmp_path: Path) -> None:
    source = archive(tmp_path / "in", 2)
    with pytest.raises(InputError, match=r"^--delta x: no such directory$"):
        run_stand_in(source, tmp_path / "out", make=partial(refuse, "--delta x: no such directory"))


def test_films_are_decoded_outside_the_process_of_the_model(address: str, tmp_path: Path) -> None:
    """Ray would otherwise fuse the two stages, and a GPU would wait for JPEG."""
    import ray

    from batch_parts import BytePixels
    from r2gengpt.batch.cluster import Workers
    from r2gengpt.batch.driver import Work, stages
    from r2gengpt.batch.listing import read_listing
    from r2gengpt.batch.plan import settled_plan

    (tmp_path / "out").mkdir()
    listing = read_listing(archive(tmp_path / "in", 3), None, "all")
    plan = settled_plan(tmp_path / "out", listing, {"shard_size": 1})
    work = Work(BytePixels(), make_stand_in, Workers(1, 1, False, 1))
    made = stages(ray, plan, [0, 1, 2], listing.root, work).materialize()
    assert "decode_shard)->" not in made.stats()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("nowhere", "must be HOST:PORT"),
        ("ray://127.0.0.1:10001", "must be HOST:PORT"),
        ("127.0.0.1:1", "--address 127.0.0.1:1: does not answer: Connection refused"),
    ],
)
def test_an_address_without_a_cluster_is_refused_in_one_line(given: str, part: str) -> None:
    with pytest.raises(InputError) as refusal:
        cluster_room.join(None, given)
    assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)


SILENT = """
import sys
from r2gengpt.batch import cluster
cluster.PATIENCE = 3.0
ray = cluster.quiet_ray()
cluster.join(ray, sys.argv[1])
"""


def test_an_address_that_takes_connections_and_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", SILENT, address], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode in (1, 2)
    assert f"--address {address}: no Ray cluster" in done.stderr.splitlines()[-1]


def test_a_cluster_too_small_for_the_actors_is_refused(address: str, tmp_path: Path) -> None:
    source = archive(tmp_path / "in", 2)
    with pytest.raises(InputError, match="--actors 9 --threads 1: need 10 CPUs"):
        run_stand_in(source, tmp_path / "out", actors=9)


def test_a_local_ray_listens_on_loopback_only_and_its_files_are_kept_short(address: str) -> None:
    import psutil

    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in own
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    assert list(Path(tempfile.gettempdir()).glob(f"r2g-{os.getpid()}-*"))
