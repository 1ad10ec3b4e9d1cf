"""Which image tokens a report's sentences rest on, by the model's own probabilities. No pictures, no files.

A map says what the language model took from the image tokens. It does not say that a sentence is true.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r2gengpt.confidence.maps import EVIDENCE, NO_EVIDENCE, Evidence, SentenceEvidence, tenth
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError
from r2gengpt.generation.prompts import check_fits, image_features
from r2gengpt.generation.sentences import sentence_tokens
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.parts.int8 import Int8Linear

RANDOM_TENTHS = 20
SMALLEST_GAIN = 0.1
"""Nats by which the top tenth's drop must be above the random tenths' mean: the sentence is a tenth less probable.

A tiny model that was trained on images shuffled between its studies stays below it in 96 of 100 reports.
"""
ERRORS = 1.645
"""Standard errors of that mean by which it must be above too: chance 1 in 20, one-sided."""
MOST_GROUPS = 64
"""Occluded groups of a view at most: finer grids are occluded in square tiles."""
ROWS_AT_ONCE = 8
"""Masked copies of a report in one pass of the language model."""


@dataclass(frozen=True)
class ForcedReport:
    """A report told to the model word by word, its image tokens exchangeable.

    `before` (T0, D), `image` (N, D) and `after` (T1, D) are the embeddings of one row; the last `report` positions of
    `after` hold `ids` (R,). For concat, N counts the tokens of all views of the study itself.
    """

    model: R2GenGPTForConditionalGeneration
    before: Tensor
    image: Tensor
    after: Tensor
    ids: Tensor

    @property
    def neutral(self) -> Tensor:
        """What a masked token is replaced by: the study's mean image token, (D,)."""
        return self.image.mean(0)

    def logprobs(self, images: Tensor) -> Tensor:
        """Natural-log probability of each report token, for each row of image tokens (K, N, D): (K, R), float32."""
        count = len(images)
        parts = (self.before.expand(count, -1, -1), images, self.after.expand(count, -1, -1))
        embeds = torch.cat(parts, dim=1)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        output = self.model(
            inputs_embeds=embeds, attention_mask=mask, use_cache=False, logits_to_keep=len(self.ids) + 1
        )
        logits = output.logits[:, :-1].float()
        index = self.ids.to(logits.device).expand(count, -1).unsqueeze(2)
        chosen: Tensor = logits.gather(2, index).squeeze(2) - logits.logsumexp(2)
        return chosen

    @torch.no_grad()
    def masked_logprobs(self, masks: Tensor) -> Tensor:
        """`logprobs` with the masked tokens replaced by the neutral one; (K, N), bool → (K, R)."""
        return torch.cat(
            [
                self.logprobs(torch.where(rows[:, :, None], self.neutral, self.image))
                for rows in torch.split(masks.to(self.image.device), ROWS_AT_ONCE)
            ]
        )


def tell(
    model: R2GenGPTForConditionalGeneration, processor: R2GenGPTProcessor, batch: Batch, ids: Sequence[int]
) -> ForcedReport:
    """A report's tokens after the prompt of a batch of one study; the films of an earlier study are part of it."""
    with torch.no_grad():
        moved = batch.to(model.device)
        features = image_features(model, moved)
        embeds = model.embed_inputs(moved.input_ids, None, moved.view_mask, features, moved.marks)[0]
        forced_ids = torch.tensor(list(ids), device=model.device)
        words = model.get_input_embeddings()(forced_ids).to(embeds)
    places = (batch.input_ids[0] == processor.image_token_id).nonzero().flatten()
    own = 1 if model.config.fusion == "mean" else batch.views[0][0]
    start = int(places[0])
    stop = start + own * model.config.tokens_per_view  # image tokens of an earlier study stand behind
    return ForcedReport(model, embeds[:start], embeds[start:stop], torch.cat([embeds[stop:], words]), forced_ids)


def occlusion_maps(report: ForcedReport, sentences: Sequence[Sequence[int]], grid: tuple[int, int]) -> Tensor:
    """What each token is worth to each sentence: the drop of its log-probability when its group is masked.

    A group is one token, or a square tile of a grid of more than `MOST_GROUPS`; its drop is shared out among its
    tokens. One pass for each group serves all sentences.

    Args:
        report: the report.
        sentences: each one's token numbers.
        grid: rows and columns of a view.

    Returns:
        (S, N), float32.
    """
    groups = tiles(grid, len(report.image))
    masks = torch.stack([groups == group for group in range(int(groups.max()) + 1)])
    drops = sentence_drops(report, masks, sentences) / masks.sum(1)
    return drops[:, groups]


def gradient_maps(report: ForcedReport, sentences: Sequence[Sequence[int]]) -> Tensor:
    """The gradient of each sentence's log-probability times what sets each token apart from the neutral one: (S, N).

    That is the drop by occlusion, to first order. One pass, and one backward pass a sentence.
    """
    with torch.enable_grad():
        image = report.image.detach().clone().requires_grad_()
        logprobs = report.logprobs(image[None])[0]
        gradients = [
            torch.autograd.grad(logprobs[list(tokens)].sum(), image, retain_graph=True)[0] for tokens in sentences
        ]
    apart = (report.image - report.neutral).float()
    return torch.stack([(gradient.float() * apart).sum(1).cpu() for gradient in gradients])


