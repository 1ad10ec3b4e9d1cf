"""The cell that images are decoded in: the same pictures, the same refusals, and an end to what takes too long."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from dicom_files import data_of, film, ramp
from hostile_films import (
    box,
    chunk,
    compressed,
    decoy,
    hostile,
    jp2,
    jpeg,
    many_elements,
    many_scans,
    png,
    png_bomb,
    png_of,
    png_of_chunks,
    real_films,
    siz,
    wavelets,
    with_scans,
)
from r2gengpt.errors import InputError, RunError
from r2gengpt.films import reader as images
from r2gengpt.films.cell import pool as cell
from r2gengpt.films.cell import worker as cell_worker
from r2gengpt.films.cell.pool import Cell, close_cell, open_cell
from r2gengpt.films.cell.process import (
    _LENGTHS,
    BrokenMessage,
    Ended,
    LogLine,
    Reply,
    Request,
    Worker,
    receive,
    reply_of,
    request_of,
)
from r2gengpt.films.containers import MOST_SCANS, MOST_SEGMENTS, DicomChoice
from r2gengpt.films.dicom.header import read_header
from r2gengpt.films.dicom.streams import stream_size
from r2gengpt.settings import CellConfig

PLAIN = DicomChoice()


@pytest.fixture
def ours() -> Iterator[Cell]:
    yield open_cell(CellConfig())
    close_cell()


@pytest.mark.parametrize(
    ("reply", "picture", "length"),
    [
        (Reply(), True, -1),
        (Reply(), False, 0),
        (Reply(refused="is no film"), True, 0),
        (Reply(refused="is no film"), False, 0),
        (Reply(size=(2, 5)), True, 30),
        (Reply(size=(1, 1)), True, 3),
        (Reply(size=(0, 5)), True, -1),
    ],
)
def test_a_reply_is_honest_only_with_the_pixels_that_it_was_asked_for(reply: Reply, picture: bool, length: int) -> None:
    assert cell._bytes_of(reply, Request("image 1", PLAIN, picture=picture)) == length


def ask(where: Cell, data: bytes, name: str = "film") -> Any:
    return where.film(Request(name, PLAIN, 32), data).picture


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "cell.worker" in " ".join(child.cmdline())]


@pytest.mark.parametrize("size", [None, 16])
def test_the_cell_gives_the_picture_that_decoding_in_process_gives(size: int | None, ours: Cell) -> None:
    for data in real_films():
        here = images.decode_image(data, "film", size)
        there = cell.decode_image(data, "film", size)
        assert (there.mode, there.size, there.tobytes()) == (here.mode, here.size, here.tobytes())
    assert len(workers()) == 1  # one after the other, in one process


def test_a_film_that_is_asked_for_again_gives_the_same_pictures(ours: Cell) -> None:
    films = [data_of(film(ramp(640 + 64 * number, 600))) for number in range(3)]
    for data in [*films, png(640), jpeg(640)]:
        for size in (16, 128, 16, None):
            there = ours.film(Request("film", PLAIN, size, header=True), data)
            here = images.decode_image(data, "film", size)
            assert there.picture is not None
            assert (there.picture.size, there.picture.tobytes()) == (here.size, here.tobytes())


def test_the_cell_refuses_in_the_words_and_with_the_field_of_decoding_in_process(ours: Cell) -> None:
    of_two_frames = data_of(film(np.zeros((2, 40, 32), np.uint16)))
    for data in (b"", b"GIF89a", png()[:50], jpeg()[:300], data_of(film(Modality="CT")), of_two_frames):
        errors = []
        for decode in (images.decode_image, cell.decode_image):
            with pytest.raises(InputError) as found:
                decode(data, "some name.png", 32)
            errors.append((str(found.value), found.value.field))
        assert errors[0] == errors[1]


def test_the_header_of_a_film_comes_with_its_picture(ours: Cell) -> None:
    data = data_of(film(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"))
    found = ours.film(Request("film", PLAIN, 16, header=True), data)
    assert found.header == read_header(data, "film")
    assert ours.film(Request("film", PLAIN, 16, header=True), png()).header is None
    assert ours.film(Request("film", PLAIN, 16), data).header is None
    assert ours.film(Request("film", PLAIN, picture=False, header=True), data).picture is None


def test_what_a_worker_warns_of_is_logged_here_and_once(ours: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, int, str]] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda line: lines.append((line.name, line.levelno, line.getMessage())))
    monkeypatch.setattr(logging.getLogger("r2gengpt"), "handlers", [handler])
    name = "a film of test_cell"
    for _ in range(2):
        ask(ours, data_of(film(BurnedInAnnotation="YES")), name)
    words = f"image {name}: says that it has burned-in annotation: it may show the patient's identity"
    assert lines == [("r2gengpt.data", logging.WARNING, words)]


def test_a_decoder_that_hangs_is_ended_in_time_and_replaced() -> None:
    where = open_cell(CellConfig(decode_seconds=0.3), workers=1)
    ask(where, png())
    (hanging,) = workers()
    hanging.suspend()
    began = time.monotonic()
    with pytest.raises(InputError, match=r"^image film: was not decoded within 0.3 seconds \(decode_seconds\)$"):
        ask(where, png())
    assert time.monotonic() - began < 5
    assert not hanging.is_running()
    assert ask(where, png()).size == (64, 64)
    close_cell()


def test_a_worker_that_was_ended_between_two_films_costs_no_film(ours: Cell) -> None:
    ask(ours, png())
    (gone,) = workers()
    gone.kill()
    assert ask(ours, png()).size == (64, 64)


def test_a_film_beyond_the_memory_is_refused_in_one_line_and_the_next_is_read() -> None:
    where = open_cell(CellConfig(decode_memory_mb=256), workers=1)
    large = png_bomb(9000, 8000, 3 * 72_000_000 + 8000, colour=2)
    with pytest.raises(InputError, match=r"^image film: takes more than 256 MiB to decode \(decode_memory_mb\)$"):
        where.film(Request("film", PLAIN), large)
    assert ask(where, png()).size == (64, 64)
    assert len(workers()) == 1
    close_cell()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of CPU time")
def test_a_worker_ends_itself_where_nobody_looks_at_the_clock() -> None:
    code = "import signal; from r2gengpt.films.cell.worker import allow_seconds\nallow_seconds(0.01)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, env={**os.environ, "X": ""})
    assert done.returncode == -signal.SIGXCPU


@pytest.mark.skipif(sys.platform != "linux", reason="limits of CPU time")
def test_a_worker_may_use_its_seconds_and_one_to_be_asked_to_end() -> None:
    code = (
        "import math, resource, time; from r2gengpt.films.cell.worker import allow_seconds\n"
        "before = math.ceil(time.process_time() + 5); allow_seconds(5); after = math.ceil(time.process_time() + 5)\n"
        "assert before + 1 <= resource.getrlimit(resource.RLIMIT_CPU)[0] <= after + 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_libraries_in_a_worker_neither_read_nor_print_into_its_pipes() -> None:
    code = (
        "import os; from r2gengpt.films.cell.worker import own_streams\n"
        "source, sink = own_streams()\n"
        "print('of a library', flush=True); assert os.read(0, 1) == b''\n"
        "sink.write(source.read() + b' back'); sink.flush()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, input=b"asked", stdout=subprocess.PIPE)
    assert done.stdout == b"asked back"


def test_closing_frees_who_waits_for_a_decoder_that_hangs() -> None:
    where = open_cell(CellConfig(), workers=1)
    ask(where, png())
    workers()[0].suspend()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, where, png())
        close_cell()
        with pytest.raises((InputError, RunError)):
            waiting.result(timeout=30)
    assert workers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="environments of processes")
def test_a_worker_has_neither_keys_nor_torch_and_may_write_no_file(ours: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2GENGPT_API_KEYS", "a-key-of-sixteen-signs")
    ask(ours, data_of(film()))
    (worker,) = workers()
    assert "R2GENGPT_API_KEYS" not in worker.environ()
    assert not any("torch" in Path(file.path).parts for file in worker.memory_maps())
    assert worker.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert worker.rlimit(psutil.RLIMIT_AS) == (2**31, 2**31)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_no_worker_outlives_its_parent_however_that_ends() -> None:
    code = (
        "import sys, time; from hostile_films import png; from r2gengpt.films.cell.pool import decode_image\n"
        "decode_image(png(), 'film'); print('up', flush=True); time.sleep(600)"
    )
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (worker,) = psutil.Process(parent.pid).children()
        worker.suspend()  # so that it cannot find out by itself
        parent.kill()
    gone, _ = psutil.wait_procs([worker], timeout=30)
    assert gone == [worker]


FORKED = """
import io, multiprocessing, sys
import numpy as np
from PIL import Image
from r2gengpt.films.cell import pool

