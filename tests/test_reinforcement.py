"""Reinforcement by hand: rewards of texts, advantages, the surrogate's gradient, habits. No model is run."""

import math
from pathlib import Path

import pytest
import torch

from r2gengpt.config import ReinforceConfig
from r2gengpt.data.labels import Labels
from r2gengpt.data.study import Study
from r2gengpt.metrics.labels.family import LABEL_F1, LABELS
from r2gengpt.metrics.measure import MetricChoice
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score
from r2gengpt.training.reinforcement.result import ModelTexts, habits_of, micro_f1, stage_result
from r2gengpt.training.reinforcement.rewards import Target, repetition, reward_of, target_of
from r2gengpt.training.reinforcement.surrogate import divergence, greedy_advantages, group_advantages, surrogate

WEIGHTS = ReinforceConfig(reward_labels=1.0, reward_sides=0.5, reward_repetition=0.25)
REFERENCE = "Left pleural effusion. Mild cardiomegaly. No pneumothorax."


def study(report: str = "", labels: dict[str, float] | None = None) -> Study:
    return Study("a", (Path("a.png"),), report, labels=Labels(labels or {}))


def reward(text: str, target: Target) -> tuple[float, float, float, float]:
    found = reward_of(text, target, WEIGHTS)
    return found.labels, found.sides, found.repetition, found.total


def test_the_reference_itself_has_the_whole_reward() -> None:
    assert reward(REFERENCE, target_of(study(REFERENCE))) == (1.0, 1.0, 0.0, 1.5)


def test_a_wrong_side_costs_the_side_and_no_label() -> None:
    found = reward(REFERENCE.replace("Left", "Right"), target_of(study(REFERENCE)))
    assert found == (1.0, 0.0, 0.0, 1.0)


def test_a_missed_and_a_wrong_finding_lower_f1_as_one_study() -> None:
    labels, sides, _, total = reward("Left pleural effusion. Pulmonary edema.", target_of(study(REFERENCE)))
    assert (labels, sides) == (2 / (2 + 1 + 1), 1.0)
    assert total == 1.0 * labels + 0.5


def test_an_empty_text_earns_nothing_though_the_labeller_calls_it_normal() -> None:
    normal = target_of(study("The heart is normal in size. The lungs are clear."))
    assert normal.present == {"No Finding"}
    assert reward(" \n", normal) == (0.0, 0.0, 0.0, 0.0)
    assert reward("The lungs are clear.", normal)[0] == 1.0


def test_repeated_words_are_taken_off() -> None:
    text = " ".join([REFERENCE] * 3)
    assert repetition(REFERENCE) == 0.0
    words = len(text.split())
    once = len(REFERENCE.split())
    assert repetition(text) == pytest.approx(1 - once / (words - 3))
    found = reward_of(text, target_of(study(REFERENCE)), WEIGHTS)
    assert found.total == pytest.approx(1.5 - 0.25 * repetition(text))


def test_a_study_with_labels_alone_counts_only_what_is_known() -> None:
    target = target_of(study(labels={"Pleural Effusion": 1, "Edema": 0, "AP View": 1}))
    assert target.known == {"Pleural Effusion", "Edema"}
    assert target.present == {"Pleural Effusion"}
    assert reward("Pleural effusion with cardiomegaly.", target)[0] == 1.0
    assert reward("Pleural effusion and pulmonary edema.", target)[0] == pytest.approx(2 / 3)


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    target = target_of(study(labels={"Edema": 0}))
    assert reward("The lungs are clear.", target)[0] == 1.0
    assert reward("Pulmonary edema.", target)[0] == 0.0


def test_group_advantages_have_mean_0_and_deviation_1_and_are_0_for_equal_rewards() -> None:
    found = group_advantages(torch.tensor([[0.1, 0.5, 0.9], [0.4, 0.4, 0.4]]))
    torch.testing.assert_close(found[0], torch.tensor([-1.0, 0.0, 1.0]), rtol=1e-3, atol=1e-6)  # 1e-4 of the deviation
    assert torch.equal(found[1], torch.zeros(3))


def test_greedy_advantages_are_distances_from_the_greedy_report() -> None:
    found = greedy_advantages(torch.tensor([[1.0, 0.25]]), torch.tensor([0.5]))
    assert found.tolist() == [[0.5, -0.25]]


