"""Training studies whose hints are drawn and whose reports follow them (runs/embedded/rehearse.py)."""

import importlib.util
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from r2gengpt.confidence.findings import Scale, write_scales
from r2gengpt.data.prepare.composing import stated
from r2gengpt.metrics.labels.observations import Label
from r2gengpt.text.observations import ALL_OBSERVATIONS, CHILD, NO_FINDING, OF_THE_FILM

SCRIPT = Path(__file__).parents[1] / "runs" / "embedded" / "rehearse.py"
spec = importlib.util.spec_from_file_location("rehearse", SCRIPT)
rehearse = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rehearse)
ASSESSED = (NO_FINDING, "Edema", "Pleural Effusion", CHILD)


def film(name: str, split: str = "train") -> dict[str, object]:
    labels = {NO_FINDING: 1, "Fracture": 0, CHILD: 1}
    return {
        "id": name,
        "report": "Clear.",
        "image_path": [f"{name}.png"],
        "labels": labels,
        "source": "nih14",
        "split": split,
    }


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    write_scales(tmp_path, [Scale(name, assessed=name in ASSESSED) for name in ALL_OBSERVATIONS])
    path = tmp_path / "annotation.json"
    of_split = {split: [film(f"{split}{n}", split) for n in range(40)] for split in ("train", "val", "test")}
    path.write_text(json.dumps(of_split), encoding="utf-8")
    return path


def add(annotation: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    output = annotation.with_name(f"rehearsed{seed}.json")
    flags = [
        "--annotation",
        str(annotation),
        "--model",
        str(annotation.parent),
        "--output",
        str(output),
        "--seed",
        str(seed),
    ]
    monkeypatch.setattr(sys, "argv", ["rehearse.py", *flags])
    rehearse.main()
    return json.loads(output.read_text(encoding="utf-8"))


def test_only_the_train_split_gets_more_and_keeps_what_it_had(
    annotation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = json.loads(annotation.read_text(encoding="utf-8")), add(annotation, monkeypatch)
    assert (after["val"], after["test"], after["train"][:40]) == (before["val"], before["test"], before["train"])
    added = after["train"][40:]
    assert {study["source"] for study in added} == {"rehearsed"}
    assert {study["image_path"][0] for study in added} <= {study["image_path"][0] for study in before["train"]}
    assert len({study["id"] for study in after["train"]}) == len(after["train"]) > 60


def test_a_report_tells_its_drawn_labels_and_never_a_possible_one(
    annotation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in add(annotation, monkeypatch)["train"][40:]:
        said = stated(study["labels"])
        possible = {name for name, value in study["labels"].items() if value == 0.5}
        of_normal = {"Lung Opacity", "Consolidation"} if study["labels"][NO_FINDING] == 1 else set()  # clear lungs
        assert possible.isdisjoint(said.keys() - of_normal)
        assert all(
            said[name] is Label.POSITIVE for name, value in study["labels"].items() if value == 1 and name in said
        )
        assert study["labels"][CHILD] == 1
        assert "Fracture" in study["labels"] or "fracture" not in study["report"].lower()


def test_most_studies_name_just_what_the_head_assesses_and_all_verdicts_occur() -> None:
    rng = random.Random(0)
    drawn = [rehearse.drawn_labels(ASSESSED, {}, rng) for _ in range(400)]
    names = [set(labels) - {NO_FINDING, *OF_THE_FILM} for labels in drawn]
    assert 0.6 < sum(each == {"Edema", "Pleural Effusion"} for each in names) / len(names) < 0.8
    assert {labels["Edema"] for labels in drawn if "Edema" in labels} == {0.0, 0.5, 1.0}
    assert 0.25 < sum(labels[NO_FINDING] for labels in drawn) / len(drawn) < 0.45


def test_a_seed_decides_what_is_drawn(annotation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (
        add(annotation, monkeypatch),
        add(annotation, monkeypatch),
        add(annotation, monkeypatch, seed=1),
    )
    assert first == again != other
