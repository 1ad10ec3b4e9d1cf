"""How a validation stands among those of a run: by the floors that it is below, then by its score. Saves nothing."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from r2gengpt.config import TrainConfig


@dataclass(frozen=True, order=True)
class Standing:
    """What makes one validation better than another: less below the floors, then the higher score.

    Attributes:
        reach: 0 at or above all floors; else minus the sum of the shares of the floors that are missing.
        score: the sum that chooses.
    """

    reach: float = -math.inf
    score: float = -math.inf

    @classmethod
    def of(cls, scores: Mapping[str, float], train: TrainConfig) -> "Standing":
        """How scores stand. A score that is no number stands below all; so does one with a floor that is not there."""
        score = scores["val_score"]
        if math.isnan(score):
            return cls()
        missing = [1 - value / floor for value, floor in below_floors(scores, train).values()]
        return cls(0.0 - sum(missing), score)


@dataclass(frozen=True)
class Attempt:
    """One validation of a run: its epoch from 0, its optimizer step, and how it stands."""

    epoch: int
    step: int
    standing: Standing

    @property
    def score(self) -> float:
        """The sum that chooses."""
        return self.standing.score


def why_best(attempts: Sequence[Attempt], train: TrainConfig) -> str:
    """Which validation's weights are the best, and why, in a line; the first of equal ones is kept.

    >>> some = [Attempt(epoch, 9 + epoch * 9, Standing(0.0, score)) for epoch, score in enumerate((0.21, 0.34, 0.3))]
    >>> why_best(some, TrainConfig(scorer_types=("CIDEr",), weights=(1.0,)))
    'best: epoch 2 of 3, step 18: CIDEr is 0.34, the highest of 3 validations; next 0.3 in epoch 3'
    """
    best = max(attempts, key=lambda one: one.standing)
    where = f"epoch {best.epoch + 1} of {attempts[-1].epoch + 1}, step {best.step}"
    name, value, extreme = chosen_by(train, best.score)
    line = f"best: {where}: {name} is {value(best.score):.4g}, {rank_of(best, attempts, train, extreme)}"
    others = sorted((one for one in attempts if one is not best), key=lambda one: one.standing, reverse=True)
    if not others:
        return line
    note = " (below its floors)" if others[0].standing.reach < 0 else ""
    line += f"; next {value(others[0].score):.4g} in epoch {others[0].epoch + 1}{note}"
    return f"{line}; the last one was the best, so more epochs may do better" if best is attempts[-1] else line


def chosen_by(train: TrainConfig, score: float = 0.0) -> tuple[str, Callable[[float], float], str]:
    """The measure that chooses: its name, its value of a score, and which of its values is the best.

    `score` is the best one's, see `chosen_sum`.

    >>> name, value, extreme = chosen_by(TrainConfig(scorer_types=("val_loss",), weights=(1.0,)))
    >>> name, value(-0.25), extreme
    ('val_loss', 0.25, 'lowest')
    """
    if train.findings_only and score < 0:
        return "findings_loss", operator.neg, "lowest"
    if train.findings_only or train.weights != (1.0,):
        return chosen_sum(train), float, "highest"
    (name,) = train.scorer_types
    return (name, operator.neg, "lowest") if name == "val_loss" else (name, float, "highest")


def rank_of(best: Attempt, attempts: Sequence[Attempt], train: TrainConfig, extreme: str) -> str:
    """What makes the best validation the best; `extreme` is highest or lowest."""
    reached = sum(one.standing.reach == 0 for one in attempts)
    if train.floors and not reached:
        return f"nearest to its floors, which none of {len(attempts)} validations reached"
    if train.floors:
        return f"the {extreme} of the {reached} of {len(attempts)} validations that reached their floors"
    return f"the {extreme} of {len(attempts)} validations" if len(attempts) > 1 else "the only validation"


def below_floors(scores: Mapping[str, float], train: TrainConfig) -> dict[str, tuple[float, float]]:
    """The scores below their floors, each with its floor; one that could not be measured counts as 0."""
    found = {name: (scores.get(name.lower(), 0.0), floor) for name, floor in train.floors.items()}
    return {name: pair for name, pair in found.items() if pair[0] < pair[1]}


def shortfall(scores: Mapping[str, float], train: TrainConfig) -> str:
    """The floors that scores are below, in words; empty where there are none.

    >>> shortfall({"bleu_4": 0.01}, TrainConfig(score_floors=("Bleu_4=0.05",)))
    'Bleu_4 0.01 of 0.05'
    """
    missed = below_floors(scores, train)
    return ", ".join(f"{name} {value:.4g} of {floor:.4g}" for name, (value, floor) in missed.items())


def rule(train: TrainConfig, score: float = 0.0) -> str:
    """By what the best checkpoint is chosen, in words; `score` is its own, see `chosen_sum`.

    >>> rule(TrainConfig(scorer_types=("CIDEr", "val_loss"), weights=(1.0, 0.5), score_floors=("distinct=0.1",)))
    '1 CIDEr - 0.5 val_loss, at least distinct 0.1'
    """
    text = chosen_sum(train, score)
    floors = " and ".join(f"{name} {floor:g}" for name, floor in train.floors.items())
    return f"{text}, at least {floors}" if floors else text


def chosen_sum(train: TrainConfig, score: float = 0.0) -> str:
    """The sum that chooses, in words. A head alone has a score below 0 where its films are too few for an area."""
    if train.findings_only:
        return "findings_auc" if score >= 0 else "-1 findings_loss"
    signed = {"val_loss": -1}  # a smaller loss is better
    parts = [f"{signed.get(name, 1) * w:g} {name}" for name, w in zip(train.scorer_types, train.weights, strict=True)]
    return " + ".join(parts).replace("+ -", "- ")
