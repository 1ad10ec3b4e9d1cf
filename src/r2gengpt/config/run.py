"""A whole run, and what a checkpoint stores of it. Writes nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from r2gengpt.config.data import DataConfig
from r2gengpt.config.decode import DecodeConfig
from r2gengpt.config.model import ModelConfig
from r2gengpt.config.reinforce import ReinforceConfig
from r2gengpt.config.train import TrainConfig
from r2gengpt.options import Override


@dataclass(frozen=True)
class RunConfig:
    """All settings of a training run. Where its model lies on a machine is none of them (`PlacementConfig`)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    reinforce: ReinforceConfig = field(default_factory=ReinforceConfig)

    @property
    def stored(self) -> "Stored":
        """What a checkpoint of the run says of it."""
        return Stored.of(self.flat())

    def flat(self) -> dict[str, Any]:
        """Each setting by its name, ready for JSON; those of reinforcement only where that is the stage."""
        parts: tuple[Any, ...] = (self.model, self.data, self.decode, self.train)
        if self.train.stage == "reinforce":
            parts = (*parts, self.reinforce)
        return {name: value for part in parts for name, value in asdict(part).items()}


@dataclass(frozen=True)
class Stored:
    """What a checkpoint says of how it was made: settings of its run, but none of the machine or its user."""

    model: Override[ModelConfig]
    data: Override[DataConfig]
    decode: Override[DecodeConfig]
    train: Override[TrainConfig]
    reinforce: Override[ReinforceConfig] = field(default_factory=lambda: Override(ReinforceConfig))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Stored":
        """The settings among values of any names, as they lie in a file."""
        kept = {name: value for name, value in values.items() if name in KEPT}
        return cls(
            Override.of(ModelConfig, kept),
            Override.of(DataConfig, kept),
            Override.of(DecodeConfig, kept),
            Override.of(TrainConfig, kept),
            Override.of(ReinforceConfig, kept),
        )

    def flat(self) -> dict[str, Any]:
        """Each setting by its name, ready for JSON."""
        parts = (self.model, self.data, self.decode, self.train, self.reinforce)
        return {name: value for part in parts for name, value in part.values.items()}

    @property
    def dataset(self) -> str:
        """Whose report cleaner and lengths the model was trained with; plain where nothing says so.

        Raises:
            InputError: a data setting is refused.
        """
        return Override(DataConfig, {"dataset": "plain"}).under(self.data).settled().dataset


KEPT = frozenset(
    f.name
    for kind in (ModelConfig, DataConfig, DecodeConfig, TrainConfig, ReinforceConfig)
    for f in fields(kind)
    if not f.metadata["here"]
)
"""Names of the settings that a checkpoint holds: how the model was made, not where it runs or who runs it."""
