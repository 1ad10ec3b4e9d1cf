"""Hostile films at every door: refused or read, in bounded time and memory, and nobody else's loss."""

import hashlib
import pickle
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest

from archive_parts import Kept, film_data, run_all, spool_in, stand_in, states, uid
from batch_parts import NoViews
from conftest import Outcome
from dicom_files import data_of
from dicom_files import film as dicom
from hostile_films import decoy, hostile, many_elements, many_scans, png_bomb, png_of_chunks
from r2gengpt.batch.listing import ImageFile, StudyFiles
from r2gengpt.batch.workers import FilmPixels, decode_shard, decode_study
from r2gengpt.clinical.archive.films import checked_film
from r2gengpt.clinical.archive.loop import Loop
from r2gengpt.clinical.archive.spool import Unreadable
from r2gengpt.errors import InputError, RunError
from r2gengpt.films import reader as images
from r2gengpt.films.cell.pool import close_cell, open_cell
from r2gengpt.films.containers import DicomChoice
from r2gengpt.reporter import Reporter
from r2gengpt.settings import CellConfig
from serving_parts import LONG, client_of, film, upload
from test_serving_api import wait_for
from test_serving_process import Process, number

COUNTS = [12, pytest.param(200, marks=pytest.mark.drill)]
PROMISE = 1 + 2 + 1
"""Seconds from SIGTERM to the end of a server with --drain_timeout 1: the last pass and the watch follow it."""


def films(count: int, seed: int = 15) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [hostile(rng) for _ in range(count)]


@pytest.fixture
def nothing_in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever decodes pixels in this process fails the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded in process")

    for name in ("r2gengpt.films.reader._decode", "r2gengpt.films.dicom.picture.decode_dicom"):
        monkeypatch.setattr(name, refuse)
    yield
    close_cell()


def decoders(of: psutil.Process) -> list[psutil.Process]:
    return [child for child in of.children() if "cell.worker" in " ".join(child.cmdline())]


# ------------------------------------------------------------------ generate


def seconds_of_health(address: str) -> float:
    """How long a server takes to answer that it lives."""
    began = time.monotonic()
    assert httpx2.get(f"{address}/health", timeout=LONG).status_code == 200
    return time.monotonic() - began


@pytest.mark.usefixtures("nothing_in_process")
def test_generate_refuses_each_hostile_film_in_one_line_before_the_model_is_loaded(
    run_cli: Callable[[list[str]], Outcome], tmp_path: Path, without_weights: Path
) -> None:
    for data, words in (
        (many_scans(), "has more than 64 scans"),
        (decoy(), "its compressed frame 20000x20000 pixels"),
        (png_of_chunks(), "has more than 100000 chunks"),
        (many_elements(), "has more than 100000 DICOM elements"),
        (png_bomb(6000, 6000, 6000 * 18001, colour=2), "takes more than 256 MiB to decode (--decode_memory_mb)"),
    ):
        path = tmp_path / "film"
        path.write_bytes(data)
        code, out, err = run_cli(["generate", str(path), "--model", str(without_weights), "--decode_memory_mb", "256"])
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert words in err


@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.drill)])
@pytest.mark.usefixtures("nothing_in_process")
def test_generate_ends_in_one_line_for_every_hostile_film(
    count: int, run_cli: Callable[[list[str]], Outcome], tmp_path: Path, without_weights: Path
) -> None:
    path = tmp_path / "film"
    for data in films(count):
        path.write_bytes(data)
        code, out, err = run_cli(
            ["generate", str(path), "--model", str(without_weights)]
        )  # which is said of readable ones
        assert (code, out, len(err.splitlines())) == (2, "", 1), err


@pytest.mark.usefixtures("nothing_in_process")
def test_generate_reads_its_films_in_the_cell_and_writes_what_it_wrote_in_process(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "front.png", tmp_path / "lateral.jpg"]
    paths[0].write_bytes(film(1))
    paths[1].write_bytes(film(2, "JPEG"))
    asked = ["generate", *map(str, paths), "--model", str(tiny_checkpoint), "--format", "json"]
    there = run_cli(asked)
    assert there.code == 0, there.stderr
    monkeypatch.undo()
    monkeypatch.setattr("r2gengpt.films.cell.pool.load_image", images.load_image)
    assert run_cli(asked).stdout == there.stdout


