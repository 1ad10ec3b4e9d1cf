"""What lies in a run's directory of its settings and its end, and how settings differ. Imports no PyTorch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SUMMARY = "summary.json"
"""Marks a run as finished, and says how it ended."""
SAME_RUN = (
    "resume",
    "overwrite",
    "num_workers",
    "prefetch_factor",
    "gradient_checkpointing",
    "feature_cache",
    "choose_decode",
    "keep_sentences",
)
"""Settings that may change between the start of a run and its continuation."""
BEFORE_IT_WAS: Mapping[str, Any] = MappingProxyType({"stage": "supervised"})
"""What runs of versions without a setting did."""


def first_change(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first setting by which a run would not be the same, None where there is none.

    >>> first_change({"seed": 1, "num_workers": 0}, {"seed": 2, "num_workers": 4})
    'seed'
    """
    before = {**BEFORE_IT_WAS, **stored}
    return next((name for name, value in wanted.items() if name not in SAME_RUN and before.get(name) != value), None)
