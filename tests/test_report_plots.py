"""Plots of the report page are numbers turned into SVG: whole XML, to scale, without a colour of their own."""

import re
import xml.etree.ElementTree as ET

import pytest

from r2gengpt.evaluation.page import plots

BINS = [
    {"low": 0.0, "high": 0.5, "count": 30, "confidence": 0.4, "accuracy": 0.25},
    {"low": 0.5, "high": 1.0, "count": 10, "confidence": 0.9, "accuracy": 0.5},
]


def parts(svg: str, kind: str) -> list[dict[str, str]]:
    return [element.attrib for element in ET.fromstring(svg).iter() if element.get("class") == kind]


@pytest.mark.parametrize(("top", "most", "step"), [(1, 24, 1), (83, 5, 20), (24, 24, 1), (25, 24, 2), (401, 4, 200)])
def test_steps_are_1_2_5_and_their_tenfolds(top: int, most: int, step: int) -> None:
    assert plots.nice_step(top, most) == step


def test_a_histogram_has_bars_as_high_as_their_counts() -> None:
    svg = plots.length_histogram([0, 1, 1, 2], [2, 2, 2, 2])
    heights = [float(bar["height"]) for bar in parts(svg, "a")]
    assert heights == pytest.approx([heights[0], 2 * heights[0], heights[0]], abs=0.2)
    (outline,) = parts(svg, "b")
    edges = [float(edge) for edge in re.findall(r"V([0-9.]+)H", outline["d"])]
    foot = float(parts(svg, "a")[0]["y"]) + heights[0]
    assert [foot - edge for edge in edges] == pytest.approx([0, 0, 4 * heights[0]], abs=0.3)


def test_a_very_long_text_makes_wide_bars_and_not_many() -> None:
    assert len(parts(plots.length_histogram([3, 4000], [5]), "a")) <= plots.MOST_BINS


def test_texts_without_words_have_a_histogram() -> None:
    assert [float(bar["height"]) > 0 for bar in parts(plots.length_histogram([0], [0]), "a")] == [True, False]


def test_paired_bars_are_as_long_as_their_counts_and_name_them() -> None:
    svg = plots.paired_bars(["Edema", "A <b> & c"], [10, 0], [5, 20])
    ours, theirs = ([float(bar["width"]) for bar in parts(svg, kind)] for kind in "ab")
    assert [*ours, *theirs] == pytest.approx([theirs[1] / 2, 0, theirs[1] / 4, theirs[1]], abs=0.1)
    texts = [element.text for element in ET.fromstring(svg).iter() if element.tag == "text"]
    assert texts == ["Edema", "10", "5", "A <b> & c", "0", "20"]


def test_bars_of_nothing_are_no_error() -> None:
    assert [bar["width"] for bar in parts(plots.paired_bars(["a"], [0], [0]), "a")] == ["0.0"]


def test_a_reliability_diagram_is_to_scale_and_leaves_empty_bins_out() -> None:
    empty = {"low": 0.2, "high": 0.3, "count": 0, "confidence": None, "accuracy": None}
    svg = plots.reliability_diagram([*BINS, empty])  # type: ignore[list-item]  # an empty bin has no accuracy
    first, second = (float(bar["height"]) for bar in parts(svg, "a"))
    assert second == pytest.approx(2 * first, abs=0.1)
    first, second = (float(bar["height"]) for bar in parts(svg, "c"))
    assert first == pytest.approx(3 * second, abs=0.2)
    dots = parts(svg, "b")
    assert float(dots[1]["cx"]) > float(dots[0]["cx"])
    assert "2 bins" in str(ET.fromstring(svg).get("aria-label"))


def test_the_risk_curve_goes_by_coverage_whatever_the_order() -> None:
    points = [{"coverage": 1.0, "risk": 0.2}, {"coverage": 0.5, "risk": 0.1}, {"coverage": 0.1, "risk": 0.0}]
    (line,) = parts(plots.risk_coverage_curve(points), "line")
    places = [tuple(map(float, place.split(","))) for place in line["points"].split()]
    assert places == sorted(places)
    steps = [places[0][1] - places[1][1], places[1][1] - places[2][1]]
    assert steps == pytest.approx([steps[0], steps[0]], abs=0.2)


@pytest.mark.parametrize("svg", [plots.risk_coverage_curve([]), plots.reliability_diagram([])])
def test_no_points_are_an_empty_plot(svg: str) -> None:
    assert ET.fromstring(svg).get("role") == "img"


@pytest.mark.parametrize(
    "svg",
    [
        plots.length_histogram([5, 9], [7, 30]),
        plots.paired_bars(["Edema"], [3], [4]),
        plots.reliability_diagram(BINS),
        plots.risk_coverage_curve([{"coverage": 1.0, "risk": 0.7}]),
    ],
)
def test_nothing_is_drawn_outside_or_styled_in_place(svg: str) -> None:
    root = ET.fromstring(svg)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        assert not {"style", "fill", "stroke"} & set(element.attrib)
        for name, end in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(element.get(name, 0)) <= end
        assert float(element.get("x", 0)) + float(element.get("width", 0)) <= width
        assert float(element.get("y", 0)) + float(element.get("height", 0)) <= height + 0.1
