"""What a model's finding head sees on a batch's films, and the hint that its prompts then hold. Writes no report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from r2gengpt.confidence.film_guard import GRID, FilmGuard, put_right
from r2gengpt.confidence.findings import Scale, Sight, findings_of, verdicts_of
from r2gengpt.data.batches import Batch
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.model.vision import regional_means
from r2gengpt.report import Doubt, Finding
from r2gengpt.text.alignment import pad_rows
from r2gengpt.text.observations import hint_of, hinted, opening_of
from r2gengpt.text.prompt import IMAGE_PLACEHOLDER


@dataclass(frozen=True)
class Looker:
    """A model with a finding head, and how its logits are read.

    Attributes:
        model: in eval mode.
        processor: of the model.
        scales: one an observation.
        hints: whether prompts hold the verdicts.
        hint_overrides: hints by study, which prompts hold in place of the head's own.
        guard: what knows the films that the head has learnt from; None: no film is doubted.
    """

    model: R2GenGPTForConditionalGeneration
    processor: R2GenGPTProcessor
    scales: tuple[Scale, ...]
    hints: bool
    hint_overrides: Mapping[str, str] = field(default_factory=dict)
    guard: FilmGuard | None = None

    def look(self, batch: Batch) -> tuple[Batch, list[Sight]]:
        """What each study's films show, and the batch of prompts with their features, hints and openings.

        Films are seen as they are and mirrored; a batch of features only as it is. A prompt that somebody wrote whole
        gets neither hint nor opening.
        """
        looked, logits = self.seen(batch)
        rows = logits.tolist()
        findings = [findings_of(row, self.scales) for row in rows]
        parts = zip(findings, self._doubts(batch, looked), batch.compared, map(tuple, rows), strict=True)
        return self.opened(looked, findings), [Sight(*part) for part in parts]

    def opened(self, batch: Batch, findings: Sequence[Sequence[Finding]]) -> Batch:
        """The batch with what each report opens with, by its study's findings; `opening` says whether it does."""
        openings = [
            () if written_whole(batch.instruction(row)) else tuple(self.processor.encode_text(opening_of(one)))
            for row, one in enumerate(findings)
        ]
        return replace(batch, openings=tuple(openings))

    def _doubts(self, batch: Batch, looked: Batch) -> list[tuple[Doubt, ...]]:
        """What speaks against each study's own films; nothing without a guard.

        Args:
            batch: as it was: with its films, doubtful ones are looked at once more.
            looked: as `seen` gives it.
        """
        if self.guard is None or looked.features is None:
            return [()] * len(looked.ids)
        means = regional_means(looked.features, GRID).cpu().numpy()
        found, first = [], 0
        for row, (now, earlier) in enumerate(looked.views):
            relook = None if batch.pixel_values is None else partial(self._relook, batch, row)
            found.append(self.guard.doubts(means[first : first + now], relook))
            first += now + earlier
        return found

    @torch.no_grad()
    def _relook(self, batch: Batch, row: int, place: int, kind: str) -> npt.NDArray[np.float32]:
        """What the film guard asks of one film of a study of the batch."""
        assert batch.pixel_values is not None
        own, image_processor = batch.pixel_values[row][batch.view_mask[row]][place], self.processor.image_processor
        centre, scale = (
            getattr(image_processor, name, None) if getattr(image_processor, "do_normalize", False) else None
            for name in ("image_mean", "image_std")
        )
        pixels = torch.from_numpy(put_right(own.cpu().numpy(), kind, centre, scale))[None, None].to(self.model.device)
        with fast_arithmetic(pixels.device):
            features = self.model.encode_views(pixels, torch.ones(1, 1, dtype=torch.bool, device=pixels.device))
        return regional_means(features.float(), GRID)[0].cpu().numpy()

    @torch.no_grad()
    def seen(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch with its films' features and hints, and the head's logits (B, O), float32."""
        batch = batch.to(self.model.device)
        features, logits = self._features(batch)
        looked = replace(batch, features=features, pixel_values=None)
        if not self.hints:
            return looked, logits
        own = [hint_of(verdicts_of(findings_of(row, self.scales))) for row in logits.tolist()]
        hints = [self.hint_overrides.get(study, hint) for study, hint in zip(batch.ids, own, strict=True)]
        return self._hinted(looked, hints), logits

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (K, N, E) and logits (B, O)."""
        mask = batch.view_mask
        if batch.features is not None:
            return batch.features, self.model.finding_logits(batch.features, mask, batch.marks)
        assert batch.pixel_values is not None  # a batch has one or the other
        both = torch.cat([batch.pixel_values, batch.pixel_values.flip(-1)])
        with fast_arithmetic(both.device):
            features = self.model.encode_views(both, torch.cat([mask, mask])).float()
        here = features[: len(features) // 2]
        marks = None if batch.marks is None else torch.cat([batch.marks, batch.marks])
        logits = self.model.finding_logits(features, torch.cat([mask, mask]), marks)
        return here, (logits[: len(mask)] + logits[len(mask) :]) / 2

    def _hinted(self, batch: Batch, hints: Sequence[str]) -> Batch:
        """The batch with a hint in front of each prompt's instruction, but for prompts that were written whole."""
        rows = [
            self.processor.prompt_row(views, self._asked(batch.instruction(row), hint), earlier)
            for row, (views, earlier) in enumerate(batch.views)
            for hint in [hints[row]]
        ]
        ids, mask = pad_rows(rows, self.processor.pad_token_id, left=True)
        device = batch.input_ids.device
        return replace(
            batch, input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device)
        )

    def _asked(self, instruction: str | None, hint: str) -> str:
        """An instruction with a hint in front; a whole prompt as it is."""
        asked = instruction or self.processor.instruction
        return asked if written_whole(asked) else hinted(asked, hint)


def written_whole(instruction: str | None) -> bool:
    """Whether somebody wrote the whole prompt, image's place and all: nothing is put into it."""
    return instruction is not None and IMAGE_PLACEHOLDER in instruction


def fast_arithmetic(device: torch.device) -> torch.autocast:
    """bfloat16 for the encoder where a CPU has it, which the head was trained in; elsewhere as the weights are."""
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    wanted = device.type == "cpu" and has is not None and bool(has())
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)
