"""Which films of a source are measured (runs/embedded/draw.py)."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "runs" / "embedded" / "draw.py"


def drawn(directory: Path, *names: str, flags: Sequence[str] = ()) -> dict[str, list[str]]:
    """The ids that stay of these studies of one source, and of one of another, in each split."""
    studies = [{"id": name, "source": "many"} for name in names]
    splits = {split: [{"id": "alone", "source": "few"}, *studies] for split in ("train", "val", "test")}
    (directory / "all.json").write_text(json.dumps(splits))
    words = [
        "--annotation",
        "all.json",
        "--output",
        "few.json",
        "--source",
        "many",
        "--val",
        "3",
        "--test",
        "2",
        *flags,
    ]
    subprocess.run([sys.executable, str(SCRIPT), *words], cwd=directory, check=True, capture_output=True)
    return {
        split: [one["id"] for one in rows] for split, rows in json.loads((directory / "few.json").read_text()).items()
    }


def test_the_same_studies_stay_whatever_their_order_and_other_sources_stay_whole(tmp_path: Path) -> None:
    names = [f"film{number}" for number in range(9)]
    found, other = drawn(tmp_path, *names), drawn(tmp_path, *reversed(names))
    assert [len(found[split]) for split in ("train", "val", "test")] == [10, 4, 3]
    assert all("alone" in rows for rows in found.values())
    assert {split: set(rows) for split, rows in found.items()} == {split: set(rows) for split, rows in other.items()}
    assert set(found["test"]) < set(found["val"])


def test_training_studies_are_drawn_where_it_is_asked_for(tmp_path: Path) -> None:
    names = [f"film{number}" for number in range(9)]
    every, some = drawn(tmp_path, *names), drawn(tmp_path, *names, flags=["--train", "4"])
    assert len(some["train"]) == 5
    assert set(every["val"]) < set(some["train"]) < set(every["train"])
    assert (some["val"], some["test"]) == (every["val"], every["test"])
