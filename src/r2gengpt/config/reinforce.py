"""How a reinforcement stage rewards and learns. Trains nothing."""

from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option


@dataclass(frozen=True)
class ReinforceConfig:
    """How `stage` reinforce samples reports, rewards them and compares them."""

    policy_gradient: str = option(
        "grpo",
        "what a sample's reward is compared with; grpo: the other samples of its study, by their mean and standard "
        "deviation; scst: the greedy report of its study",
        choices=("grpo", "scst"),
    )
    samples_per_study: int = option(
        4, "reports sampled of each study of a batch; grpo needs 2", low=1, high=256, unit="SAMPLES"
    )
    sample_temperature: float = option(1.0, "temperature of the samples", above=0.0, high=10.0, unit="TEMPERATURE")
    kl_weight: float = option(0.04, "weight of the divergence from the supervised model", low=0.0, unit="WEIGHT")
    reward_labels: float = option(
        1.0, "weight of the F1 of a sample's labels by the rule labeller against its study's", low=0.0, unit="WEIGHT"
    )
    reward_sides: float = option(
        0.2, "weight of the F1 of left and right of the findings whose side the reference names", low=0.0, unit="WEIGHT"
    )
    reward_repetition: float = option(
        0.5,
        "weight of the share of a sample's 4-grams that stood in it before; it is taken off",
        low=0.0,
        unit="WEIGHT",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.policy_gradient == "grpo" and self.samples_per_study < 2:
            raise InputError(
                "compares the samples of a study: needs at least 2, or `policy_gradient` scst",
                field="samples_per_study",
                value=self.samples_per_study,
            )
        if not self.reward_labels and not self.reward_sides:
            raise InputError("`reward_labels` 0 and `reward_sides` 0 leave nothing to learn: give one a weight")