def decode(seeds):
    for seed in seeds:
        grey = np.random.default_rng(seed).integers(0, 256, (64, 64)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "PNG")
        got = pool.decode_image(file.getvalue(), "film")
        assert (np.asarray(got)[..., 0] == grey).all(), "the film of another process"

decode([0])
(worker,) = pool.the_cell()._all
context = multiprocessing.get_context("fork")
children = [context.Process(target=decode, args=[range(at, at + 8)], daemon=True) for at in (100, 200)]
children.append(context.Process(target=pool.close_cell, daemon=True))
for child in children:
    child.start()
decode(range(8))
for child in children:
    child.join(60)
print([child.exitcode for child in children], worker.process.poll(), pool.the_cell()._all == {worker})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_ask_workers_of_their_own_and_leave_the_parents_alone() -> None:
    run = [sys.executable, "-c", FORKED]
    try:
        done = subprocess.run(run, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail("they wait for each other's answers")
    assert (done.stdout, done.stderr) == ("[0, 0, 0] None True\n", "")


def test_a_worker_outlives_the_thread_that_wanted_it_first(ours: Cell) -> None:
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask, ours, png()).result()
    assert len(workers()) == 1
    assert workers()[0].is_running()


def test_a_worker_says_that_its_memory_was_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_worker, "decode_image", Mock(side_effect=MemoryError))
    reply, body = cell_worker.answer(Request("film", DicomChoice()), png(), cell_worker._Kept())
    assert (reply, body) == (Reply(no_memory=True), b"")


