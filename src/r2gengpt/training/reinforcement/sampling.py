"""Reports sampled of a batch's studies by the one decode path, and the rows that they are learnt as. Rewards none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from r2gengpt.confidence.looking import Looker
from r2gengpt.config import DecodeConfig
from r2gengpt.data.batches import Batch
from r2gengpt.generation.decode import predict
from r2gengpt.generation.prompts import image_features
from r2gengpt.parts.assemble import Built
from r2gengpt.report import Report
from r2gengpt.text.alignment import IGNORE, pad_rows

APART, MASK = 1_000_003, 0x7FFF_FFFF_FFFF_FFFF
"""How far apart the seeds of two steps are: each sample's own is its step's and its number; seeds have 63 bits."""


def as_sampled(decode: DecodeConfig, temperature: float, seed: int) -> DecodeConfig:
    """Decode settings by which the policy itself is sampled: no beams, no penalties, no cut of the distribution."""
    return replace(
        decode,
        beam_size=1,
        do_sample=True,
        temperature=temperature,
        top_p=1.0,
        top_k=0,
        min_new_tokens=0,
        repetition_penalty=None,
        no_repeat_ngram_size=None,
        decode_seed=seed * APART & MASK,
        speculate=False,
        opening="none",
    )


def as_greedy(decode: DecodeConfig) -> DecodeConfig:
    """The same without chance: the likeliest token each time."""
    return replace(as_sampled(decode, 0.0, 0), do_sample=False)


def repeated(batch: Batch, count: int) -> Batch:
    """Each study of a batch of prompts with features so many times, its repeats one after the other."""
    assert batch.features is not None
    studies = torch.split(batch.features, batch.view_mask.sum(1).tolist())
    return replace(
        batch,
        ids=tuple(name for name in batch.ids for _ in range(count)),
        references=tuple(text for text in batch.references for _ in range(count)),
        input_ids=batch.input_ids.repeat_interleave(count, 0),
        attention_mask=batch.attention_mask.repeat_interleave(count, 0),
        view_mask=batch.view_mask.repeat_interleave(count, 0),
        features=torch.cat([study for study in studies for _ in range(count)]),
        instructions=tuple(text for text in batch.instructions for _ in range(count)),
        marks=None if batch.marks is None else batch.marks.repeat_interleave(count, 0),
        compared=tuple(one for one in batch.compared for _ in range(count)),
    )


def learnt_batch(prompts: Batch, reports: Sequence[Report], pad: int) -> Batch:
    """Prompts continued by the tokens of their reports, which are the labels; padded on the right."""
    rows, labels = [], []
    for ids, mask, report in zip(prompts.input_ids, prompts.attention_mask.bool(), reports, strict=True):
        prompt = ids[mask].tolist()
        rows.append((*prompt, *report.token_ids))
        labels.append((*[IGNORE] * len(prompt), *report.token_ids))
    ids, mask = pad_rows(rows, pad)
    device = prompts.input_ids.device
    return replace(
        prompts,
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        labels=torch.tensor(pad_rows(labels, IGNORE)[0], device=device),
    )


@dataclass(frozen=True)
class Sampler:
    """What draws the reports.

    Attributes:
        built: the model, in eval mode while it draws.
        decode: of the run, lengths resolved.
        looker: of a model with a finding head, whose hints prompts hold as in use; None: it has none.
    """

    built: Built
    decode: DecodeConfig
    looker: Looker | None

    @torch.no_grad()
    def prompts(self, batch: Batch) -> Batch:
        """The prompts of a training batch's studies, padded on the left, with features; labels are left out."""
        processor = self.built.processor
        rows = [
            processor.prompt_row(views, batch.instruction(row), earlier)
            for row, (views, earlier) in enumerate(batch.views)
        ]
        ids, mask = pad_rows(rows, processor.pad_token_id, left=True)
        device = batch.input_ids.device
        plain = replace(
            batch,
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(mask, device=device),
            labels=None,
            token_weights=None,
        )
        if self.looker is not None:
            return self.looker.seen(plain)[0]
        return replace(plain, features=image_features(self.built.model, plain), pixel_values=None)

    def drawn(self, prompts: Batch, temperature: float, seed: int) -> list[Report]:
        """A report of each prompt, drawn from the policy; each depends on the seed and its place alone."""
        return self._written(prompts, as_sampled(self.decode, temperature, seed))

    def greedy(self, prompts: Batch) -> list[Report]:
        """The greedy report of each prompt."""
        return self._written(prompts, as_greedy(self.decode))

    def _written(self, prompts: Batch, decode: DecodeConfig) -> list[Report]:
        return list(predict(self.built.model, self.built.processor, [prompts], decode))
