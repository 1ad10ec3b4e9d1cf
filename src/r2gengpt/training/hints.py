"""Hints in training prompts: true verdicts at first, then more of the head's own, and often none. Trains nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from r2gengpt.confidence.findings import Scale, findings_of, verdicts_of
from r2gengpt.data.batches import Batch
from r2gengpt.model import R2GenGPTProcessor
from r2gengpt.text.alignment import IGNORE, pad_rows
from r2gengpt.text.observations import hint_of, hinted, true_hint


@dataclass(frozen=True)
class Hints:
    """How the prompts of training batches get their hints.

    A model that only saw true verdicts would believe each of the head's, and one that always saw some would not look.

    Attributes:
        processor: of the model.
        scales: how the head's logits are read.
        dropout: share of studies without a hint.
        predicted: share of hints that are the head's own at the end of the run.
    """

    processor: R2GenGPTProcessor
    scales: Sequence[Scale]
    dropout: float
    predicted: float

    def mixed(self, batch: Batch, logits: Tensor, progress: float) -> Batch:
        """A training batch with hints, drawn by torch's seed.

        Args:
            batch: with labels and findings.
            logits: (B, O), of the head.
            progress: share of the run that is done.
        """
        assert batch.findings is not None
        none, own = torch.rand(2, len(batch.ids)).tolist()
        hints = []
        for row, (labels, seen) in enumerate(zip(batch.findings.tolist(), logits.tolist(), strict=True)):
            if none[row] < self.dropout:
                hints.append("")
            elif own[row] < self.predicted * progress:
                hints.append(self._seen(seen))
            else:
                hints.append(true_hint(labels, [scale.assessed for scale in self.scales]))
        return self._with(batch, hints)

    def own(self, batch: Batch, logits: Tensor) -> Batch:
        """A batch with labels whose hints are all the head's own, as at inference."""
        return self._with(batch, [self._seen(seen) for seen in logits.tolist()])

    def _seen(self, logits: Sequence[float]) -> str:
        return hint_of(verdicts_of(findings_of(logits, self.scales)))

    def _with(self, batch: Batch, hints: Sequence[str]) -> Batch:
        assert batch.labels is not None
        device, ids, labels, weights = batch.input_ids.device, [], [], []
        for row, hint in enumerate(hints):
            text = hinted(batch.instruction(row) or self.processor.instruction, hint)
            views, earlier = batch.views[row]
            prompt = self.processor.prompt_row(views, text, earlier)
            places = batch.labels[row] != IGNORE
            learnt = batch.labels[row][places].tolist()
            ids.append((*prompt, *learnt))
            labels.append((*[IGNORE] * len(prompt), *learnt))
            if batch.token_weights is not None:
                weights.append([*[0.0] * len(prompt), *batch.token_weights[row][places].tolist()])
        rows, mask = pad_rows(ids, self.processor.pad_token_id)
        return replace(
            batch,
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(mask, device=device),
            labels=torch.tensor(pad_rows(labels, IGNORE)[0], device=device),
            token_weights=padded(weights, device) if weights else None,
        )


def padded(rows: Sequence[Sequence[float]], device: torch.device) -> Tensor:
    """Rows of numbers as (B, T), float32, zeros behind."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