def test_films_are_decoded_beside_each_other_in_no_more_processes_than_there_are_places(ours: Cell) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda seed: ask(ours, png(64 + seed)).size, range(24)))
    assert found == [(64 + seed, 64 + seed) for seed in range(24)]
    assert len(workers()) <= 2


@pytest.mark.parametrize(
    "change",
    [
        {"size": [64]},
        {"size": [64.0, 64]},
        {"size": "64"},
        {"size": 64},
        {"refused": 4},
        {"refused": []},
        {"log": ""},
        {"log": {}},
        {"log": [{"logger": "x", "level": "high", "words": ""}]},
        {"header": {"study_uid": "1"}},
        {"no_memory": None},
        {"more": 1},
    ],
)
def test_an_answer_of_other_types_than_the_messages_is_taken_for_none(change: dict[str, Any]) -> None:
    sent = json.loads(json.dumps(asdict(Reply((64, 64)))))
    assert reply_of(sent) == Reply((64, 64))
    with pytest.raises(BrokenMessage):
        reply_of({**sent, **change})


@pytest.mark.parametrize("values", [None, [], "text", {}])
def test_an_answer_that_is_no_message_is_taken_for_none(values: Any) -> None:
    with pytest.raises(BrokenMessage):
        reply_of(values)


def test_a_picture_of_another_length_than_its_size_is_refused(ours: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ((9, 9), (-9, -9), (0, 0), None):
        reply = Reply(size), b"\0" * 200
        monkeypatch.setattr("r2gengpt.films.cell.process.Worker.ask", lambda *_, reply=reply: reply)
        with pytest.raises(InputError, match="no picture"):
            ask(ours, png())


def test_scans_are_counted_and_more_than_the_most_are_refused() -> None:
    data = jpeg(progressive=True)
    assert 1 < data.count(b"\xff\xda") < 20
    images.decode_image(with_scans(data, MOST_SCANS), "film")
    for many in (with_scans(data, MOST_SCANS + 1), compressed(with_scans(data, MOST_SCANS + 1), JPEGBaseline8Bit)):
        with pytest.raises(InputError, match=f"has more than {MOST_SCANS} scans"):
            images.decode_image(many, "film")


def test_what_only_looks_like_a_scan_is_not_counted() -> None:
    data, scan = jpeg(progressive=True), b"\xff\xda\0\x08\1\1\0\1\x3f\0"
    last = data.rindex(b"\xff\xda")
    comment = b"\xff\xfe" + (2 + 100 * len(scan)).to_bytes(2) + scan * 100
    wanted = images.decode_image(data, "film").tobytes()
    for other in (data[:last] + comment + data[last:], data + scan * 100):
        assert images.decode_image(other, "film").tobytes() == wanted


def test_scans_cannot_be_hidden_where_a_decoder_skips_a_marker() -> None:
    data = many_scans(200)
    at = data.index(b"\xff\xda") + 20
    for marker in (b"\xff\xd0\xff\xff", b"\xff\x02\xff\xff", b"\xff\0\xff\xff", b"\xff\x01\xff\xff"):
        with pytest.raises(InputError, match="scans"):
            images.decode_image(data[:at] + marker + data[at:], "film")


def test_a_jpeg_2000_stream_is_measured_where_its_decoder_reads_it() -> None:
    whole = wavelets()
    plain = images.decode_image(compressed(whole, JPEG2000Lossless), "film").tobytes()
    around = compressed(jp2(whole, 64, 64), JPEG2000Lossless)
    assert images.decode_image(around, "film").tobytes() == plain
    beside = compressed(jp2(whole, 64, 64, siz(9000, 9000)), JPEG2000Lossless)  # a decoy harms no good film
    assert images.decode_image(beside, "film").tobytes() == plain


def test_a_decoy_before_a_huge_jpeg_2000_stream_is_found_out() -> None:
    huge = siz(20_000, 20_000) + wavelets()[51:]
    long_box = b"\0\0\0\1xml " + (16 + len(siz(64, 64))).to_bytes(8) + siz(64, 64)
    start = jp2(b"", 20_000, 20_000)[: -len(box(b"jp2c", b""))]
    for stream in (jp2(huge, 20_000, 20_000, siz(64, 64)), start + long_box + box(b"jp2c", huge)):
        with pytest.raises(InputError, match="its header says 64x64 pixels of 1 samples, its compressed frame 20000"):
            images.decode_image(compressed(stream, JPEG2000Lossless), "film")
    for stream in (b"\0" * 8 + wavelets(), start, start + box(b"xml ", wavelets()), siz(64, 64)[1:]):
        with pytest.raises(InputError, match=r"is no JPEG 2000 stream|is cut off"):
            images.decode_image(compressed(stream, JPEG2000Lossless), "film")


def test_a_cell_of_the_same_limits_is_used_again() -> None:
    first = open_cell(CellConfig(decode_seconds=20))
    assert cell.cell_with(CellConfig(decode_seconds=20)) is first
    assert cell.cell_with(CellConfig(decode_seconds=30)) is not first


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC])
def test_a_segment_whose_marker_is_of_no_frame_tells_no_size(marker: int) -> None:
    data = jpeg()
    segment = bytes((0xFF, marker)) + b"\0\x0b\x08\0\x05\0\x06\x01\1\x11\0"
    assert stream_size(data[:2] + segment + data[2:], JPEGBaseline8Bit) == stream_size(data, JPEGBaseline8Bit)


