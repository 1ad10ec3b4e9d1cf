"""A finding head beside the report in training: its loss, its hints, what it saw in validation. Writes no text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r2gengpt.confidence.findings import UNFITTED, Scale, findings_of, read_scales, write_scales
from r2gengpt.confidence.looking import Looker
from r2gengpt.config import RunConfig
from r2gengpt.data.batches import Batch
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.generation.prompts import image_features
from r2gengpt.metrics.detection import FEWEST, areas_by_source
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.model.findings import findings_loss, positive_weights
from r2gengpt.parts.assemble import Built
from r2gengpt.text.observations import ALL_OBSERVATIONS
from r2gengpt.training.hints import Hints
from r2gengpt.training.scales import fit_scales
from r2gengpt.training.validation import SeenFilms, ValidationBatch


class Validation:
    """All that a head saw of the validation split.

    Args:
        studies: of the split.
        weights: (O,), of positives, for the loss.
    """

    def __init__(self, studies: Sequence[Study], weights: Tensor) -> None:
        self.studies = {study.id: study for study in studies}
        self.weights = weights.double().cpu()
        self.forget()

    def forget(self) -> None:
        """Have seen nothing: what the check before training saw is of a head that has learnt nothing."""
        self.labels: Floats = np.empty((0, len(ALL_OBSERVATIONS)))
        self.logits = self.labels
        self.ids: list[str] = []

    def ended(self, batches: Sequence[SeenFilms]) -> dict[str, float]:
        """Keep what was seen; gives the loss, and the mean area under the curve over sources and observations."""
        self.ids = [name for batch in batches for name in batch.ids]
        logits = torch.cat([batch.logits for batch in batches]).double()
        labels = torch.cat([batch.labels for batch in batches]).double()
        self.logits, self.labels = logits.numpy(), labels.numpy()
        scores = {"findings_loss": float(findings_loss(logits, labels, self.weights))}
        areas = areas_by_source(self.labels, self.logits, [self.studies[name].source for name in self.ids])
        return scores | ({"findings_auc": float(np.mean(list(areas.values())))} if areas else {})

    def state(self) -> dict[str, Any]:
        """Kept with the state to resume from."""
        return {"ids": self.ids, "logits": torch.from_numpy(self.logits), "labels": torch.from_numpy(self.labels)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.ids, self.logits, self.labels = state["ids"], state["logits"].numpy(), state["labels"].numpy()

    def write(self, directory: Path) -> None:
        """Put scales fitted to what was seen last beside weights; without a validation, logits are read as they are."""
        groups = [self.studies[name].patient or name for name in self.ids]
        write_scales(directory, fit_scales(self.labels, self.logits, groups) if groups else UNFITTED)


def check_measurable(labels: Tensor, studies: Sequence[Study], config: RunConfig) -> None:
    """Refuse to choose checkpoints by areas under curves that the validation split has too few films for.

    Args:
        labels: (n, O), of the validation split.
        studies: of the same split.
        config: of the run.

    Raises:
        InputError: no observation has enough positives and negatives within one source.
    """
    if "findings_auc" not in config.train.scorer_types or config.train.findings_only:
        return
    known = labels.double().numpy()
    if not areas_by_source(known, np.zeros_like(known), [study.source for study in studies]):
        raise InputError(
            f"no observation has {FEWEST} positives and {FEWEST} negatives within one source of split val",
            field="scorer_types",
            value="findings_auc",
        )


class AuxiliaryHead:
    """The finding head of a model that learns reports.

    Args:
        built: the model.
        config: of the run.
        labels: (n, O) of the training studies, by which positives are weighted.
        studies: of the validation split.
        start: the checkpoint that the run starts from, whose scales count until there are new ones; None: none.
    """

    def __init__(
        self, built: Built, config: RunConfig, labels: Tensor, studies: Sequence[Study], start: Path | None
    ) -> None:
        self.built, self.config = built, config
        self.weights = positive_weights(labels)
        self.validation = Validation(studies, self.weights)
        self.scales: tuple[Scale, ...] = UNFITTED if start is None else read_scales(start, "ckpt_file")
        train = config.train
        self.keeps_scales = start is not None and (train.freeze_seeing or train.stage == "reinforce")
        self.hints = Hints(built.processor, self.scales, train.hint_dropout, train.hint_predicted)

    def write(self, directory: Path) -> None:
        """Put scales beside weights: those that hints were told by where the head stays as it was, else fitted ones."""
        if self.keeps_scales:
            write_scales(directory, self.scales)
        else:
            self.validation.write(directory)

    def learn(self, batch: Batch, progress: float) -> tuple[Batch, Tensor]:
        """A training batch with its films' features and hints, and the head's share of the loss, ().

        Args:
            batch: with findings.
            progress: share of the run that is done.
        """
        assert batch.findings is not None
        model, train = self.built.model, self.config.train
        with torch.set_grad_enabled(not train.freeze_seeing):
            features = image_features(model, batch)
            logits = model.finding_logits(features, batch.view_mask, batch.marks)
            loss = findings_loss(logits, batch.findings, self.weights.to(logits.device))
        batch = replace(batch, features=features, pixel_values=None)
        if self.config.model.findings_hint:
            batch = self.hints.mixed(batch, logits.detach(), progress)
        return batch, train.findings_loss * loss

    def look(self, batch: ValidationBatch) -> tuple[ValidationBatch, SeenFilms]:
        """A validation batch with features, the head's own hints and openings, and what the head saw."""
        assert batch.learn.findings is not None
        hinting = self.config.model.findings_hint
        looker = Looker(self.built.model, self.built.processor, self.scales, hints=hinting)
        prompt, logits = looker.seen(batch.prompt)
        learn = replace(batch.learn, features=prompt.features, pixel_values=None)
        if hinting:
            learn = self.hints.own(learn, logits)
        prompt = looker.opened(prompt, [findings_of(row, self.scales) for row in logits.tolist()])
        return ValidationBatch(learn, prompt), SeenFilms(learn.ids, logits.cpu(), batch.learn.findings.cpu())
