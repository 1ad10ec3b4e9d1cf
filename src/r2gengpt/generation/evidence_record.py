"""Evidence maps of a report as records, and their JSON. How they are made stands in `evidence.py`; no model here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NO_EVIDENCE, EVIDENCE = "no evidence", "evidence"


@dataclass(frozen=True)
class SentenceEvidence:
    """One sentence's map and how faithful it is.

    `map` has a value for each image token of the study, row by row of the grid (view after view where fusion is
    concat): nats of the sentence's log-probability. `drop_top` is what masking the tenth of the tokens with the
    largest values costs, `drop_random` the mean of that over random tenths; both in nats.
    """

    text: str
    map: tuple[float, ...]
    drop_top: float
    drop_random: float
    verdict: str


@dataclass(frozen=True)
class Evidence:
    """A report's maps: `grid` is (rows, columns) of one view; `verdict` is "evidence" where a sentence has some."""

    id: str
    method: str
    grid: tuple[int, int]
    sentences: tuple[SentenceEvidence, ...]

    @property
    def verdict(self) -> str:
        """Of the whole report."""
        return EVIDENCE if any(sentence.verdict == EVIDENCE for sentence in self.sentences) else NO_EVIDENCE

    def view_maps(self, sentence: SentenceEvidence) -> list[list[float]]:
        """The sentence's maps: one that is every view's where views were fused, one a view where they were not."""
        size = self.grid[0] * self.grid[1]
        return [list(sentence.map[at : at + size]) for at in range(0, len(sentence.map), size)]

    def to_json(self) -> dict[str, Any]:
        """The record of evidence.jsonl: `map` is the mean of the views' maps, which are in `maps` where they differ."""
        sentences = []
        for sentence in self.sentences:
            maps = self.view_maps(sentence)
            mean = np.mean(maps, axis=0).tolist()
            record = {"text": sentence.text, "map": rounded(mean)}
            if len(maps) > 1:
                record["maps"] = [rounded(values) for values in maps]
            drops = {name: round(getattr(sentence, name), 4) for name in ("drop_top", "drop_random")}
            sentences.append({**record, **drops, "verdict": sentence.verdict})
        whole = {"id": self.id, "method": self.method, "grid": list(self.grid)}
        return {**whole, "sentences": sentences, "verdict": self.verdict}


def rounded(values: Sequence[float]) -> list[float]:
    """Four decimals, which is finer than the arithmetic of any model here."""
    return [round(float(value), 4) + 0.0 for value in values]
