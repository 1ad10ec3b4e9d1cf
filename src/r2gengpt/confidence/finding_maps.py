"""Maps of a report's findings: what the finding head read each of them from, and whether that lies on the body.

A map says that the finding depends on the marked area. It does not say that the finding is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from r2gengpt.confidence.evidence import check_method, quick_method, random_tenths, report_evidence, verdict_of
from r2gengpt.confidence.findings import findings_of
from r2gengpt.confidence.looking import Looker
from r2gengpt.confidence.maps import EVIDENCE, NO_EVIDENCE, Evidence, SentenceEvidence, kept_box, tenth
from r2gengpt.confidence.regions import regions_of
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError
from r2gengpt.films.regions import Box, Region
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.model.findings import by_study
from r2gengpt.options import check_choice
from r2gengpt.report import Finding
from r2gengpt.settings import METHODS
from r2gengpt.text.observations import ALL_OBSERVATIONS, LIKELY, NO_FINDING, POSSIBLE
from r2gengpt.text.sentences import sentence_spans

Floats = npt.NDArray[np.float32]
FINDINGS = "findings"
"""The method's name beside occlusion and gradient."""
CELLS = 16
"""Rows and columns in which the body is looked for."""
BRIGHT = 0.12
"""Share of a film's range of grey above which a cell is not the black beside the patient."""
ON_BODY = 1 / 3
"""Share of a map's largest cell that must lie on the body."""


@dataclass(frozen=True)
class MapMaker:
    """Makes the maps of what a model's sentences rest on, and knows where they lie on films.

    Attributes:
        model: in eval mode.
        processor: of the model.
        looker: its finding head at work; None: it has none.
        head_alone: the name of a model whose language model was never trained; empty: it was.
    """

    model: R2GenGPTForConditionalGeneration
    processor: R2GenGPTProcessor
    looker: Looker | None = None
    head_alone: str = ""

    def method(self, asked: str | None = None, *, quick: bool = True) -> str:
        """How maps are made: as asked, else by the finding head, without one as `evidence` does.

        Args:
            asked: findings, occlusion or gradient.
            quick: others wait.
        """
        if asked is not None:
            return asked
        if self.looker is not None:
            return FINDINGS
        return quick_method(self.model) if quick else "occlusion"

    def check(self, asked: str | None = None) -> None:
        """Refuse what the model cannot do, before a report is written.

        Raises:
            InputError: no such method; as `evidence.check_method`; without a head, maps of findings; maps of image
                tokens of a model without a language model.
        """
        method = self.method(asked)
        check_choice(method, METHODS, "evidence_method")
        if method == FINDINGS:
            if self.looker is None:
                raise InputError("this model has no finding head", field="evidence_method", value=FINDINGS)
            return
        if self.head_alone:
            words = f"was trained for findings alone: maps by {method} are of what a language model reads"
            raise InputError(words, field="model", value=self.head_alone)
        check_method(self.model, method)

    def of(self, batch: Batch, report: str, asked: str | None = None) -> Evidence:
        """Maps of the sentences of a report; none whose peak lies off the body is evidence.

        Args:
            batch: the prompt of one study, with pixels.
            report: the text, which need not be the model's own.
            asked: as in `method`.

        Raises:
            InputError: as `check`, or prompt and report do not fit into the model.
        """
        method = self.method(asked)
        self.check(method)
        pixels, batch = batch.pixel_values, batch.to(self.model.device)
        findings: Sequence[Finding] = ()
        if self.looker is not None:
            batch, logits = self.looker.seen(batch)
            findings = findings_of(logits[0].tolist(), self.looker.scales)
        if self.looker is not None and method == FINDINGS:
            found = finding_evidence(self.looker, batch, findings, report)
        else:
            found = report_evidence(self.model, self.processor, batch, report, method)
        return found if pixels is None else off_body_is_none(found, pixels[0][batch.own_views[0].cpu()])

    def box(self, size: tuple[int, int]) -> Box:
        """The part of a film of that width and height that its map lies over."""
        return kept_box(self.processor.image_processor, size)

    def regions(
        self, evidence: Evidence, sizes: Sequence[tuple[int, int]], frames: Sequence[int | None] | None = None
    ) -> tuple[Region, ...]:
        """The areas that maps mark on films of these widths and heights; `frames` as `regions_of` has them."""
        return regions_of(evidence, [self.box(size) for size in sizes], frames)


