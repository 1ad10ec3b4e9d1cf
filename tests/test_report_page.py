"""report.html is one whole file that hides nothing, loads nothing and runs nothing that a report text smuggles in."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from r2gengpt.errors import InputError
from r2gengpt.evaluation.differences import LITTLE_WORDS, Span, word_differences
from r2gengpt.evaluation.report_page import LABELS, StudyRow, thumbnail_side, write_report_page
from r2gengpt.generation.prediction import Prediction
from r2gengpt.metrics.measure import METRICS
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import score
from r2gengpt.metrics.systems import Beside

HOSTILE = '<script>alert("x")</script> & "quoted" \x00'
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and texts, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


PREDICTIONS = [
    Prediction("s1", "the lungs are clear .", "The lungs are clear. Small effusion.", 6, -0.5),
    Prediction("s2", HOSTILE, "normal heart", 9, -1.5, "length"),
    Prediction("<id>", "", "", 0, 0.0),
]


def scores_of(predictions: list[Prediction]) -> Scores:
    texts = {p.id: p.prediction for p in predictions}
    references = {p.id: (p.reference or "x",) for p in predictions}
    return score(texts, references, PROTOCOLS["clean"], train=["the lungs are clear ."], resamples=20)


def written(tmp_path: Path, predictions: list[Prediction] = PREDICTIONS, size: tuple[int, int] = (900, 700)) -> str:
    image = tmp_path / "film.png"
    Image.linear_gradient("L").resize(size).save(image)
    scores = scores_of(predictions)
    rows = [
        StudyRow(p.id, (image, image)[: i + 1], p, {name: float(v[i]) for name, v in scores.per_study.items()})
        for i, p in enumerate(predictions)
    ]
    path = tmp_path / "report.html"
    write_report_page(path, title="Test <1>", studies=rows, scores=scores, provenance={"model": "tiny & random"})
    return path.read_text(encoding="utf-8")


def test_differences_ignore_case_and_punctuation() -> None:
    assert word_differences("The lungs are CLEAR.", "the lungs are clear .") == (
        [Span("The lungs are CLEAR.", True)],
        [Span("the lungs are clear .", True)],
    )


def test_differences_mark_what_only_one_text_has() -> None:
    generated, reference = word_differences("no effusion , large heart .", "no effusion . clear lungs .")
    assert generated == [Span("no effusion ,", True), Span("large heart .", False)]
    assert reference == [Span("no effusion .", True), Span("clear lungs .", False)]


def test_a_lone_little_word_goes_with_its_neighbours() -> None:
    assert "of" in LITTLE_WORDS
    assert "no" not in LITTLE_WORDS
    generated, _ = word_differences("edges of lungs", "base of heart")
    assert generated == [Span("edges of lungs", False)]


def test_no_word_is_lost_between_marks() -> None:
    first, second = "a b c d . e", "x b , c y e z"
    spans = word_differences(first, second)
    assert [" ".join(span.text for span in side) for side in spans] == [first, second]


def test_the_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    page = written(tmp_path)
    parsed = Page(page)
    for _, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert not re.search(r"url\(|@import|https?://", page)
    assert any("default-src 'none'" in str(meta.get("content")) for meta in parsed.every("meta"))


def test_texts_of_a_report_are_shown_and_never_run(tmp_path: Path) -> None:
    page = written(tmp_path)
    parsed = Page(page)
    assert len(parsed.every("script")) == 1
    assert 'alert("x")' in parsed.text
    assert "\x00" not in page
    assert "Test <1>" in parsed.text
    assert [a["data-id"] for a in parsed.every("article")] == ["s1", "s2", "<id>"]


def test_images_are_small_grey_jpegs_with_a_description(tmp_path: Path) -> None:
    images = Page(written(tmp_path)).every("img")
    assert len(images) == 1 + 2 + 2
    data = str(images[0]["src"]).removeprefix("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (image.format, image.mode, image.size) == ("JPEG", "L", (512, 398))
    assert (images[0]["width"], images[0]["height"], images[0]["loading"]) == ("512", "398", "lazy")
    assert images[2]["alt"] == "Chest X-ray of study s2, view 2 of 2"


def test_a_small_image_is_not_enlarged(tmp_path: Path) -> None:
    assert Page(written(tmp_path, size=(40, 30))).every("img")[0]["width"] == "40"


def test_many_images_make_smaller_thumbnails() -> None:
    assert thumbnail_side(0) == thumbnail_side(10) == 512
    assert 200 < thumbnail_side(1180) < 512
    assert thumbnail_side(10**6) == 128


def test_differences_are_marked_by_element_and_line_not_only_by_colour(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "<p>the lungs are clear .</p>" in page
    assert "<p>The lungs are clear. <del>Small effusion.</del></p>" in page
    for tag in ("ins", "del"):
        assert re.search(rf"^{tag} {{.*text-decoration: underline (solid|dotted)", page, re.M)


def test_the_banner_scores_intervals_and_baselines_are_shown(tmp_path: Path) -> None:
    page = written(tmp_path)
    text = Page(page).text
    scores = scores_of(PREDICTIONS)
    assert "AI drafts for research only. Not verified" in text
    assert str(scores.signature) in text
    for name in METRICS:
        value = scores.metrics[name]
        assert value.ci95 is not None
        assert f"{LABELS[name]} {value.value:.3f} {value.ci95[0]:.3f} – {value.ci95[1]:.3f}" in text
    for name in ("constant", "most_frequent", "random_train", "texts_shuffled"):
        assert LABELS[name] in text
    assert "Not available: METEOR" in text
    assert "tiny & random" in text


def test_the_grounding_gap_stands_in_a_table_of_its_own_where_it_was_measured(tmp_path: Path) -> None:
    assert "Grounding gap" not in Page(written(tmp_path)).text
    texts = {p.id: p.prediction for p in PREDICTIONS}
    moved = Beside("moved", dict(zip(texts, reversed(texts.values()), strict=True)), human=False)
    references = {p.id: (p.reference or "x",) for p in PREDICTIONS}
    scores = score(texts, references, PROTOCOLS["clean"], beside={"images_shuffled": moved}, resamples=20)
    path = tmp_path / "gap.html"
    write_report_page(path, title="Gap", studies=[], scores=scores, provenance={})
    text = Page(path.read_text(encoding="utf-8")).text
    assert scores.grounding_gap is not None
    gap = scores.grounding_gap["rouge_l"]
    assert gap.ci95 is not None
    assert f"ROUGE-L {gap.value:+.3f} {gap.ci95[0]:+.3f} to {gap.ci95[1]:+.3f} {gap.p_bootstrap:.3f}" in text
    assert gap.value > 0
    assert LABELS["images_shuffled"] in text


def test_a_baseline_that_is_not_below_the_model_is_marked(tmp_path: Path) -> None:
    worst = [Prediction("a", "q", "the lungs are clear"), Prediction("b", "q", "the lungs are clear")]
    assert 'class="above"' in written(tmp_path, worst)
    best = [Prediction("a", "one two three four five", "one two three four five"), Prediction("b", "six", "six")]
    assert 'class="above"' not in written(tmp_path, best)


def test_confidence_end_and_missing_texts_are_said(tmp_path: Path) -> None:
    text = Page(written(tmp_path)).text
    assert "confidence 0.61" in text  # exp(-0.5)
    assert text.count("cut at the maximum length") == 1
    assert "no text was generated" in text
    assert "no reference" in text


def test_controls_are_hidden_until_the_script_shows_them(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path))
    (form,) = parsed.every("form")
    assert "hidden" in form
    assert not any("hidden" in article for article in parsed.every("article"))
    values = [str(option["value"]).split()[0] for option in parsed.every("option")]
    article = parsed.every("article")[0]
    for key in set(values) - {"file", "id", "all", "10", "50"}:
        assert f"data-{key}" in article


def test_an_image_that_cannot_be_read_leaves_no_page(tmp_path: Path) -> None:
    scores = scores_of(PREDICTIONS)
    row = StudyRow("s1", (tmp_path / "none.png",), PREDICTIONS[0], {})
    with pytest.raises(InputError, match=r"none\.png"):
        write_report_page(tmp_path / "report.html", title="t", studies=[row], scores=scores, provenance={})
    assert list(tmp_path.iterdir()) == []
