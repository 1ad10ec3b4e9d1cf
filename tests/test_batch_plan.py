"""What a bulk run reads and how it is fixed in advance: listings, shards, what has changed since. No Ray."""

import csv
import errno
import json
import os
import random
import socket
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_parts import ORIGIN, BytePixels, StandIn, archive, contents, make_stand_in
from conftest import Outcome, TinySet
from dicom_files import film
from r2gengpt.batch import driver as driver_room
from r2gengpt.batch import listing as listing_room
from r2gengpt.batch.cluster import ShardRows, Workers
from r2gengpt.batch.driver import BulkWork, run_batch
from r2gengpt.batch.listing import Listing, StudyFiles, read_listing
from r2gengpt.batch.model import by_views
from r2gengpt.batch.plan import BulkPlan, locked, settled_plan
from r2gengpt.batch.shards import (
    BatchRow,
    Failure,
    Input,
    ShardSummary,
    Totals,
    decoded,
    encoded,
    in_columns,
    json_lines,
    missing_shards,
    read_shard,
    shard_path,
    write_whole,
)
from r2gengpt.batch.summary import Progress
from r2gengpt.batch.workers import Decoded, decode_study, shard_rows
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.reader import decode_image
from r2gengpt.report import Doubt, Finding, Report, Sentence
from r2gengpt.testing import noise_image
from r2gengpt.text.observations import POSSIBLE