@torch.no_grad()
def finding_evidence(looker: Looker, batch: Batch, findings: Sequence[Finding], report: str) -> Evidence:
    """The maps of the sentences that assert a finding: what each patch adds to its logit.

    Of several findings in a sentence the likeliest is mapped. The map is evidence where the head does not deny the
    finding, and where leaving the tenth of the patches with the largest values out lowers its logit by more than
    leaving random tenths out, as `evidence.verdict_of` measures it. Other sentences have a map of zeros.

    Args:
        looker: the head.
        batch: of one study, with features.
        findings: what the head tells of it.
        report: the text.
    """
    head = looker.model.finding_head
    assert head is not None
    assert batch.features is not None
    own = batch.own_views
    patches, there = by_study(head.norm(batch.features[own[batch.view_mask]].float()), own)
    patches = patches[there][None]  # views that are there, one after another
    count = patches.shape[1]
    side = round((count / int(own.sum())) ** 0.5)
    worth = head.worth(patches)[0]
    others = random_tenths(count)
    asserted = {one.name: one for one in findings if one.verdict in (LIKELY, POSSIBLE)}

    def mapped(text: str) -> SentenceEvidence:
        names = [name for name, label in label_report(text).items() if label == Label.POSITIVE and name != NO_FINDING]
        shown = [asserted[name] for name in names if name in asserted]
        if not shown:
            return SentenceEvidence(text, (0.0,) * count, 0.0, 0.0, NO_EVIDENCE)
        name = max(shown, key=lambda one: one.probability).name
        at = ALL_OBSERVATIONS.index(name)
        values = worth[:, at].cpu()
        top = torch.zeros(1, count, dtype=torch.bool)
        top[0, values.topk(tenth(count)).indices] = True
        kept = ~torch.cat([torch.zeros_like(top), top, others])
        logits = torch.cat([head.read(patches, row[None].to(patches.device))[:, at] for row in kept]).cpu()
        drop, drops = float(logits[0] - logits[1]), logits[0] - logits[2:]
        verdict = verdict_of(drop, drops)
        return SentenceEvidence(text, tuple(values.tolist()), drop, float(drops.mean()), verdict, name)

    return Evidence(batch.ids[0], FINDINGS, (side, side), tuple(mapped(report[a:b]) for a, b in sentence_spans(report)))


def off_body_is_none(evidence: Evidence, pixels: Tensor) -> Evidence:
    """The same maps; one whose largest cell lies beside the patient is no evidence.

    Args:
        evidence: of a study.
        pixels: (V, 3, H, W), of its views, in any scale.
    """
    size = evidence.grid[0] * evidence.grid[1]
    bodies = np.array([means(body(view), evidence.grid).ravel() for view in pixels.float().mean(1).cpu().numpy()])

    def judged(one: SentenceEvidence) -> SentenceEvidence:
        peak = int(np.argmax(one.map))
        # of several views under one map the peak may stand for any
        shares = bodies[:, peak] if len(one.map) == size else bodies[peak // size, peak % size]
        return replace(one, verdict=NO_EVIDENCE) if np.max(shares) < ON_BODY else one

    return replace(
        evidence, sentences=tuple(judged(one) if one.verdict == EVIDENCE else one for one in evidence.sentences)
    )


def body(film: Floats) -> Floats:
    """Where the patient is, (CELLS, CELLS), 1 or 0: what is bright, and what lies between in its row and its column.

    A letter on the film fills no cell, so it is not taken for the patient.

    Args:
        film: (H, W), bright where the patient is.
    """
    low, high = np.percentile(film, [1, 99])
    bright = means(film > low + BRIGHT * (high - low), (CELLS, CELLS)) > 0.5
    return (_between(bright) & _between(bright.T).T).astype(np.float32)


def _between(bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """From the first to the last bright cell of each row."""
    first = np.logical_or.accumulate(bright, axis=1)
    return first & np.logical_or.accumulate(bright[:, ::-1], axis=1)[:, ::-1]


def means(values: npt.ArrayLike, grid: tuple[int, int]) -> Floats:
    """The mean in each cell of a grid, (rows, columns)."""
    picture = Image.fromarray(np.asarray(values, dtype=np.float32))
    return np.asarray(picture.resize(grid[::-1], Image.Resampling.BOX), dtype=np.float32)
