"""Penalties tried on the validation split when training has ended, for several beams and for one. Trains nothing."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import torch

from r2gengpt.checkpoint import load_delta
from r2gengpt.confidence.looking import Looker
from r2gengpt.config import DataConfig, DecodeConfig
from r2gengpt.data.batches import prompt_batch
from r2gengpt.data.features.filling import Features
from r2gengpt.data.loading import StudyDataset, StudyLoader
from r2gengpt.data.ordering import sequential_batches
from r2gengpt.data.study import Study
from r2gengpt.generation.beams import ChosenDecoding, Penalties
from r2gengpt.generation.decode import predict
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.placement import place
from r2gengpt.progress import Bar
from r2gengpt.training.validation import validation_scores

log = logging.getLogger("r2gengpt.training")
T = TypeVar("T")
TRIED = (Penalties(), Penalties(1.0, 4), Penalties(1.2, 0), Penalties(2.0, 0))
"""In the order in which ties are settled. 2.0 is the original's."""
TRIED_BY_ONE = TRIED[:-1]
"""One beam has no other way out of a penalty of 2.0 than words that fit nowhere."""


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many items, evenly spread over all of them."""
    step = max(1.0, len(items) / max(1, count))
    return [items[int(index * step)] for index in range(min(count, len(items)))]


class DecodeChooser:
    """Writes the reports of some validation studies with each of the penalties that are tried.

    Args:
        built: the model, on its device.
        studies: of the validation split, those that are written.
        data: how they are read.
        decode: the run's decode settings, lengths resolved; penalties that are set there stand.
        features: of a frozen encoder, where the run keeps them.
        looker: puts hints and openings into prompts, as in use; None: prompts have neither.
    """

    def __init__(
        self,
        built: Built,
        studies: Sequence[Study],
        data: DataConfig,
        decode: DecodeConfig,
        features: Features | None,
        looker: Looker | None = None,
    ) -> None:
        self.built, self.studies, self.data, self.decode, self.features = built, studies, data, decode, features
        self.looker = looker
        self.trials: list[dict[str, float]] = []

    def score(self, decode: DecodeConfig) -> float:
        """The mean of BLEU-4 and CIDEr-D of the studies' reports, written so."""
        loader = StudyLoader(
            StudyDataset(self.studies, self.built.processor, self.data.dataset, features=self.features),
            lambda _: sequential_batches(len(self.studies), self.data.val_batch_size),
            functools.partial(prompt_batch, processor=self.built.processor),
        )
        prompts = loader if self.looker is None else (self.looker.look(batch)[0] for batch in loader)
        predictions = list(predict(self.built.model, self.built.processor, prompts, decode))
        scores = validation_scores(predictions, self.data.dataset)
        return (scores["bleu_4"] + scores["cider"]) / 2

    def best(self, beams: int, tried: Sequence[Penalties]) -> Penalties:
        """The penalties with the highest score at a number of beams; of equal ones the first."""
        fixed = self.decode.penalties if beams == self.decode.beam_size else {}
        open_ones = list(dict.fromkeys(replace(one, **fixed) for one in tried))
        if len(open_ones) == 1:
            return open_ones[0]
        scored = []
        for penalties in Bar(open_ones, desc=f"decode settings, {beams} beams", leave=False):
            score = self.score(replace(self.decode, beam_size=beams, speculate=False, **asdict(penalties)))
            self.trials.append({"beams": beams, **asdict(penalties), "score": score})
            scored.append(score)
        return open_ones[scored.index(max(scored))]

    @torch.no_grad()
    def choose(self) -> ChosenDecoding:
        """The penalties for one beam, and for the run's own number of beams."""
        one = self.best(1, TRIED_BY_ONE)
        beams = one if self.decode.beam_size == 1 else self.best(self.decode.beam_size, TRIED)
        return ChosenDecoding(beams, one, len(self.studies), tuple(self.trials))


def choose_decoding(
    chooser: DecodeChooser, best: Path | None, device: torch.device, *, quantization: str, precision: str
) -> ChosenDecoding:
    """What decodes the best checkpoint best; the model holds its weights afterwards.

    Args:
        chooser: of the run.
        best: the best checkpoint, or None where the last weights are all there is.
        device: where to write.
        quantization: of the frozen weights.
        precision: the run's arithmetic.
    """
    model = chooser.built.model
    if best is not None:
        load_delta(model, best, "savedmodel_path")
    place(model, device, quantization)
    model.eval()
    autocast = torch.bfloat16 if precision == "bf16-mixed" else None
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        chosen = chooser.choose()
    log.info(
        "decode settings by %d validation studies: %s; one beam: %s", chosen.studies, chosen.beams, chosen.one_beam
    )
    return chosen
