"""How tests hold their models, and settings of both kinds taken apart. No test stands here."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from r2gengpt.config import ModelConfig
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.settings import PlacementConfig

FLOAT32 = PlacementConfig(dtype="float32")
"""The same on every machine: `auto` is bfloat16 where the processor has that."""
OF_PLACE = frozenset(f.name for f in fields(PlacementConfig))


def taken_apart(values: Mapping[str, Any]) -> tuple[ModelConfig, PlacementConfig]:
    """The model's settings and how it is held; without a `dtype`, in float32."""
    model = {name: value for name, value in values.items() if name not in OF_PLACE}
    place = {"dtype": "float32", **{name: value for name, value in values.items() if name in OF_PLACE}}
    return ModelConfig(**model), PlacementConfig(**place)


def built_of(**values: Any) -> Built:
    """The model that settings of both kinds give."""
    return build_model(*taken_apart(values))