@pytest.mark.parametrize("flag", [["--decode_seconds", "0"], ["--decode_memory_mb", "10"]])
@pytest.mark.parametrize("door", ["generate x.png", "serve", "batch --input x --output y", "listen --stow http://x"])
def test_limits_of_decoding_are_flags_of_every_door(
    run_cli: Callable[[list[str]], Outcome], door: str, flag: list[str]
) -> None:
    code, _, err = run_cli([*door.split(), *flag])
    assert code == 2
    assert " ".join(flag) in err


# ------------------------------------------------------------------ serve


@pytest.mark.usefixtures("nothing_in_process")
def test_hostile_films_at_the_api_get_a_4xx_or_a_report_and_good_ones_go_on(served: Reporter) -> None:
    with client_of(served, max_megapixels=4) as (client, _):
        wanted = client.post("/v1/reports", files=upload(film())).json()["findings"]
        for path, data in [(path, data) for data in films(12) for path in ("/v1/reports", "/v1/preview")]:
            answer = client.post(path, files=upload(data))
            assert answer.status_code in (200, 400, 413), answer.text
            assert "--" not in answer.headers.get("X-Warning", "")
            if answer.status_code != 200:
                said = answer.json()["error"]["message"]
                assert "--" not in said
                assert "\n" not in said
                assert "Traceback" not in said
        assert client.post("/v1/reports", files=upload(film())).json()["findings"] == wanted
        assert len(decoders(psutil.Process())) <= 2


def test_a_decode_that_hangs_holds_up_neither_health_nor_others_nor_the_end(tiny_checkpoint: Path) -> None:
    limits = ("--decode_seconds", "600", "--drain_timeout", "1")
    with closing(Process("--model", str(tiny_checkpoint), *limits)) as server, ThreadPoolExecutor(2) as pool:
        address = server.address
        assert server.ready.wait(LONG)

        def ask(data: bytes) -> httpx2.Response:
            return httpx2.post(f"{address}/v1/reports", files=upload(data), timeout=LONG)

        assert ask(film()).status_code == 200
        (hanging,) = decoders(psutil.Process(server.process.pid))
        hanging.suspend()
        both = [pool.submit(ask, film()) for _ in range(2)]  # one gets what hangs, the other a new decoder
        wait_for(lambda: any(one.done() for one in both))
        assert [one.result().status_code for one in both if one.done()] == [200]
        assert ask(film()).status_code == 200
        assert any(seconds_of_health(address) < 1 for _ in range(3))  # a busy machine delays one
        assert sorted(one.done() for one in both) == [False, True]
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert server.end(LONG) == 0
        assert time.monotonic() - began < PROMISE + 5  # of a busy machine
        assert not hanging.is_running()
        assert [line for line in server.stderr if "Traceback" in line] == []