SETTINGS = {"format": "jsonl", "shard_size": 4, "beam_size": 3}


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make shards one after the other in this process, as the workers would."""

    def results(plan: BulkPlan, missing: list[int], root: Path, work: BulkWork, on_joined: Any) -> Any:
        on_joined()
        writer = work.make_writer()
        for number in missing:
            shard = plan.shard(number)
            studies = [decode_study(root, study, work.make_pixels) for study in shard.studies]
            lines = json_lines(shard_rows(writer, studies, shard.first))
            yield ShardRows(number, lines, json.dumps(dict(writer.origin)), 1.0)

    monkeypatch.setattr(driver_room, "results", results)


def run(source: Path, output: Path, make: Any = make_stand_in, **changed: Any) -> Path:
    work = BulkWork(BytePixels(), make, Workers(1, 1, False, 1))
    return run_batch(output, lambda: read_listing(source, None, "all"), {**SETTINGS, **changed}, lambda: work)


def records(output: Path) -> list[dict[str, Any]]:
    """All rows of a JSON-lines run in the plan's order."""
    lines = [line for path in sorted((output / "shards").iterdir()) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def ids(listing: Listing) -> list[str]:
    return [study.id for study in listing.studies]


def test_a_folder_is_a_study_for_each_subfolder_and_each_film_beside_them(tmp_path: Path) -> None:
    archive(tmp_path / "in", 2)
    for name in ("alone.png", "b.jpeg", "notes.txt", ".hidden.png"):
        (tmp_path / "in" / name).write_bytes(b"x")
    found = read_listing(tmp_path / "in", None, "all")
    assert ids(found) == ["alone", "b", "study00000", "study00001"]
    assert [image.path for image in found.studies[3].images] == ["study00001/0.png", "study00001/1.png"]
    assert [image.size for image in found.studies[3].images] == [3, 3]


def test_a_dicom_tree_is_grouped_by_study_and_what_is_no_image_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pydicom")
    for name, study, instance in (("a/1", "1.2", "1.2.1"), ("z/2", "1.2", "1.2.2"), ("b", "1.3", "1.3.1")):
        write_dicom(tmp_path / name, StudyInstanceUID=study, SOPInstanceUID=instance)
    write_dicom(tmp_path / "copy", StudyInstanceUID="1.3", SOPInstanceUID="1.3.1")
    write_dicom(tmp_path / "report", pixels=False, StudyInstanceUID="1.4", SOPInstanceUID="1.4.1", Modality="SR")
    (tmp_path / "DICOMDIR.txt").write_bytes(b"none")
    with caplog.at_level("INFO", logger="r2gengpt.batch"):
        found = read_listing(tmp_path, None, "all")
    assert {study.id: [image.path for image in study.images] for study in found.studies} == {
        "1.3": ["b"],
        "1.2": ["a/1", "z/2"],
    }
    for words in ("no image 1", "DICOM without pixels 1", "repeated DICOM instance 1"):
        assert words in caplog.text


@pytest.mark.parametrize("size", [100, 200_000])
def test_a_packed_dicom_film_is_a_study_that_fails_and_not_left_out(size: int, tmp_path: Path) -> None:
    """Its pixels' tag stands in no byte of the file."""
    pytest.importorskip("pydicom")
    meta = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    (tmp_path / "film").write_bytes(b"\0" * 128 + b"DICM" + meta + b"x" * size)
    listing = read_listing(tmp_path, None, "all")
    assert listing.left_out == []
    (failure,) = [decode_study(listing.root, study, pixels_or_error).failure for study in listing.studies]
    assert failure is not None


def test_a_film_that_names_the_deflated_syntax_in_a_value_is_a_view_of_its_study(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    words: dict[str, Any] = {"StudyInstanceUID": "1.2", "StudyDescription": "1.2.840.10008.1.2.1.99"}
    for number in (1, 2):
        write_dicom(tmp_path / str(number), SOPInstanceUID=f"1.2.{number}", **words)
    write_dicom(tmp_path / "report", pixels=False, SOPInstanceUID="1.2.3", Modality="SR", **words)
    listing = read_listing(tmp_path, None, "all")
    assert {study.id: len(study.images) for study in listing.studies} == {"1.2": 2}
    assert [one.why for one in listing.left_out] == ["DICOM without pixels"]


def picture(path: Path, form: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    noise_image(len(path.name)).save(path, form)


def test_films_of_a_folder_are_known_by_their_bytes_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("noext", "scan.jfif", "y.png", "1.2.840.1", "1.2.840.2", "photo.txt"):
        picture(tmp_path / name, "JPEG")
    picture(tmp_path / "study1" / "front.png", "PNG")
    picture(tmp_path / "study1" / "lateral.jfif", "JPEG")
    picture(tmp_path / "study1" / "oblique.dcm", "PNG")
    found = {study.id: [image.path for image in study.images] for study in read_listing(tmp_path, None, "all").studies}
    assert list(found) == ["1.2.840.1", "1.2.840.2", "noext", "photo.txt", "scan", "y", "study1"]
    assert found["study1"] == ["study1/front.png", "study1/lateral.jfif", "study1/oblique.dcm"]


@pytest.mark.parametrize("name", ["lateral.png", "lateral.JFIF", "lateral.jpe", "lateral.dcm"])
def test_what_is_called_a_film_and_is_none_is_a_view_that_fails(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "study1" / "front.png", "PNG")
    (tmp_path / "study1" / name).write_bytes(b"")
    listing = read_listing(tmp_path, None, "all")
    assert listing.left_out == []
    failures = [decode_study(listing.root, study, pixels_or_error).failure for study in listing.studies]
    assert any(failure is not None and f"study1/{name}: is empty" in failure.message for failure in failures)


def pixels_or_error(contents: list[bytes], names: list[str]) -> Any:
    for data, name in zip(contents, names, strict=True):
        decode_image(data, name)
    return np.zeros((len(names), 3, 4, 4), np.float32)


def test_pipes_sockets_devices_and_loops_of_links_hold_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "in"
    picture(place / "a" / "film.png", "PNG")
    os.mkfifo(place / "pipe")
    os.mkfifo(place / "b.png")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(place)  # a socket's path must be short
        listening.bind("door")
        os.chdir(here)
        (place / "a" / "round").symlink_to("..")
        (place / "loop").symlink_to("loop")
        (place / "gone").symlink_to("nowhere")
        (place / ".hidden").write_bytes(b"x")
        with caplog.at_level("INFO", logger="r2gengpt.batch"):
            listing = read_listing(place, None, "all")
    assert [(one.path, one.why) for one in listing.left_out] == [
        (".hidden", "hidden"),
        ("door", "no regular file"),
        ("pipe", "no regular file"),
        ("a/round", "link to a folder"),
    ]
    for words in ("no regular file 2 (door, pipe)", "link to a folder 1 (a/round)", "hidden 1 (.hidden)"):
        assert words in caplog.text
    failed = {study.id: decode_study(listing.root, study, pixels_or_error).failure for study in listing.studies}
    assert {name: failure and failure.message for name, failure in failed.items()} == {
        "a": None,
        "b": "image b.png: is not a regular file",
        "gone": "image gone: No such file or directory",
        "loop": "image loop: Too many levels of symbolic links",
    }


def test_an_input_that_is_a_pipe_or_a_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.csv")
    for path in (tmp_path / "list.csv", Path(os.devnull)):
        with pytest.raises(InputError, match="is no regular file"):
            read_listing(path, None, "all")


def test_all_that_is_left_out_is_named_beside_the_listing_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 2)
    for number in range(9):
        (source / f"<b>note{number}").write_text("no image")
    run(source, tmp_path / "out")
    named = [json.loads(line) for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert named == [{"path": f"<b>note{number}", "why": "no image"} for number in range(9)]
    page = (tmp_path / "out" / "summary.html").read_text()
    names = ", ".join(f"&lt;b&gt;note{number}" for number in range(5))
    assert f"no image 9 ({names} and 4 more)" in page


def write_dicom(path: Path, *, pixels: bool = True, **elements: Any) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    dataset = film(**elements)
    if not pixels:
        del dataset.PixelData
    dataset.save_as(path, enforce_file_format=True)


def test_an_annotation_file_gives_the_studies_of_all_splits_or_of_one(tiny_set: TinySet) -> None:
    every = read_listing(tiny_set.annotation, str(tiny_set.base_dir), "all")
    assert len(every.studies) == 14
    assert ids(read_listing(tiny_set.annotation, None, "test")) == ["test0", "test1", "test2"]
    assert every.root == tiny_set.base_dir.resolve()


def test_a_csv_names_studies_and_their_views_and_other_columns_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="r2gengpt.batch")
    archive(tmp_path, 2)
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["study_id", "image_path", "other"])
        rows.writerow(["x", "study00001/2.png; study00001/1.png", ""])
        rows.writerow(["y", "gone.png", ""])
    found = read_listing(tmp_path / "list.csv", None, "all")
    assert [[image.path for image in study.images] for study in found.studies] == [
        ["study00001/2.png", "study00001/1.png"],
        ["gone.png"],
    ]
    assert found.studies[1].images[0].size == -1
    assert "columns that are not read: other" in caplog.text


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ({}, ".", "input {0}: holds no study"),
        ({"a.txt": "x"}, ".", "input {0}: holds no study"),
        ({}, "no", "input {0}/no: no such file or folder"),
        ({"a.png": "x", "a.jpg": "x"}, ".", "input {0}: id a occurs twice (a.jpg and a.png): must be unique"),
        ({"a.png": "x", "a/0.png": "x"}, ".", "input {0}: id a occurs twice (a.png and a/0.png): must be unique"),
        ({"l.csv": "id,image\na,b\na,c\n"}, "l.csv", "input {0}/l.csv: id a occurs twice (b and c): must be unique"),
        ({"l.csv": "id,image\na,../b\n"}, "l.csv", "input {0}/l.csv: line 2: image path ../b holds '..'"),
        ({"l.csv": "id,image\n,b\n"}, "l.csv", "input {0}/l.csv: line 2: needs an id and at least one image"),
        ({"l.csv": "name\n"}, "l.csv", "input {0}/l.csv: its columns are ['name'], must hold id or study_id, and"),
        ({"l.json": "{"}, "l.json", "input {0}/l.json: not JSON"),
        ({"l.json": "{}"}, "l.json", "input {0}/l.json: holds no study"),
    ],
)
def test_an_input_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, files: dict[str, str], source: str, message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as refusal:
        read_listing(tmp_path / source, None, "all")
    assert str(refusal.value).startswith(message.format(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_folder_that_cannot_be_read_is_refused_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read all, so the refusal of the system is put in its place."""
    archive(tmp_path / "in", 2)
    scan = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("study00001"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=f"^input {tmp_path}/in/study00001: Permission denied$"):
        read_listing(tmp_path / "in", None, "all")


def test_a_run_is_the_same_whether_its_shards_were_made_at_once_or_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 10, bad=(2,))
    run(source, tmp_path / "whole")
    run(source, tmp_path / "out")
    shard = shard_path(tmp_path / "out", 1, "jsonl")
    whole = shard.read_bytes()
    for damage in (None, whole[:-5], whole.replace(b"study00005", b"study00009")):
        shard.unlink() if damage is None else shard.write_bytes(damage)
        run(source, tmp_path / "out")
        assert shard.read_bytes() == whole
    manifests = [(tmp_path / name / "manifest.json").read_text() for name in ("whole", "out")]
    assert manifests[0] == manifests[1]
    told = json.loads(manifests[0])
    assert (told["rows"], told["failed"], len(told["shards"])) == (10, {"image": 1}, 3)
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "10 studies, 1 failed" in page
    assert "study00002/0.png: is no film" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "study00004" / "1.png").write_bytes(b"longer"), "another file (3 bytes then, 6 now)"),
        (
            lambda d: os.utime(d / "study00004" / "1.png", ns=(5, 5)),
            "1.png of study study00004 is another file",
        ),
        (lambda d: (d / "study00004" / "3.png").write_bytes(b"x"), "study study00004 has images study00004/0.png, "),
        (lambda d: (d / "study00004").rename(d / "away"), "study away is new"),
        (lambda d: (d / "zz.png").write_bytes(b"x"), "study zz is new"),
        (lambda d: [path.unlink() for path in (d / "study00009").iterdir()], "study study00009 is gone"),
    ],
)
def test_an_input_that_changed_since_the_start_is_refused_naming_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], message: str
) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 10)
    run(source, tmp_path / "out")
    change(source)
    with pytest.raises(InputError) as refusal:
        run(source, tmp_path / "out")
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("input has changed since the run began: ")


def test_other_settings_than_at_the_start_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 3)
    run(source, tmp_path / "out")
    with pytest.raises(InputError, match=r"^beam_size 1: the run in output .* began with 3"):
        run(source, tmp_path / "out", beam_size=1)
    archive(tmp_path / "other", 3)
    with pytest.raises(InputError, match=r"^base_dir .*other: the run in"):
        run(tmp_path / "other", tmp_path / "out")
    run(source, tmp_path / "named", input=str(source))
    with pytest.raises(InputError, match=r"^input .*other: the run in"):
        run(tmp_path / "other", tmp_path / "named", input=str(tmp_path / "other"))


def test_two_runs_on_one_output_are_refused_and_an_ended_one_is_no_hindrance(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        code = "import sys; from pathlib import Path; from r2gengpt.batch.plan import locked\n"
        again = f"{code}with locked(Path(sys.argv[1])): pass"
        other = subprocess.run(
            [sys.executable, "-c", again, str(tmp_path / "out")], capture_output=True, text=True, check=False
        )
    assert other.returncode == 1
    assert other.stderr.endswith(f"InputError: output {tmp_path / 'out'}: another run is writing there\n")
    with locked(tmp_path / "out"):
        pass


def test_a_directory_with_other_things_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds thesis\.tex and no bulk run"), locked(tmp_path):
        pass


@pytest.mark.parametrize("at", ["listing.jsonl", "plan.json", "part-000001.jsonl", "manifest.json", "summary.html"])
def test_a_full_disk_ends_the_run_in_one_line_and_nothing_half_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 10)
    run(source, tmp_path / "whole")
    sync = os.fsync

    def full(handle: int) -> None:
        if at in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=f"{at}: No space left on device: free some space, then start the same"):
            run(source, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if at in path.name]
    run(source, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()


@pytest.mark.drill
@pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system")
def test_a_disk_that_is_really_full_ends_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    source, small = archive(tmp_path / "in", 200), tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        with pytest.raises(RunError, match="No space left on device"):
            run(source, small / "out")
        assert not list((small / "out").rglob("*.part"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_plan_keeps_no_studies_in_memory(tmp_path: Path) -> None:
    """20,000 studies of 100 bytes and more: 2 MB as lines; where 5,000 shards begin is 40 kB."""
    made = [StudyFiles(f"{number:0100}", (listing_room.ImageFile("a", 1, 1),)) for number in range(20_000)]
    settled_plan(tmp_path, Listing(tmp_path, made), SETTINGS)
    tracemalloc.start()
    plan = BulkPlan(tmp_path, 4)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000
    assert (len(plan), plan.studies) == (5_000, 20_000)
    assert list(plan.shard(4_999).studies) == made[-4:]


def test_shards_that_are_there_are_counted_and_those_missing_named(tmp_path: Path) -> None:
    writer = StandIn()
    rows = shard_rows(writer, [decode_study(tmp_path, StudyFiles("a", ()), lambda *_: None)], 0)  # type: ignore[arg-type, return-value]
    write_whole(shard_path(tmp_path, 1, "jsonl"), [json_lines(rows)])
    found, _ = read_shard(shard_path(tmp_path, 1, "jsonl"), "jsonl")
    totals = Totals()
    assert list(missing_shards(tmp_path, "jsonl", [["x"], ["a"], ["y"]], totals)) == [0, 2]
    assert (totals.rows, found.ids) == (1, ("a",))
    assert json.loads(shard_path(tmp_path, 1, "jsonl").read_text())["provenance"]["model"] == ORIGIN["model"]


def test_batches_are_of_studies_with_as_many_views() -> None:
    studies = [Decoded(str(views), (), np.zeros((views, 3, 2, 2), np.float32)) for views in (2, 1, 3, 1, 2)]
    assert by_views(studies) == [1, 3, 0, 4, 2]


def test_progress_tells_rate_time_left_and_failures_by_kind() -> None:
    time = iter([0.0, 10.0, 20.0])
    progress = Progress(100, Totals(rows=10), lambda: next(time))
    progress.begin()
    progress.add(ShardSummary(("a",) * 20, Counter(image=1), ()), 5.0)
    progress.add(ShardSummary(("b",) * 40, Counter(file=1, image=1), ()), 10.0)
    assert progress.line() == "70 of 100 studies, 4 a second, 0:00:08 left, failed: image 2, file 1"


@pytest.mark.parametrize(("studies", "writers"), [(100, 1), (1000, 1), (1000, 3)])
def test_the_time_left_is_right_within_a_fifth_from_a_tenth_of_the_run_on(studies: int, writers: int) -> None:
    """Forty seconds go before the first shard is begun; shards of ten then take 20 seconds, give or take a fifth."""
    draw, free, now, ends = random.Random(0), [40.0] * writers, 0.0, list[tuple[float, float]]()
    for _ in range(studies // 10):
        took, at = 20 * draw.uniform(0.8, 1.2), free.index(min(free))
        free[at] += took
        ends.append((free[at], took))
    progress, end = Progress(studies, Totals(), lambda: now), max(free)
    progress.begin()
    progress.joined(writers, 10)
    for number, (now, took) in enumerate(sorted(ends), 1):  # the clock reads `now`
        progress.add(ShardSummary(("a",) * 10, Counter(), ()), took)
        if number >= studies // 100 and end - now > 20 * writers:  # less is a matter of who has the last shard
            assert progress.left == pytest.approx(end - now, rel=0.2), number


def test_models_that_wait_for_films_are_not_taken_to_be_as_fast_as_they_write() -> None:
    time = iter([0.0, 10.0, 30.0, 50.0])
    progress = Progress(40, Totals(), lambda: next(time))
    progress.begin()
    for _ in range(3):
        progress.add(ShardSummary(("a",) * 10, Counter(), ()), 5.0)  # and then 15 seconds of nothing
    assert progress.left == 20.0


def test_the_command_refuses_what_it_cannot_do(run_cli: Callable[[list[str]], Outcome], tmp_path: Path) -> None:
    for flags, message in (
        ([], "--input is missing"),
        (["--input", "x"], "--output is missing"),
        (
            ["--input", "x", "--output", "y", "--speculate", "True", "--beam_size", "1"],
            "--speculate True: drafts",
        ),
        (
            ["--input", "x", "--output", "y", "--address", "a:1", "--decode_workers", "2"],
            "--decode_workers 2: on a",
        ),
        (["--input", "x", "--output", "y", "--format", "xml"], "--format xml: choose from jsonl, parquet"),
        (["--input", str(tmp_path / "x"), "--output", str(tmp_path / "y")], "x: no such file or folder"),
    ):
        done = run_cli(["batch", *flags])
        assert (done.code, done.stdout) == (2, "")
        assert message in done.stderr.splitlines()[-1]


def test_a_study_that_cannot_be_written_is_a_row_and_its_neighbours_are_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 12)
    run(source, tmp_path / "whole")
    run(source, tmp_path / "out", make=partial(make_stand_in, broken=("study00003",)))
    whole, rows = records(tmp_path / "whole"), records(tmp_path / "out")
    assert rows[3]["error"] == {"kind": "report", "message": "ValueError: cannot write study00003"}
    assert [row for row in rows if row["id"] != "study00003"] == [row for row in whole if row["id"] != "study00003"]


def test_a_model_that_writes_nothing_ends_the_run_and_leaves_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 4)
    every = tuple(f"study{number:05d}" for number in range(4))
    with pytest.raises(RunError, match="no report of any of 4 studies, first: ValueError: cannot write study00000"):
        run(source, tmp_path / "out", make=partial(make_stand_in, broken=every))
    assert not list((tmp_path / "out").rglob("part-*"))


def test_a_batch_of_parquet_holds_the_rows_of_json_lines_and_its_bytes_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 25, bad=(1,))
    run(source, tmp_path / "lines")
    for name in ("one", "two"):
        run(source, tmp_path / name, format="parquet")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    files = sorted((tmp_path / "one" / "shards").iterdir())
    rows = [row for path in files for row in pyarrow.parquet.read_table(path).to_pylist()]
    for row, line in zip(rows, records(tmp_path / "lines"), strict=True):
        assert {name: row[name] for name in ("id", "report", "confidence", "error")} == {
            name: line[name] for name in ("id", "report", "confidence", "error")
        }
        assert json.loads(row["provenance"]["decode"]) == {"beam_size": 1}


def test_parquet_loses_no_member_of_a_row() -> None:
    made = {"model": "m", "model_sha256": "0" * 64, "decode": {"beam_size": 1}, "versions": {"python": "3"}}
    made |= {"writer": "retrieve", "sentences_sha256": "1" * 64}
    sentence = Sentence("Clear.", 2, -0.5, 0.5, 0.9, needs_review=True, reason="the film denies it", source="s1")
    report = Report(
        "a", "Clear.", sentences=(sentence,), findings=(Finding("Edema", 0.5, (0.4, 0.6), POSSIBLE),),
        doubts=(Doubt(1, "inverted", "looks inverted"),), review=("film 1 looks inverted",),
    )  # fmt: skip
    rows = [
        BatchRow("a", report, (Input("a.png", "2" * 64),), made, note="two patients"),
        BatchRow("b", None, (Input("b.png", None),), made, Failure("file", "no such file")),
    ]
    lines = json_lines(rows)
    for found, line in zip(decoded(encoded(lines, "parquet"), "parquet"), decoded(lines, "jsonl"), strict=True):
        assert without_nulls(found) == without_nulls(in_columns(line))


def without_nulls(value: Any) -> Any:
    """A record without the members that it has not got, which stand as nulls in Parquet."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(one) for name, one in value.items() if one is not None}


def test_a_shard_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    source = archive(tmp_path / "in", 3)
    run(source, tmp_path / "out", shard_size=2)
    origin = tmp_path / "out" / "origin.json"
    origin.write_text(origin.read_text().replace("0" * 64, "1" * 64))
    (tmp_path / "out" / "shards" / "part-000001.jsonl").unlink()
    with pytest.raises(RunError, match="model_sha256 is 0000"):
        run(source, tmp_path / "out", shard_size=2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [emptied, made_a_folder, Path.unlink])
@pytest.mark.parametrize("name", ["plan.json", "listing.jsonl", "origin.json"])
def test_a_run_whose_own_files_are_damaged_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Callable[[Path], None]
) -> None:
    without_ray(monkeypatch)
    run(archive(tmp_path / "in", 6), tmp_path / "out")
    damage(tmp_path / "out" / name)
    shards = contents(tmp_path / "out" / "shards")
    with pytest.raises(InputError, match=f"^output .*{name}.*: start anew elsewhere$"):
        run(tmp_path / "in", tmp_path / "out")
    assert contents(tmp_path / "out" / "shards") == shards


@pytest.mark.parametrize("settings", ['"x"', "[1]", "null", "3"])
def test_a_plan_whose_settings_are_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    without_ray(monkeypatch)
    run(archive(tmp_path / "in", 6), tmp_path / "out")
    (tmp_path / "out" / "plan.json").write_text(f'{{"settings": {settings}, "listing_sha256": "y"}}')
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("name", ["shards", "shards/part-000000.jsonl", "shards/part-000009.jsonl"])
def test_what_stands_in_the_place_of_shards_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without_ray(monkeypatch)
    run(archive(tmp_path / "in", 6), tmp_path / "out")
    place = tmp_path / "out" / name
    if name == "shards":
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
        place.write_text("x")
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    if name.endswith("9.jsonl"):  # no shard of this run
        run(tmp_path / "in", tmp_path / "out")
        return
    with pytest.raises(RunError, match=f"^output .*{name}"):
        run(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("data", [None, b"half a sh"])
def test_a_shard_that_goes_while_a_run_goes_on_ends_it_in_one_line_and_is_made_again(
    form: str, data: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    made = driver_room.results

    def results(*given: Any) -> Any:
        yield from made(*given)
        first = shard_path(tmp_path / "out", 0, form)
        first.unlink() if data is None else first.write_bytes(data)

    monkeypatch.setattr(driver_room, "results", results)
    source = archive(tmp_path / "in", 9)
    with pytest.raises(RunError, match=r"part-000000.*: start the same command again"):
        run(source, tmp_path / "out", format=form)
    monkeypatch.setattr(driver_room, "results", made)
    assert json.loads(run(source, tmp_path / "out", format=form).read_text())["rows"] == 9


def test_what_lies_among_temporary_files_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_room.tempfile, "gettempdir", lambda: str(tmp_path))
    never = 2**31  # the number of no process
    (tmp_path / f"r2g-{never}-left").mkdir()
    (tmp_path / f"r2g-{never}-link").symlink_to(tmp_path / "nowhere")
    (tmp_path / f"r2g-{os.getpid()}-alive").mkdir()
    driver_room.sweep_dead()
    assert {path.name for path in tmp_path.iterdir()} == {f"r2g-{never}-link", f"r2g-{os.getpid()}-alive"}


def test_an_image_that_a_study_names_twice_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "s.csv").write_text("id,image_path\na,0.png;0.png\nb,1.png;2.png\n")
    with caplog.at_level("INFO", logger="r2gengpt.batch"):
        assert ids(read_listing(tmp_path / "s.csv", None, "all")) == ["a", "b"]
    assert "1 studies name an image twice (a): each counts as a view" in caplog.text