def test_a_jpeg_frame_within_dicom_has_one_size() -> None:
    data = jpeg()
    frame = data[data.index(b"\xff\xc0") : data.index(b"\xff\xc4")]
    two = data[:2] + frame + data[2:]
    hidden = data[:2] + b"\xff\xd0" + frame + data[2:]  # a marker without a length, before it
    for stream in (two, hidden):
        with pytest.raises(InputError, match="two headers"):
            images.decode_image(compressed(stream, JPEGBaseline8Bit), "film")


def test_countless_chunks_segments_and_elements_are_refused_without_being_kept() -> None:
    filler = b"\xff\xfe\0\2" * (MOST_SEGMENTS + 1)
    data = jpeg()
    for many in (png_of_chunks(), data[:2] + filler + data[2:], data[:-2] + filler + data[-2:], many_elements()):
        with pytest.raises(InputError, match=r"more than 100000 (chunks|segments|DICOM elements)"):
            images.decode_image(many, "film")
    assert images.decode_image(png_of(64, 64, chunk(b"tEXt", b"a\0b") * 10, png()[33:-12]), "film").size == (64, 64)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.drill)])
def test_hostile_films_are_refused_or_read_within_limits_and_good_ones_go_on(count: int, ours: Cell) -> None:
    rng = np.random.default_rng(15)
    good, wanted = png(), images.decode_image(png(), "film", 32).tobytes()
    for number in range(count):
        data = hostile(rng)
        said = ""
        try:
            ask(ours, data)
        except InputError as error:
            said = str(error)
        assert said.startswith("image film: ") or not said
        assert "\n" not in said
        if number % 10 == 0:
            assert ask(ours, good).tobytes() == wanted
    assert len(workers()) <= 2
    assert all(worker.memory_info().rss < 2**31 for worker in workers())


