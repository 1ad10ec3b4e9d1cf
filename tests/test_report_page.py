"""report.html is one whole file that hides nothing, loads nothing and runs nothing that a report text smuggles in."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2gengpt.errors import InputError
from r2gengpt.evaluation.page import page as report_page
from r2gengpt.evaluation.page.scores import BASELINES, LABELS, exact, interval, label, leaves, number
from r2gengpt.evaluation.page.study import StudyRow, example_places
from r2gengpt.report import Report
from r2gengpt.text.observations import OBSERVATIONS
from report_pages import CONFIDENCE, PARTS, PREDICTIONS, Page, scores_of, written


def test_the_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    page = written(tmp_path)
    parsed = Page(page)
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_page_allows_its_own_style_and_script_by_hash_and_nothing_else(tmp_path: Path) -> None:
    page = written(tmp_path)
    (policy,) = (str(m["content"]) for m in Page(page).every("meta") if "http-equiv" in m)
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_texts_of_a_report_are_shown_and_never_run(tmp_path: Path) -> None:
    page = written(tmp_path)
    parsed = Page(page)
    assert len(parsed.every("script")) == 1
    assert parsed.text.count('alert("x")') == 1 + 1  # among all studies, and as one of best, median and worst
    assert "\x00" not in page
    assert "Test <1>" in parsed.text
    assert [a["data-id"] for a in parsed.every("article")][-3:] == ["s1", "s2", "<id>"]


def test_half_a_character_in_an_id_is_left_out(tmp_path: Path) -> None:
    assert Page(written(tmp_path, [Report("a\ud800b", "x", "x")])).every("article")[0]["data-id"] == "ab"


def test_images_are_small_grey_jpegs_with_a_description(tmp_path: Path) -> None:
    images = Page(written(tmp_path)).every("img")
    assert len(images) == 2 * (1 + 2 + 2)  # all three studies are also best, median and worst
    images = images[5:]
    data = str(images[0]["src"]).removeprefix("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (image.format, image.mode, image.size) == ("JPEG", "L", (512, 398))
    assert (images[0]["width"], images[0]["height"], images[0]["loading"]) == ("512", "398", "lazy")
    assert images[2]["alt"] == "Chest X-ray of study s2, view 2 of 2"


def test_a_small_image_is_not_enlarged(tmp_path: Path) -> None:
    assert Page(written(tmp_path, size=(40, 30))).every("img")[0]["width"] == "40"


def test_the_page_keeps_its_size_whatever_the_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 500), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    predictions = [Report(f"s{i}", "clear lungs", "clear lungs") for i in range(40)]
    scores = scores_of(predictions)
    rows = [StudyRow(p.id, (tmp_path / "noise.png",) * 2, p, {}) for p in predictions]
    whole = len(report_page.report_page("t", rows, scores.to_json(), {}).encode())
    monkeypatch.setattr(report_page, "PAGE_BYTES", whole // 3)
    small = report_page.report_page("t", rows, scores.to_json(), {})
    assert 0.5 * whole / 3 < len(small.encode()) <= whole / 3
    assert len(Page(small).every("img")) == 80


def test_differences_are_marked_by_element_and_line_not_only_by_colour(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert '<p class="generated">the lungs are clear .</p>' in page
    assert "<p>The lungs are clear. <del>Small effusion.</del></p>" in page
    for tag in ("ins", "del"):
        assert re.search(rf"^{tag} {{.*text-decoration: underline (solid|dotted)", page, re.M)


def test_the_banner_signature_and_provenance_are_shown(tmp_path: Path) -> None:
    text = Page(written(tmp_path)).text
    assert text.count("AI draft, not verified, research only") == 2
    assert str(scores_of(PREDICTIONS).signature) in text
    assert "tiny & random" in text
    assert "Not available: METEOR" in text


def test_every_baseline_has_its_row_with_numbers_or_the_reason(tmp_path: Path) -> None:
    scores = scores_of(PREDICTIONS)
    heads, *rows = Page(written(tmp_path)).tables["Model and baselines"]
    assert heads[1:] == [label(name) for name in scores.metrics]
    assert [row[0] for row in rows] == ["model", *(LABELS[name] for name in BASELINES)]
    for name, row in zip(("model", *BASELINES), rows, strict=True):
        if name in scores.not_available:
            assert row[1:] == [f"not available: {scores.not_available[name]}"]
            continue
        metrics = scores.metrics if name == "model" else scores.baselines[name].metrics
        wanted = [f"{number(s.value)}|{interval(s.ci95)}" for s in metrics.values()]
        assert [cell.removeprefix("▲ ") for cell in row[1:]] == wanted


def every_number_is_there(content: Mapping[str, Any], page: str) -> int:
    """Compare all numbers of scores.json with those of the page, by their names; how many there are."""
    tables = Page(page).tables
    heads, *rows = tables["Scores with 95 % intervals"]
    found = {(row[0], head): cell.split("|") for row in rows for head, cell in zip(heads[1:], row[1:], strict=True)}
    systems = {"model": content["metrics"]} | {label(n): row["metrics"] for n, row in content["baselines"].items()}
    if content["grounding_gap"] is not None:
        systems["grounding gap"] = content["grounding_gap"]
    count = 0
    for system, metrics in systems.items():
        for metric, values in metrics.items():
            wanted = [exact(values["value"]), " to ".join(exact(end) for end in values["ci95"])]
            wanted += [f"{name} {exact(values[name])}" for name in ("p_bootstrap", "p_randomisation") if name in values]
            assert found.pop((metric, system)) == wanted
            assert not set(values) - {"value", "ci95", "p_bootstrap", "p_randomisation"}
            count += len(values) + 1
    assert not found
    others = {name: value for name, value in content.items() if name not in ("metrics", "baselines", "grounding_gap")}
    shown = dict(tables["All else"][1:])
    assert shown == {path: exact(value) for path, value in leaves(others)}
    return count + len(shown)


def test_the_page_has_every_number_of_scores_json_and_the_file_itself(tmp_path: Path) -> None:
    content = {**scores_of(PREDICTIONS, labels=True, shuffled=True).to_json(), "confidence": CONFIDENCE}
    page = written(tmp_path, content=content)
    assert every_number_is_there(content, page) > 1000
    (link,) = (str(a["href"]) for a in Page(page).every("a") if "download" in a)
    saved = base64.b64decode(link.removeprefix("data:application/json;base64,"))
    assert json.loads(saved) == json.loads(json.dumps(content))


def test_the_grounding_gap_stands_in_a_table_of_its_own_where_it_was_measured(tmp_path: Path) -> None:
    assert "Grounding gap: not available: needs the images and a model" in Page(written(tmp_path)).text
    scores = scores_of(PREDICTIONS, shuffled=True)
    rows = {row[0]: row[1:] for row in Page(written(tmp_path, content=scores.to_json())).tables["Grounding gap"]}
    assert scores.grounding_gap is not None
    gap = scores.grounding_gap["rouge_l"]
    assert gap.p_bootstrap is not None
    assert gap.p_randomisation is not None
    chances = [number(gap.p_bootstrap), number(gap.p_randomisation)]
    assert rows["ROUGE-L"] == [number(gap.value, signed=True), interval(gap.ci95, signed=True), *chances]
    assert gap.value > 0


def test_collapse_is_said_in_words(tmp_path: Path) -> None:
    same = [Report(f"s{i}", "no", f"word{i}") for i in range(21)]
    text = Page(written(tmp_path, same)).text
    assert "Collapsed. 1 distinct output(s) for 21 studies, fewer than 5 % of them" in text
    assert (
        "Not collapsed: 3 distinct output(s) for 3 studies; the commonest is 33.3 % of all."
        in Page(written(tmp_path)).text
    )


def test_clinical_labels_have_tables_under_both_policies_and_a_plot(tmp_path: Path) -> None:
    scores = scores_of(PREDICTIONS, labels=True)
    page = Page(written(tmp_path, content=scores.to_json()))
    for policy in ("positive", "negative"):
        heads, model, *_ = page.tables[f"F1, uncertain as {policy}"]
        assert heads[1:] == [f"{how} F1 of {size}" for size in (14, 5) for how in ("micro", "macro", "example")]
        names = [
            f"clinical_{head.replace(' F1 of ', ' f1 ').replace(' ', '_')}_uncertain_as_{policy}" for head in heads[1:]
        ]
        assert [cell.split("|")[0] for cell in model[1:]] == [number(scores.metrics[name].value) for name in names]
    rows = {row[0]: row[1:] for row in page.tables["Each observation: studies, precision, recall, F1"]}
    effusion = scores.to_json()["clinical"]["uncertain_as_positive"]["Pleural Effusion"]
    assert rows["Pleural Effusion"][:2] == [str(effusion["predicted"]), str(effusion["reference"])] == ["0", "1"]
    assert "Studies with each observation" in " ".join(str(svg["aria-label"]) for svg in page.every("svg"))
    assert "rule-based, not CheXbert" in page.text


def test_observations_that_no_text_has_are_folded_away_with_all_their_numbers(tmp_path: Path) -> None:
    page = written(tmp_path, content=scores_of(PREDICTIONS, labels=True).to_json())
    tables = Page(page).tables
    shown = [row[0] for row in tables["Each observation: studies, precision, recall, F1"][2:]]
    folded = [row[0] for row in tables["Observations that no text has"][2:]]
    assert shown == ["No Finding", "Pleural Effusion"]
    assert sorted([*shown, *folded]) == sorted(OBSERVATIONS)
    assert "<summary>12 observations that neither predictions nor references have</summary>" in page
    assert page.index("<summary>12 observations") < page.index("Observations that no text has")
    (bars,) = (str(svg["aria-label"]) for svg in Page(page).every("svg") if "each observation" in str(svg))
    assert bars
    assert page.count(">Fracture</text>") == 0  # nor is there a bar for one


def test_sides_and_places_have_a_table_of_their_own_beside_the_labels(tmp_path: Path) -> None:
    said = [Report("a", "Left effusion.", "Right effusion."), Report("b", "Edema.", "Left edema.")]
    page = Page(written(tmp_path, said, content=scores_of(said, labels=True).to_json()))
    rows = {row[0]: row[1:] for row in page.tables["Side and place of findings that both name"][1:]}
    assert [cell.split("|")[0] for cell in rows["side"]] == ["1", "2", "0", "0.000", "0.000", "0.000"]
    assert "2 findings stand in a report and in its reference" in page.text
    assert not [head for head in page.tables["Model and baselines"][0] if "side" in head]


VERDICT = scores_of(PREDICTIONS).to_json()["verdict"]


@pytest.mark.parametrize(
    ("changes", "red"),
    [
        ({"sentence": "Better than all 2 baselines: 1."}, []),
        ({"sentence": "Level with a third: 1.", "outcome": "level", "baseline": "nearest_image"}, []),
        (
            {"sentence": "Level with the constant report: 1.", "outcome": "level", "baseline": "constant",
             "warnings": ["collapsed: 1", "level with the constant report"]},
            ["Level with the constant report:", "Collapsed: 1."],
        ),
        ({"sentence": "Worse than a third: 1.", "outcome": "worse", "baseline": "nearest_image",
          "warnings": ["level with the constant report"]},
         ["Worse than a third:", "Level with the constant report."]),
    ],
)  # fmt: skip
def test_the_page_opens_with_the_verdict_and_what_is_wrong_in_red(
    changes: dict[str, Any], red: list[str], tmp_path: Path
) -> None:
    told = {**VERDICT, "outcome": "better", "warnings": [], **changes}
    page = written(tmp_path, content={**scores_of(PREDICTIONS).to_json(), "verdict": told})
    header = page[page.index('<header class="top">') : page.index("</header>")]
    assert re.findall(r'<(?:strong|p) class="(?:warning )?bad">(.*?)</', header) == red
    assert " ".join(Page(page).text.split()).index(str(told["sentence"])) < page.index("<nav")
    assert re.search(r"^\.bad \{ color: var\(--bad\)", (PARTS / "page.css").read_text(), re.M)


def test_films_stand_before_all_tables(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert page.index("<img") < page.index('id="scores"')
    assert page.index('class="verdict"') < page.index("<img")


@pytest.mark.parametrize(
    ("model", "annotation", "wanted"),
    [
        ("save/iu", "data/iu_xray/annotation.json", "iu on iu_xray, test split"),
        ("save/iu/best", "data/mine.json", "iu/best on mine, test split"),
        ("first.pth", "data/iu_xray/annotation.json", "first.pth on iu_xray, test split"),
        ("embedded-2", "annotation.json", f"embedded-2 on {Path.cwd().name}, test split"),
    ],
)
def test_the_title_names_the_model_and_the_data(model: str, annotation: str, wanted: str) -> None:
    assert report_page.page_title(model, annotation, "test") == f"Chest X-ray reports: {wanted}"


def test_without_labels_or_confidence_the_page_says_so(tmp_path: Path) -> None:
    page = Page(written(tmp_path))
    assert "Not available: clinical labels" in page.text
    assert "Confidence of sentences: not measured" in page.text
    assert len(page.every("svg")) == 1


def test_reliability_and_risk_are_drawn_with_their_numbers_and_definition(tmp_path: Path) -> None:
    page = Page(written(tmp_path, content={**scores_of(PREDICTIONS).to_json(), "confidence": CONFIDENCE}))
    assert len(page.every("svg")) == 3
    wanted = "Reliability of 7 sentences. On the diagonal, confidence is accuracy. Expected calibration error 0.012"
    assert wanted in page.text
    assert "0.012, uncalibrated 0.200 [0.100 to 0.300] (temperature 1.500, bias −0.250)." in page.text
    assert "right where <all> its words are in the reference" in page.text
    empty, full = page.tables["Reliability, bin by bin"][1:]
    assert empty == ["0.00 to 0.50", "0", "not known", "not known"]
    assert full == ["0.50 to 1.00", "7", "0.812", "0.714"]


def test_a_baseline_that_is_not_below_the_model_is_marked(tmp_path: Path) -> None:
    worst = [Report("a", "q", "the lungs are clear"), Report("b", "q", "the lungs are clear")]
    assert 'class="up"' in written(tmp_path, worst)
    best = [Report("a", "one two three four five", "one two three four five"), Report("b", "six", "six")]
    assert 'class="up"' not in written(tmp_path, best)


def test_confidence_end_and_missing_texts_are_said(tmp_path: Path) -> None:
    text = Page(written(tmp_path)).text
    assert "token probability 0.61" in text  # exp(-0.5)
    assert text.count("cut at the maximum length") == 2 + 1  # twice the study, once the menu
    assert "no text was generated" in text
    assert "no reference" in text


def test_controls_are_hidden_until_the_script_shows_them(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path))
    (form,) = parsed.every("form")
    assert "hidden" in form
    assert not any("hidden" in article for article in parsed.every("article"))
    values = [str(option["value"]).split() for option in parsed.every("option") if "value" in option]
    keys = {value[0] for value in values if len(value) == 2} - {"id"}
    assert {"cider", "rougel", "probability"} <= keys
    for article in parsed.every("article"):
        assert keys <= {name.removeprefix("data-") for name in article}


def test_best_median_and_worst_are_by_cider_and_each_once(tmp_path: Path) -> None:
    rows = [StudyRow(str(v), (), Report(str(v), "", ""), {"cider": v}) for v in (0.3, 0.1, 0.5, 0.2, 0.4)]
    assert example_places(rows) == {"Best": 2, "Median": 0, "Worst": 1}
    assert example_places(rows[:2]) == {"Best": 0, "Worst": 1}
    assert example_places(rows[:1]) == {"Best": 0}
    assert example_places([]) == {}
    parsed = Page(written(tmp_path))
    anchors = [str(article["id"]) for article in parsed.every("article")]
    assert anchors == ["example-best", "example-median", "example-worst", "study-0", "study-1", "study-2"]
    links = {str(a["href"]).removeprefix("#") for a in parsed.every("a") if "study-" in str(a["href"])}
    assert links == {"study-0", "study-1", "study-2"}


def brightness(colour: str) -> float:
    """Relative luminance of #rrggbb. Source: WCAG 2.2."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_has_a_contrast_of_4_5_to_what_is_behind_it_in_light_and_dark() -> None:
    style = (PARTS / "page.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    on_cards = ["text", "soft", "accent", "added-line", "q-line", "bad"]
    pairs = [(front, back) for front in on_cards for back in ("card", "page")]
    pairs += [("text", back) for back in ("added", "missing", *(f"q{i}" for i in range(5)))] + [
        (front, "warn") for front in ("warn-text", "bad")
    ]
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for front, back in pairs:
            low, high = sorted(brightness(colours[name]) for name in (front, back))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
    assert len(schemes) == 2


def test_an_image_that_cannot_be_read_makes_no_page(tmp_path: Path) -> None:
    scores = scores_of(PREDICTIONS)
    row = StudyRow("s1", (tmp_path / "none.png",), PREDICTIONS[0], {})
    with pytest.raises(InputError, match=r"none\.png"):
        report_page.report_page("t", [row], scores.to_json(), {})