@pytest.mark.drill
def test_good_requests_among_two_hundred_hostile_ones_take_no_more_than_twice_their_time(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model has one thread: where its threads take all processors, it waits for decoders after each product."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    long = ("--min_new_tokens", "300", "--max_new_tokens", "300", "--beam_size", "1", "--queue_size", "200")
    hostiles = films(200)  # to the preview: what can be read of them would else be reports, and cost what good ones do
    with closing(Process("--model", str(tiny_checkpoint), *long)) as server, ThreadPoolExecutor(2) as pool:
        address, this = server.address, psutil.Process(server.process.pid)
        assert server.ready.wait(LONG)

        def ask(data: bytes, route: str = "reports") -> tuple[int, float]:
            began = time.monotonic()
            status = httpx2.post(f"{address}/v1/{route}", files=upload(data), timeout=LONG).status_code
            return status, time.monotonic() - began

        def health() -> float:
            began = time.monotonic()
            assert httpx2.get(f"{address}/health", timeout=LONG).status_code == 200
            return time.monotonic() - began

        ask(film())
        quiet = statistics.median(ask(film())[1] for _ in range(5))
        before, asked = this.memory_info().rss, [pool.submit(ask, data, "preview") for data in hostiles]
        good, most, slowest = [], 0, 0.0
        while not all(one.done() for one in asked):
            good.append(ask(film()))
            slowest = max(slowest, health())
            most = max([most, *(one.memory_info().rss for one in decoders(this) if one.is_running())])
        loaded = statistics.median(seconds for _, seconds in good)
        more = (this.memory_info().rss - before) >> 20
        print(f"quiet {quiet:.2f} s, loaded {loaded:.2f} s ({len(good)}), health {slowest:.3f} s")
        print(f"worker {most >> 20} MB, server +{more} MB")
        assert more < 512
        assert {one.result()[0] for one in asked} <= {200, 400, 413}
        assert {status for status, _ in good} == {200}
        assert loaded < 2 * quiet
        assert slowest < 1
        assert most < 2**31
        assert number(httpx2.get(f"{address}/metrics", timeout=LONG).text, "r2gengpt_queue_depth") == 0
        assert [line for line in server.stderr if "rror" in line or "Traceback" in line] == []


# ------------------------------------------------------------------ listen


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.usefixtures("nothing_in_process")
def test_listen_puts_hostile_films_aside_and_reports_the_good_ones(count: int, tmp_path: Path) -> None:
    peer = Kept()
    with spool_in(tmp_path) as spool:
        good, unreadable = [], set()
        for at, data in enumerate(films(count)):
            if at % 4 == 0:
                spool.add(film_data(at))
                good.append(uid(at))
            try:
                spool.add(data)
            except Unreadable:
                unreadable.add(hashlib.sha256(data).digest())
        for one in (decoy(), many_scans()):
            with pytest.raises(InputError):
                checked_film(one)
        spool.add(data_of(dicom(PixelData=b"", StudyInstanceUID=uid(9000))))
        run_all(Loop(spool, stand_in, peer, 0, 8))
        assert set(good) <= set(peer.studies)
        assert 0 < len(unreadable) == len(spool.ledger.films(""))
        assert set(states(spool).values()) <= {"sent", "aside"}


def test_a_decoder_that_hangs_holds_up_the_loop_no_longer_than_it_may(tmp_path: Path) -> None:
    peer = Kept()
    open_cell(CellConfig(decode_seconds=0.3)).warm()
    with spool_in(tmp_path) as spool:
        for one in (1, 2):
            spool.add(film_data(one))
        (worker,) = decoders(psutil.Process())
        checked_film(film_data(3))
        worker.suspend()
        run_all(Loop(spool, stand_in, peer, 0, 8))
        assert sorted(states(spool).values()) == ["aside", "sent"]
        assert len(peer.studies) == 1
    close_cell()


# ------------------------------------------------------------------ batch


@pytest.fixture
def make() -> FilmPixels:
    """What batch makes pixels with, without an image processor."""
    return FilmPixels(NoViews(), DicomChoice())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.usefixtures("nothing_in_process")
def test_a_bulk_run_has_a_row_for_every_hostile_film_and_pixels_of_the_good_ones(
    count: int, tmp_path: Path, make: FilmPixels
) -> None:
    (tmp_path / "good").write_bytes(film())
    for at, data in enumerate(films(count)):
        (tmp_path / "film").write_bytes(data)
        (made, good) = (decode_study(tmp_path, StudyFiles(name, (ImageFile(name, 1, 1),)), make)
                        for name in ("film", "good"))  # fmt: skip
        assert (made.pixels is None) == (made.failure is not None), at
        assert good.pixels is not None


def test_a_machine_that_cannot_decode_stops_its_shard_and_blames_no_study(
    tmp_path: Path, make: FilmPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RunError("the process that decodes images does not start")

    monkeypatch.setattr("r2gengpt.films.cell.pool.Cell.film", refuse)
    (tmp_path / "film").write_bytes(film())
    row = {"shard": 0, "first": 0, "studies": StudyFiles("s", (ImageFile("film", 1, 1),)).line()}
    answer = decode_shard(row, str(tmp_path), pickle.dumps(make))
    assert answer["decoded"] == b""
    assert "does not start" in str(pickle.loads(answer["stop"]))