def test_the_gradient_of_the_surrogate_is_the_one_derived_by_hand() -> None:
    """One study, two samples of two tokens over a vocabulary of two; d log softmax = one-hot - softmax."""
    logits = torch.tensor([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.0], [0.2, 0.2]], dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([0, 1, 1, 0])
    advantages = torch.tensor([1.5, 1.5, -0.5, -0.5], dtype=torch.float64)
    reference = torch.tensor([-0.6, -0.7, -0.9, -0.4], dtype=torch.float64)
    kl_weight, samples, longest = 0.3, 2, 5
    logprobs = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    found = surrogate(logprobs, reference, advantages, kl_weight=kl_weight, samples=samples, longest=longest)
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    for row in range(4):
        shares = [math.exp(value) for value in logits[row].tolist()]
        shares = [value / sum(shares) for value in shares]
        away = float(reference[row]) - math.log(shares[int(tokens[row])])
        # d/dlogp of A logp - kl (exp(ref - logp) - (ref - logp) - 1)
        slope = float(advantages[row]) - kl_weight * (1 - math.exp(away))
        for word in range(2):
            one = (word == int(tokens[row])) - shares[word]
            assert float(logits.grad[row, word]) == pytest.approx(-slope * one / (samples * longest), rel=1e-12)


def test_the_divergence_is_0_where_both_agree_and_above_0_elsewhere() -> None:
    logprobs = torch.tensor([-0.5, -2.0, -0.1])
    assert torch.equal(divergence(logprobs, logprobs), torch.zeros(3))
    assert (divergence(logprobs, logprobs + torch.tensor([0.1, -0.1, -1.0])) > 0).all()


def test_habits_tell_omitted_hedged_repeated_and_equal_texts() -> None:
    targets = [target_of(study(REFERENCE))] * 4
    texts = ["Possible pleural effusion.", "No cardiomegaly. No effusion.", "Pulmonary edema.", "Pulmonary edema."]
    found = habits_of(texts, targets)
    assert found.omission == (1 + 0 + 2 + 2) / 8
    assert found.hedging == 1 / 3
    assert found.distinct == 3 / 4
    assert found.words == (3 + 4 + 2 + 2) / 4
    assert found.repetition == 0.0


def test_a_text_that_names_a_kind_of_a_finding_has_not_left_it_out() -> None:
    target = target_of(study("Opacity in the left lung."))
    assert habits_of(["Pneumonia."], [target]).omission == 0.0
    assert habits_of(["Fracture."], [target]).omission == 1.0


def test_the_f1_of_the_table_is_the_clinical_f1_of_the_scores() -> None:
    references = [REFERENCE, "The lungs are clear.", "Pulmonary edema. Possible pneumonia."]
    texts = ["Left effusion.", "Cardiomegaly. No effusion.", "The lungs are clear."]
    wanted = score(
        {str(i): text for i, text in enumerate(texts)},
        {str(i): [text] for i, text in enumerate(references)},
        PROTOCOLS["clean"],
        choice=MetricChoice((LABELS,), {}),
        resamples=0,
    ).metrics[LABEL_F1]
    assert micro_f1(texts, [target_of(study(text)) for text in references]) == pytest.approx(wanted.value, abs=1e-12)


def test_the_table_has_both_models_the_references_habits_and_paired_differences() -> None:
    targets = {str(number): target_of(study(REFERENCE)) for number in range(4)}
    before = ModelTexts(
        dict.fromkeys(targets, "The lungs are clear."), {"clinical_f1": 0.0, "words": 4.0, "other": 1.0}
    )
    after = ModelTexts(dict.fromkeys(targets, REFERENCE), {"clinical_f1": 1.0, "words": 7.0})
    found = stage_result(before, after, targets, "plain")
    lines = found.table().splitlines()
    assert lines[0].split()[:4] == ["4", "validation", "studies", "supervised"]
    assert lines[1].split()[-5:] == ["0.000", "1.000", "+1.000", "[+1.000,", "+1.000]"]
    assert lines[2].split()[-3:] == ["4.000", "7.000", "7.000"]
    assert len(lines) == 3
