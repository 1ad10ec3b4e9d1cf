"""The training sentences that are kept beside a head's weights, for writing by retrieval. Trains nothing."""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from r2gengpt.checkpoint import load_delta
from r2gengpt.checkpoint_files import SENTENCES
from r2gengpt.confidence.findings import read_scales
from r2gengpt.confidence.looking import Looker
from r2gengpt.config import RunConfig
from r2gengpt.data.batches import prompt_batch
from r2gengpt.data.features.filling import Features
from r2gengpt.data.loading import StudyDataset, StudyLoader
from r2gengpt.data.ordering import sequential_batches
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.generation.retrieval import SentenceIndex, save_sentences
from r2gengpt.parts.assemble import Built
from r2gengpt.progress import Bar
from r2gengpt.text.cleaning import CLEANERS
from r2gengpt.training.distributed.processes import is_sharded


def check_keeps(config: RunConfig, studies: Sequence[Study]) -> None:
    """Refuse to keep sentences that nothing could choose from, or that are not there.

    Args:
        config: of the run.
        studies: of the train split.

    Raises:
        InputError: no head, no reports, or weights that lie in parts.
    """
    if not config.train.keep_sentences:
        return
    words = ""
    if not config.model.findings_head:
        words = "sentences are chosen by what the finding head sees: it needs `findings_head` True"
    elif is_sharded(config.train):
        words = f"looks at films with whole weights: not with `strategy` {config.train.strategy}"
    elif not any(study.report.strip() for study in studies):
        words = "no training study has a report"
    if words:
        raise InputError(words, field="keep_sentences", value=True)


def keep_sentences(
    built: Built,
    studies: Sequence[Study],
    config: RunConfig,
    directory: Path,
    *,
    device: torch.device,
    features: Features | None,
) -> None:
    """Put the sentences of the training reports beside a checkpoint's weights, with what its head sees on their films.

    Args:
        built: the model; it holds the checkpoint's weights afterwards.
        studies: of the train split; those without a report are left out.
        config: of the run.
        directory: of the checkpoint.
        device: where to look.
        features: of a frozen encoder, where the run keeps them.
    """
    reported, data = [study for study in studies if study.report.strip()], config.data
    model, processor = built.model, built.processor
    load_delta(model, directory, "savedmodel_path")
    model.eval()
    model.vision_tower.to(device)
    assert model.finding_head is not None
    model.finding_head.to(device)
    looker = Looker(model, processor, read_scales(directory, "savedmodel_path"), hints=False)
    loader = StudyLoader(
        StudyDataset(reported, processor, data.dataset, features=features),
        lambda _: sequential_batches(len(reported), data.val_batch_size),
        functools.partial(prompt_batch, processor=processor),
        num_workers=data.num_workers,
        prefetch_factor=data.prefetch_factor,
    )
    seen = [looker.seen(batch)[1].cpu() for batch in Bar(loader, desc="training films", leave=False)]
    index = SentenceIndex.of(reported, CLEANERS[data.dataset], torch.cat(seen).double().numpy())
    save_sentences(index, directory / SENTENCES)