def test_decoy_and_scans_are_refused_in_the_cell_too(ours: Cell) -> None:
    for data, words in ((decoy(), "its compressed frame 20000x20000"), (many_scans(), "scans")):
        with pytest.raises(InputError, match=words):
            ask(ours, data)


@pytest.mark.skipif(sys.platform == "win32", reason="ends of processes have no signals there")
def test_an_end_of_a_decoder_is_told_by_its_signal_or_its_code() -> None:
    def told(code: int, late: bool = False) -> str:
        worker = SimpleNamespace(process=SimpleNamespace(returncode=code), config=CellConfig(decode_seconds=7.0))
        return str(Worker._end_of(worker, late))  # type: ignore[arg-type]

    assert told(-signal.SIGKILL) == "ended the process that decoded it (SIGKILL)"
    assert told(3) == "ended the process that decoded it (exit code 3)"
    assert told(-signal.SIGXCPU) == told(0, late=True) == "was not decoded within 7 seconds (`decode_seconds`)"


def test_a_message_may_have_as_many_bytes_as_the_most_but_no_more() -> None:
    def sent(length: int, count: int) -> io.BytesIO:
        return io.BytesIO(_LENGTHS.pack(length, count) + b"{}".ljust(length) + bytes(count))

    assert receive(sent(2**20, 3), 3) == ({}, bytes(3))
    for length, count in ((2**20 + 1, 3), (2**20, 4)):
        with pytest.raises(BrokenMessage, match=f"a message of {length} and {count} bytes"):
            receive(sent(length, count), 3)


def test_a_film_may_have_as_many_bytes_as_the_most_but_no_more(ours: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(film(ramp()))
    monkeypatch.setattr(cell, "MAX_BYTES", len(data))
    assert ask(ours, data) is not None
    with pytest.raises(InputError, match=f"is {len(data) + 1} bytes large: at most {len(data)}"):
        ask(ours, data + b"x")


def test_a_message_that_ends_early_or_is_no_json_is_taken_for_none() -> None:
    whole = _LENGTHS.pack(2, 3) + b"{}abc"
    assert receive(io.BytesIO(whole), 3) == ({}, b"abc")
    for broken in (whole[:-1], whole[:9], whole[:5], _LENGTHS.pack(2, 3) + b"{]abc"):
        with pytest.raises(BrokenMessage):
            receive(io.BytesIO(broken), 3)
    with pytest.raises(EOFError):
        receive(io.BytesIO(), 3)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_an_answer_may_have_any_number_of_log_lines(count: int) -> None:
    reply = Reply(log=(LogLine("r2gengpt.data", logging.WARNING, "says little"),) * count)
    assert reply_of(json.loads(json.dumps(asdict(reply)))) == reply


@pytest.mark.parametrize(
    "change", [{"size": "64"}, {"picture": None}, {"choice": {}}, {"choice": None}, {"name": None}]
)
def test_a_request_of_other_types_than_the_messages_is_taken_for_none(change: dict[str, Any]) -> None:
    sent = json.loads(json.dumps(asdict(Request("film", PLAIN, 64))))
    assert request_of(sent) == Request("film", PLAIN, 64)
    with pytest.raises(BrokenMessage):
        request_of({**sent, **change})


def test_twenty_log_lines_of_an_image_are_kept() -> None:
    kept = cell_worker._Kept()
    for number in range(25):
        kept.handle(logging.LogRecord("r2gengpt.data", logging.WARNING, "", 0, "line %d", (number,), None))
    assert kept.lines == [LogLine("r2gengpt.data", logging.WARNING, f"line {number}") for number in range(20)]


def test_an_answer_has_what_was_asked_for_and_no_more() -> None:
    data = data_of(film())
    for picture in (True, False):
        for header in (True, False):
            reply, body = cell_worker.answer(Request("film", PLAIN, None, picture, header), data, cell_worker._Kept())
            assert (reply.size is not None, bool(body), reply.header is not None) == (picture, picture, header)
    reply, _ = cell_worker.answer(Request("film", PLAIN, header=True), png(), cell_worker._Kept())
    assert (reply.size, reply.header) == ((64, 64), None)


def test_a_fault_of_a_decoder_is_told_by_its_place_in_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_worker, "decode_image", Mock(side_effect=ZeroDivisionError))
    reply, body = cell_worker.answer(Request("film", PLAIN), png(), cell_worker._Kept())
    assert (str(reply.refused).startswith("image film: cannot be decoded (ZeroDivisionError"), body) == (True, b"")


