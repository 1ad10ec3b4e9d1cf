"""The policy gradient's surrogate on log-probabilities, and advantages of rewards. No model, no text.

Sources: Rennie et al., "Self-critical sequence training", arXiv 1612.00563; Shao et al., "DeepSeekMath", arXiv
2402.03300, section 4.1 (GRPO); Liu et al., "Understanding R1-Zero-like training", arXiv 2503.20783, section 3.
"""

from dataclasses import dataclass

from torch import Tensor

SMALL = 1e-4
"""Added to a group's standard deviation."""


def group_advantages(rewards: Tensor) -> Tensor:
    """Each reward's distance from its group's mean, in the group's standard deviations (n - 1): (B, G) → (B, G).

    A group of equal rewards has advantages of 0.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + SMALL)


def greedy_advantages(rewards: Tensor, greedy: Tensor) -> Tensor:
    """Each reward's distance from that of its study's greedy report: (B, G) and (B,) → (B, G)."""
    return rewards - greedy[:, None]


def divergence(logprobs: Tensor, reference: Tensor) -> Tensor:
    """An estimate of the KL divergence from the reference policy at each sampled token, (n,), never below 0.

    Source: Shao et al., equation 4 (Schulman's third estimator): r - log r - 1, with r = reference / policy.
    """
    ratio = reference - logprobs
    return ratio.exp() - ratio - 1


@dataclass(frozen=True)
class Surrogate:
    """The surrogate of sampled tokens, and the mean divergence of a token.

    Attributes:
        loss: (), its gradient is the policy gradient's, negated.
        kl: (), detached.
    """

    loss: Tensor
    kl: Tensor


def surrogate(
    logprobs: Tensor, reference: Tensor, advantages: Tensor, *, kl_weight: float, samples: int, longest: int
) -> Surrogate:
    """The surrogate whose gradient is taken once for each set of samples.

    The ratio of new to old policy is 1, and its gradient that of the log-probability: clipping would never act.

    Args:
        logprobs: (n,), of the sampled tokens under the policy, with a gradient.
        reference: (n,), under the reference policy.
        advantages: (n,), of the sample that each token stands in.
        kl_weight: of the divergence.
        samples: how many samples the tokens are of.
        longest: tokens that a sample may have.

    Differs from Shao et al.: sums are divided by the longest length, and not by each sample's own, which would favour
    long samples among bad ones (Liu et al.).
    """
    ratio = (logprobs - logprobs.detach()).exp()
    kl = divergence(logprobs, reference)
    loss = -(advantages * ratio - kl_weight * kl).sum() / (samples * longest)
    return Surrogate(loss, kl.detach().mean())
