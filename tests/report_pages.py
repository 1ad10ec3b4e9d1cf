"""Report pages of three studies that several tests read, and a reader of HTML. No test stands here."""

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from r2gengpt.evaluation.page import page as report_page
from r2gengpt.evaluation.page.sentences import ShownEvidence
from r2gengpt.evaluation.page.study import StudyRow
from r2gengpt.metrics.baselines import Baseline
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import score
from r2gengpt.report import Report

HOSTILE = '<script>alert("x")</script> & "quoted" \x00'
VOID = {"meta", "link", "img", "input", "br"}
PARTS = Path(report_page.__file__).parent


class Page(HTMLParser):
    """Collects tags, attributes and texts, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows: list[list[str]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        elif tag in ("br", "small") and self.open.count("td"):
            self.rows[-1][-1] += "|"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.texts.append(data)
        if self.open.count("caption"):
            self.tables[data] = self.rows
        elif self.open.count("th") + self.open.count("td"):
            self.rows[-1][-1] += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


PREDICTIONS = [
    Report("s1", "the lungs are clear .", "The lungs are clear. Small effusion.", 6, -0.5),
    Report("s2", HOSTILE, "normal heart", 9, -1.5, "length"),
    Report("<id>", "", "", 0, 0.0),
]


CONFIDENCE = {
    "n_sentences": 7,
    "ece": 0.0123456,
    "ece_uncalibrated": {"value": 0.2, "ci95": [0.1, 0.3]},
    "reliability": [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 7, "confidence": 0.81234567, "accuracy": 0.714},
    ],
    "risk_coverage": [{"coverage": 0.5, "risk": 0.0}, {"coverage": 1.0, "risk": 0.2857}],
    "aurc": 0.07,
    "temperature": 1.5,
    "bias": -0.25,
    "definition": "right where <all> its words are in the reference",
}


def scores_of(predictions: list[Report], labels: bool = False, shuffled: bool = False) -> Scores:
    texts = {p.id: p.text for p in predictions}
    references = {p.id: (p.reference or "x",) for p in predictions}
    moved = Baseline("moved", dict(zip(texts, reversed(texts.values()), strict=True)), human=False)
    return score(
        texts,
        references,
        PROTOCOLS["clean"],
        train=["the lungs are clear ."],
        resamples=20,
        choice=choose(labels=labels),
        beside={"images_shuffled": moved} if shuffled else {},
    )


def written(
    tmp_path: Path,
    predictions: list[Report] = PREDICTIONS,
    size: tuple[int, int] = (900, 700),
    content: Mapping[str, Any] | None = None,
    evidence: Mapping[str, ShownEvidence] | None = None,
) -> str:
    image = tmp_path / "film.png"
    Image.linear_gradient("L").resize(size).save(image)
    scores = scores_of(predictions)
    found = evidence or {}
    rows = [
        StudyRow(
            p.id,
            (image, image)[: i + 1],
            p,
            {name: float(v[i]) for name, v in scores.per_study.items()},
            found.get(p.id),
        )
        for i, p in enumerate(predictions)
    ]
    content = scores.to_json() if content is None else content
    return report_page.report_page("Test <1>", rows, content, {"model": "tiny & random"})