def test_headers_and_films_come_through_the_cell_as_in_process(ours: Cell) -> None:
    data = data_of(film(PatientAge="064Y"))
    assert cell.read_header(data, "film") == cell.read_film(data, "film", 32).header == read_header(data, "film")
    with pytest.raises(InputError, match=r"^image film: is not DICOM$"):
        cell.read_header(png(), "film")


def test_a_picture_of_more_pixels_than_a_film_may_have_is_taken_for_none(
    ours: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2gengpt.films.cell.process.MAX_PIXELS", 64 * 64)
    assert ask(ours, png(64)).size == (64, 64)
    with pytest.raises(InputError, match="ended the process that decoded it"):
        ours.film(Request("film", PLAIN), png(65))


@pytest.mark.parametrize("is_used", [True, False])
def test_a_film_that_ends_its_worker_is_tried_again_only_where_an_earlier_one_may_have_harmed_that(
    ours: Cell, monkeypatch: pytest.MonkeyPatch, is_used: bool
) -> None:
    if is_used:
        ask(ours, png())
    real, asked = Worker.ask, []

    def ends_the_first(worker: Worker, *what: Any) -> tuple[Reply, bytes]:
        asked.append(worker)
        if len(asked) == 1:
            worker.end()
            raise Ended("ended the process that decoded it (SIGSEGV)")
        return real(worker, *what)

    monkeypatch.setattr(Worker, "ask", ends_the_first)
    if is_used:
        assert ask(ours, png()).size == (64, 64)
        assert len(set(asked)) == 2
    else:
        with pytest.raises(InputError, match=r"^image film: ended the process that decoded it \(SIGSEGV\)$"):
            ask(ours, png())
        assert ours._all == set()


def test_a_film_outlives_the_end_of_all_workers_that_were_there(ours: Cell) -> None:
    with ours._worker() as one:
        one.ask(Request("film", PLAIN, 32), png())
        ask(ours, png())
    gone = workers()
    assert len(gone) == 2
    for worker in gone:
        worker.kill()
    assert ask(ours, png()).size == (64, 64)


def test_a_worker_whose_cell_is_closed_meanwhile_is_ended_and_no_other_starts(ours: Cell) -> None:
    with ours._worker() as worker:
        ours.close()
    assert worker.process.returncode is not None
    assert worker.process.stdin is not None
    assert worker.process.stdin.closed
    with pytest.raises(RunError, match="images are decoded no more: the program ends"):
        ask(ours, png())


def test_a_worker_that_cannot_be_started_is_told_with_the_systems_words(
    ours: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RunError, match=r"^the process that decodes images cannot be started: No such file"):
        ask(ours, png())


@pytest.mark.skipif(sys.platform != "linux", reason="states of processes")
def test_a_worker_gives_way_to_its_parent_and_gains_no_rights(ours: Cell) -> None:
    ask(ours, png())
    (worker,) = workers()
    assert worker.nice() == min(19, os.nice(0) + 5)
    assert "NoNewPrivs:\t1\n" in Path(f"/proc/{worker.pid}/status").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of CPU time")
def test_a_worker_takes_no_more_seconds_than_its_user_has() -> None:
    code = (
        "import resource; from r2gengpt.films.cell.worker import allow_seconds\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (7, 7)); allow_seconds(100)\n"
        "assert resource.getrlimit(resource.RLIMIT_CPU) == (7, 7)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_worker_has_four_times_its_processor_time_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    where, clocks = open_cell(CellConfig(decode_seconds=7.5)), []

    class Clock(threading.Timer):
        def __init__(self, seconds: float, *rest: Any) -> None:
            clocks.append(seconds)
            super().__init__(seconds, *rest)

    monkeypatch.setattr("threading.Timer", Clock)
    ask(where, png())
    ask(where, png())
    close_cell()
    assert clocks[-2:] == [30.0, 30.0]


def test_a_header_is_read_where_the_pixels_cannot_be(ours: Cell) -> None:
    data = compressed(b"no stream", JPEGBaseline8Bit)
    with pytest.raises(InputError):
        cell.decode_image(data, "film")
    assert cell.read_header(data, "film") == read_header(data, "film")
