"""Tokens of sentences with a positive finding count more, and what a hint does to a training row."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.confidence.findings import UNFITTED, Scale
from r2gengpt.config import ModelConfig
from r2gengpt.data.batches import Batch, Example, has_positive, training_batch
from r2gengpt.model.loss import chunked_loss, report_loss
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.text.alignment import IGNORE
from r2gengpt.text.observations import ALL_OBSERVATIONS
from r2gengpt.training.hints import Hints
from r2gengpt.training.run import train
from training_settings import small_run

COUNT = len(ALL_OBSERVATIONS)
REPORT = "The heart is normal in size. There is a large pleural effusion. No pneumothorax."


@pytest.fixture(scope="module")
def built(tiny_parts: Path) -> Built:
    torch.manual_seed(0)
    model = ModelConfig(vision_model=str(tiny_parts / "vision-swin"), lm_model=str(tiny_parts / "lm-stablelm"))
    return build_model(model, FLOAT32)


def example(built: Built, report: str, **labels: float) -> Example:
    size = built.model.config.image_size
    known = torch.tensor([labels.get(name.replace(" ", "_"), float("nan")) for name in ALL_OBSERVATIONS])
    return Example("a", torch.zeros(1, 3, size, size), report, report, findings=known)


def words(built: Built, batch: Batch, weight: float) -> str:
    """The text of those tokens that count so much."""
    assert batch.labels is not None
    assert batch.token_weights is not None
    chosen = batch.labels[0][(batch.token_weights[0] == weight) & (batch.labels[0] != IGNORE)]
    return str(built.processor.tokenizer.decode(chosen))


def test_only_tokens_of_a_sentence_with_a_positive_finding_count_more(built: Built) -> None:
    batch = training_batch([example(built, REPORT)], built.processor, 200, finding_weight=3.0)
    assert words(built, batch, 3.0).strip() == "There is a large pleural effusion."
    assert words(built, batch, 1.0).startswith("The heart is normal in size.")


def test_without_a_weight_a_batch_has_none(built: Built) -> None:
    assert training_batch([example(built, REPORT)], built.processor, 200).token_weights is None


@pytest.mark.parametrize(
    ("sentence", "positive"),
    [
        ("There is edema.", True),
        ("No edema.", False),
        ("Normal chest.", False),
        ("Possible pneumonia.", False),
        ("The bones are intact.", False),
    ],
)
def test_what_counts_as_a_positive_finding(sentence: str, positive: bool) -> None:
    assert has_positive(sentence) is positive


def test_the_weighted_loss_is_the_weighted_mean_of_the_tokens_losses(built: Built) -> None:
    built.model.zero_grad()
    batch = training_batch(
        [example(built, REPORT), example(built, "Clear lungs.")], built.processor, 200, finding_weight=3.0
    )
    loss = built.model.loss(**batch.inputs())
    inputs = batch.inputs()
    inputs.pop("token_weights")
    logits = built.model(**{**inputs, "labels": None}).logits
    assert batch.labels is not None
    assert batch.token_weights is not None
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="none"
    )
    weights = batch.token_weights[:, 1:].flatten()
    assert loss.item() == pytest.approx(((losses * weights).sum() / weights.sum()).item(), rel=1e-5)
    assert built.model(**batch.inputs()).loss.item() == pytest.approx(loss.item(), rel=1e-5)


def test_its_gradients_are_those_of_the_plain_form() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 40)
    targets, weights = torch.randint(40, (30,)), torch.rand(30) * 3
    gradients = []
    for form in ("chunks", "plain"):
        hidden = torch.linspace(-1, 1, 240).reshape(30, 8).requires_grad_()
        head.zero_grad()
        if form == "chunks":
            loss = chunked_loss(hidden, targets, head, most=7, weights=weights)
        else:
            loss = (torch.nn.functional.cross_entropy(head(hidden), targets, reduction="none") * weights).sum()
            loss = loss / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert hidden.grad is not None
        assert head.weight.grad is not None
        gradients.append((loss.detach(), hidden.grad, head.weight.grad.clone()))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_equal_weights_change_nothing() -> None:
    logits, labels = torch.randn(2, 5, 9), torch.randint(9, (2, 5))
    assert torch.allclose(report_loss(logits, labels), report_loss(logits, labels, torch.full((2, 5), 2.0)))


def test_a_run_that_weighs_findings_learns_and_says_so(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    summary = train(small_run(tiny_parts, tiny_set, tmp_path / "run", weigh_findings=True, max_epochs=1), FLOAT32)
    assert summary.steps == 4


# ── hints in training rows ───────────────────────────────────────────────────────────────────────────────────────────


def hinted_prompt(
    built: Built,
    dropout: float,
    predicted: float,
    progress: float,
    *,
    scales: Sequence[Scale] = UNFITTED,
    **labels: float,
) -> tuple[str, Any]:
    batch = training_batch([example(built, "Clear.", **labels)], built.processor, 50, finding_weight=2.0)
    logits = torch.full((1, COUNT), -5.0)
    logits[0, ALL_OBSERVATIONS.index("Edema")] = 5.0
    hints = Hints(built.processor, scales, dropout=dropout, predicted=predicted)
    made = hints.mixed(batch, logits, progress)
    assert made.labels is not None
    assert batch.labels is not None
    assert made.labels[made.labels != IGNORE].tolist() == batch.labels[batch.labels != IGNORE].tolist()
    assert made.token_weights is not None
    assert made.token_weights.shape == made.labels.shape == made.input_ids.shape
    prompt = made.input_ids[0][made.labels[0] == IGNORE]
    return str(built.processor.tokenizer.decode(prompt[prompt != built.processor.image_token_id])), made


def test_a_hint_is_true_at_first_and_the_heads_own_in_the_end(built: Built) -> None:
    true, _ = hinted_prompt(built, 0.0, 1.0, 0.0, Pneumonia=1.0, Fracture=0.0)
    assert "Findings: pneumonia likely; fracture unlikely. Generate" in true
    own, _ = hinted_prompt(built, 0.0, 1.0, 1.0, Pneumonia=1.0, Fracture=0.0)
    assert "edema likely" in own
    assert "pneumonia unlikely" in own


def test_a_true_hint_names_only_what_the_head_assesses(built: Built) -> None:
    scales = [replace(scale, assessed=scale.name in ("Edema", "Pneumonia")) for scale in UNFITTED]
    true, _ = hinted_prompt(built, 0.0, 1.0, 0.0, scales=scales, Pneumonia=1.0, Fracture=0.0)
    assert "Findings: pneumonia likely. Generate" in true


def test_a_study_without_a_hint_has_the_plain_prompt(built: Built) -> None:
    plain, made = hinted_prompt(built, 1.0, 1.0, 1.0, Pneumonia=1.0)
    assert "Findings" not in plain
    row = built.processor.prompt_row(1)
    assert tuple(made.input_ids[0][: len(row)].tolist()) == row


def test_nothing_known_is_no_hint(built: Built) -> None:
    assert "Findings" not in hinted_prompt(built, 0.0, 0.0, 0.0)[0]