def sentence_drops(report: ForcedReport, masks: Tensor, sentences: Sequence[Sequence[int]]) -> Tensor:
    """How much less probable each mask makes each sentence, in nats: masks (K, N) → (S, K), float32, on the CPU."""
    none = torch.zeros(1, masks.shape[1], dtype=torch.bool)
    logprobs = report.masked_logprobs(torch.cat([none, masks])).cpu()
    totals = torch.stack([logprobs[:, list(tokens)].sum(1) for tokens in sentences])
    return totals[:, :1] - totals[:, 1:]


def tiles(grid: tuple[int, int], count: int) -> Tensor:
    """The group of each of `count` tokens, views after one another, as numbers from 0: (count,), int64."""
    rows, columns = grid
    side = 1
    while -(-rows // side) * -(-columns // side) > MOST_GROUPS:
        side += 1
    wide = -(-columns // side)
    one = (torch.arange(rows)[:, None] // side * wide + torch.arange(columns) // side).flatten()
    views = count // len(one)
    return torch.cat([one + view * (int(one.max()) + 1) for view in range(views)])


def random_tenths(count: int, seed: int = 0) -> Tensor:
    """`RANDOM_TENTHS` seeded choices of a tenth of the tokens: (RANDOM_TENTHS, count), bool."""
    rng = np.random.default_rng(seed)
    masks = torch.zeros(RANDOM_TENTHS, count, dtype=torch.bool)
    for mask in masks:
        mask[rng.choice(count, tenth(count), replace=False)] = True
    return masks


def verdict_of(drop_top: float, drops_random: Tensor) -> str:
    """Whether the top tenth's drop is above the random tenths' mean by `SMALLEST_GAIN` and by `ERRORS`."""
    error = float(drops_random.std()) / len(drops_random) ** 0.5
    above = drop_top - float(drops_random.mean())
    return EVIDENCE if above > max(SMALLEST_GAIN, ERRORS * error) else NO_EVIDENCE


def with_faithfulness(
    report: ForcedReport, texts: Sequence[str], sentences: Sequence[Sequence[int]], maps: Tensor
) -> Iterator[SentenceEvidence]:
    """The sentences with what masking their top tenth costs, against random tenths (the same for all)."""
    count = maps.shape[1]
    best = maps.topk(tenth(count), dim=1).indices
    top = torch.zeros(len(texts), count, dtype=torch.bool).scatter(1, best, True)
    drops = sentence_drops(report, torch.cat([top, random_tenths(count)]), sentences)
    for row, text in enumerate(texts):
        chosen, others = float(drops[row, row]), drops[row, len(texts) :]
        values = tuple(maps[row].tolist())
        yield SentenceEvidence(text, values, chosen, float(others.mean()), verdict_of(chosen, others))


def check_method(model: R2GenGPTForConditionalGeneration, method: str) -> None:
    """Refuse what the model cannot do, before a report is written.

    Raises:
        InputError: gradients of weights in bytes, or one image token, which leaves nothing to compare.
    """
    if method == "gradient" and any(isinstance(module, Int8Linear) for module in model.modules()):
        raise InputError("w8a8 products have no gradient: use occlusion", field="evidence_method", value="gradient")
    if model.config.tokens_per_view == 1:
        raise InputError(
            "`evidence`: a view of this model is one image token: there is nothing to map", field="evidence"
        )


def quick_method(model: R2GenGPTForConditionalGeneration) -> str:
    """How maps are made while others wait: by a backward pass a sentence, or by a pass a token where there is none."""
    return "occlusion" if any(isinstance(module, Int8Linear) for module in model.modules()) else "gradient"


def report_evidence(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batch: Batch,
    report: str,
    method: str = "occlusion",
) -> Evidence:
    """Maps of the sentences of a report, which need not be the model's own.

    Args:
        model: in eval mode.
        processor: of the model.
        batch: the prompt of one study.
        report: the text.
        method: one of `METHODS`.

    Raises:
        InputError: as `check_method`; prompt and report do not fit into the language model.
    """
    check_method(model, method)
    if len(batch.ids) != 1:
        raise ValueError(f"evidence is of one study, the batch holds {len(batch.ids)}")
    side = round(model.config.tokens_per_view**0.5)
    grid = side, side
    ids = processor.encode_text(report)
    found = sentence_tokens(processor, ids)
    if not found:
        return Evidence(batch.ids[0], method, grid, ())
    check_fits(model, batch.input_ids.shape[1], len(ids))
    texts, sentences = zip(*found, strict=True)
    forced = tell(model, processor, batch, ids)
    maps = gradient_maps(forced, sentences) if method == "gradient" else occlusion_maps(forced, sentences, grid)
    return Evidence(batch.ids[0], method, grid, tuple(with_faithfulness(forced, texts, sentences, maps)))
