"""One step of policy gradient: samples, their rewards, the loss. The optimizer and the loop are Lightning's."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from r2gengpt.confidence.looking import Looker
from r2gengpt.config import DecodeConfig, ReinforceConfig
from r2gengpt.data.batches import Batch
from r2gengpt.model.loss import head_is_last
from r2gengpt.parts.assemble import Built
from r2gengpt.report import Report
from r2gengpt.training.reinforcement.result import ModelTexts, StageResult, measured, stage_result
from r2gengpt.training.reinforcement.rewards import Reward, Target, reward_of
from r2gengpt.training.reinforcement.sampling import Sampler, learnt_batch, repeated
from r2gengpt.training.reinforcement.surrogate import greedy_advantages, group_advantages, surrogate
from r2gengpt.training.reinforcement.tokens import TokenScores, frozen_copy, in_place_of, token_scores

log = logging.getLogger("r2gengpt.training")


@dataclass(frozen=True)
class Step:
    """What a batch gave: the loss (), float32, its figures by name, and how many tokens were sampled."""

    loss: Tensor
    figures: Mapping[str, float]
    tokens: int


class PolicyGradient:
    """The policy, the supervised model that it is kept near, and the rewards.

    Args:
        built: the model with the supervised weights, its trained parameters marked; a copy of these is the reference.
        weights: of the rewards and of the divergence.
        decode: of the run, lengths resolved.
        targets: what each study's report should say, by id.
        looker: of a model with a finding head.
    """

    def __init__(
        self,
        built: Built,
        weights: ReinforceConfig,
        decode: DecodeConfig,
        targets: Mapping[str, Target],
        looker: Looker | None = None,
    ) -> None:
        self.built, self.weights, self.targets = built, weights, targets
        self.sampler = Sampler(built, decode, looker)
        assert decode.max_new_tokens is not None
        self.longest = decode.max_new_tokens
        self.reference = frozen_copy(built.model)
        self.before: dict[str, float] = {}
        """The scores of the supervised model in validation."""
        self.validations: dict[int, dict[str, str]] = {}
        """Optimizer step → study → text; 0: of the supervised model."""
        self.head_last: bool | None = None  # looked up at the first step

    def state(self) -> dict[str, Any]:
        """Kept with the state to resume from."""
        return {"reference": self.reference, "before": self.before, "validations": self.validations}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.reference, self.before, self.validations = state["reference"], state["before"], state["validations"]

    def measured(self, reports: Sequence[Report], dataset: str) -> dict[str, float]:
        """What validation reports score, and how they report."""
        return measured(reports, self.targets, self.weights, dataset)

    def keep(self, step: int, reports: Sequence[Report], scores: Mapping[str, float]) -> None:
        """Keep the texts of a validation for `result`; the first one is the supervised model's."""
        self.validations[step] = {report.id: report.text for report in reports}
        if not self.before:
            self.before = dict(scores)

    def result(self, best: Mapping[str, float], dataset: str) -> StageResult:
        """The supervised model beside the best validation, whose scores have its `step`.

        A validation that is no better is told in the log.
        """
        if best["val_score"] <= self.before["val_score"]:
            log.warning("no validation scored above the supervised model, which has %.4g", self.before["val_score"])
        before = ModelTexts(self.validations[0], self.before)
        return stage_result(before, ModelTexts(self.validations[int(best["step"])], best), self.targets, dataset)

    def step(self, batch: Batch, seed: int, checkpointed: Sequence[nn.Module] = ()) -> Step:
        """Sample, reward, and give the loss; the model is in eval mode, so that it learns what it draws from.

        Args:
            batch: of the training loader.
            seed: of the samples.
            checkpointed: layers that are computed again in the backward pass.
        """
        count, weights = self.weights.samples_per_study, self.weights
        with _own_casts(batch.input_ids.device):
            prompts = self.sampler.prompts(batch)
            many = repeated(prompts, count)
            reports = self.sampler.drawn(many, weights.sample_temperature, seed)
            rewards = [self._reward(report) for report in reports]
            totals = torch.tensor([one.total for one in rewards]).view(-1, count)
            advantages = self._advantages(totals, prompts)
            learnt = learnt_batch(many, reports, self.built.processor.pad_token_id)
            with torch.no_grad(), in_place_of(self.built.model, self.reference):
                reference = self._scores(learnt).logprobs
        with _computed_twice(checkpointed):
            scores = self._scores(learnt)
        lengths = torch.tensor([report.tokens for report in reports])
        found = surrogate(
            scores.logprobs,
            reference,
            advantages.flatten().repeat_interleave(lengths).to(reference),
            kl_weight=weights.kl_weight,
            samples=len(reports),
            longest=self.longest,
        )
        beside = {"kl": float(found.kl), "entropy": float(scores.entropies.mean())}
        return Step(found.loss, beside | figures(reports, rewards, totals), int(lengths.sum()))

    def _scores(self, batch: Batch) -> TokenScores:
        model = self.built.model
        if self.head_last is None:
            self.head_last = head_is_last(model.language_model)
        return token_scores(model, batch, self.weights.sample_temperature, head_last=self.head_last)

    def _reward(self, report: Report) -> Reward:
        return reward_of(report.text, self.targets[report.id], self.weights)

    def _advantages(self, totals: Tensor, prompts: Batch) -> Tensor:
        if self.weights.policy_gradient == "grpo":
            return group_advantages(totals)
        greedy = [self._reward(report).total for report in self.sampler.greedy(prompts)]
        return greedy_advantages(totals, torch.tensor(greedy))


def figures(reports: Sequence[Report], rewards: Sequence[Reward], totals: Tensor) -> dict[str, float]:
    """What is logged of a step's samples.

    Args:
        reports: the samples.
        rewards: of each.
        totals: (B, G), of the same.
    """
    count = len(reports)
    return {
        "sample_reward": float(totals.mean()),
        "sample_labels": sum(one.labels for one in rewards) / count,
        "sample_sides": sum(one.sides for one in rewards) / count,
        "sample_repetition": sum(one.repetition for one in rewards) / count,
        "sample_tokens": sum(report.tokens for report in reports) / count,
        "sample_distinct": len({report.text for report in reports}) / count,
        "sample_unfinished": sum(report.finish == "length" for report in reports) / count,
        "alike_groups": float((totals.amax(1) == totals.amin(1)).float().mean()),
    }


@contextmanager
def _own_casts(device: torch.device) -> Iterator[None]:
    """Within autocast, casts of weights are not kept: those made without gradients would serve the loss too."""
    kind = device.type
    with torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False):
        yield


@contextmanager
def _computed_twice(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Marks layers as in training, where the library looks whether to compute them again."""
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
