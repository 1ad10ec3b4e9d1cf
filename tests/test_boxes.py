"""Boxes of an annotation, and how much of the evidence maps lies in them."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Outcome, TinySet
from r2gengpt.confidence.maps import Evidence, SentenceEvidence, kept_box, whole_film
from r2gengpt.data.annotation import read_annotation, write_annotation
from r2gengpt.data.boxes import Marked, read_boxes
from r2gengpt.data.prepare.films import prepare_films
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.boxes import covered, measured_boxes
from r2gengpt.metrics.table import score_table
from r2gengpt.report import Finding
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import POSSIBLE
from report_pages import PREDICTIONS, Page, scores_of, written

EDEMA = Marked("Edema", 0.5, 0.0, 0.5, 0.5)
"""The upper right quarter."""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 128), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def maps(text: str, *values: float, name: str = "a") -> Evidence:
    return Evidence(name, "occlusion", (2, 2), (SentenceEvidence(text, values, 1.0, 0.0, "evidence"),))


def test_boxes_come_back_from_an_annotation(tmp_path: Path) -> None:
    study = Study("a", (Path("a.png"),), "r", "val", labels={"Edema": 1}, boxes=(EDEMA,))
    write_annotation(tmp_path / "a.json", {"val": [study, replace(study, id="b", boxes=())]})
    first, second = read_annotation(tmp_path / "a.json", tmp_path, ["val"])["val"]
    assert (first.boxes, second.boxes) == ((EDEMA,), ())
    assert "boxes" not in json.loads((tmp_path / "a.json").read_text())["val"][1]


def test_a_box_may_have_the_name_of_nih() -> None:
    assert read_boxes([["Infiltrate", 0, 0, 1, 0.5]], "x") == (Marked("Lung Opacity", 0.0, 0.0, 1.0, 0.5),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"Edema": 1}, "must be a list"),
        ([["Edema", 0, 0, 1]], "must be .observation, left"),
        ([["Edema", 0, 0, 1, "x"]], "must be .observation, left"),
        ([["Edema", 100, 600, 200, 200]], "shares of the film"),
        ([["Edema", 0.5, 0, 0.6, 0.1]], "shares of the film"),
        ([["Edema", 0, 0, 0, 0.1]], "shares of the film"),
        ([["Edemma", 0, 0, 1, 1]], "did you mean Edema"),
    ],
)
def test_a_box_that_is_none_is_named(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"study 3: .*{words}"):
        read_boxes(value, "study 3")


def test_prepared_films_keep_their_boxes_as_shares(tmp_path: Path) -> None:
    rows = [
        'a.png,nih14,Pneumonia,"[[""Pneumonia"", 512, 256, 256, 128]]",,',
        'b.png,,Edema,"[[""Edema"", 10, 10, 20, 20], [""Edema"", 90, 0, 20, 20]]",100,200',
        'c.png,,Edema,"[[""Edema"", 10, 10, 20, 20]]",,',
    ]
    (tmp_path / "t.csv").write_text("\n".join(["image,source,labels,boxes,width,height", *rows]) + "\n")
    prepare_films(tmp_path / "t.csv", tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    boxes = {one["id"]: one.get("boxes") for split in content.values() for one in split}
    assert boxes["a"] == [["Pneumonia", 0.5, 0.25, 0.25, 0.125]]
    assert boxes["b"] == [["Edema", 0.1, 0.05, 0.2, 0.1]], "the other one reaches off the film"
    assert boxes["c"] is None, "of how many pixels is not known"


def test_a_cell_is_covered_as_far_as_boxes_reach(film: Path) -> None:
    study = Study("a", (film,), boxes=(EDEMA, Marked("Fracture", 0.25, 0.25, 0.5, 0.5)))
    cover = covered(study, (2, 2), whole_film)
    assert cover["Edema"].tolist() == [0, 1, 0, 0]
    assert cover["Fracture"].tolist() == [0.25] * 4
    both = covered(replace(study, boxes=(EDEMA, EDEMA)), (2, 2), whole_film)
    assert both["Edema"].max() == 1.0


def test_boxes_lie_on_the_part_of_the_film_that_is_seen(film: Path) -> None:
    crop = SimpleNamespace(do_center_crop=True, size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    cover = covered(Study("a", (film,), boxes=(Marked("Edema", 0.5, 0.0, 0.25, 1.0),)), (2, 2), partial(kept_box, crop))
    assert cover["Edema"].tolist() == [0, 1, 0, 1], "the middle half of a film twice as wide as high"


def test_the_share_of_maps_in_the_box_stands_beside_chance(film: Path) -> None:
    studies = [Study(name, (film,), boxes=(EDEMA,)) for name in "abc"]
    found = measured_boxes(
        [
            maps("Mild edema.", 1.0, 3.0, 0.0, -9.0),
            maps("There is edema.", -1.0, -1.0, 0.0, 0.0, name="b"),
            maps("No edema.", 0.0, 1.0, 0.0, 0.0, name="c"),
        ],
        studies,
        whole_film,
    )
    assert found["n"] == 2, "what is denied is not looked for"
    assert (found["mass"]["value"], found["peak"]["value"], found["chance"]["value"]) == (0.375, 0.5, 0.25)
    assert found["by_observation"].keys() == {"Edema"}
    assert measured_boxes([maps("Pneumothorax.", 0, 1, 0, 0)], studies, whole_film) == {}
    assert measured_boxes([maps("Edema.", 0, 1, 0, 0)], [replace(studies[0], boxes=())], whole_film) == {}


def test_terminal_and_page_show_how_much_lies_in_boxes(film: Path, tmp_path: Path) -> None:
    boxes = measured_boxes([maps("Mild edema.", 1.0, 3.0, 0.0, 0.0)], [Study("a", (film,), boxes=(EDEMA,))], whole_film)
    scores = replace(scores_of(PREDICTIONS), findings={"boxes": boxes})
    assert "1 maps: mass 0.750, peak 1.000, chance 0.250" in score_table(scores)
    page = Page(written(tmp_path, content=scores.to_json()))
    assert [row[:2] for row in page.tables["Evidence maps in the boxes"][1:]] == [["all", "1"], ["Edema", "1"]]


def test_a_test_writes_findings_text_and_boxes_into_scores_and_page(
    tiny_checkpoint: Path,
    tiny_set: TinySet,
    run_cli: Callable[[list[str]], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    content = json.loads(tiny_set.annotation.read_text())
    for record in content["test"]:
        record |= {"labels": {"Edema": 1, "No Finding": 0}, "boxes": [["Edema", 0, 0, 0.5, 0.5]], "source": "drawn"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    findings = tuple(Finding(name, 0.5, (0.1, 0.9), POSSIBLE) for name in ("No Finding", "Edema"))
    monkeypatch.setattr(
        Reporter,
        "judged",
        lambda self, report, facts=(): replace(report, text="Mild edema.", sentences=(), findings=findings),
    )
    argv = ["test", "--model", str(tiny_checkpoint), "--annotation", str(tmp_path / "a.json"), "--evidence", "True"]
    outcome = run_cli([*argv, "--output", str(tmp_path / "out")])
    assert outcome.code == 0, outcome.stderr
    found = json.loads((tmp_path / "out/scores.json").read_text())["findings"]
    assert found["text"]["by_source"]["drawn"]["abnormal"] == {"n": 3, "called_so": 3}
    assert found["head"]["all"]["observations"]["Edema"] == {"positive": 3, "negative": 0}
    assert found["head"]["calibration"]["brier"]["value"] == pytest.approx(0.25)
    assert (found["boxes"]["n"], found["boxes"]["chance"]["value"]) == (3, 0.25)
    assert "text, drawn" in outcome.stdout
    assert "3 maps: mass" in outcome.stdout
    page = Page((tmp_path / "out/report.html").read_text(encoding="utf-8"))
    assert {"Normal or abnormal", "Evidence maps in the boxes"} <= page.tables.keys()
