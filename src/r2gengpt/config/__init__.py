"""Every setting of the program as frozen dataclasses, checked when made. No torch, no files.

A field is a flag of the same name (`cli.bridge`); its help text and allowed values stand in the field's metadata.
Defaults are the original's (configs/config.py) where it has the flag; a differing default says why in its help text.
"""

from r2gengpt.config.data import LENGTHS, DataConfig
from r2gengpt.config.decode import DECODE_PRESETS, NO_OPENING, DecodeConfig
from r2gengpt.config.model import (
    ALIGNMENTS,
    CONTEXT_FIELDS,
    DEFAULT_INSTRUCTION,
    PRIOR,
    TEMPLATES,
    ModelConfig,
    check_context,
)
from r2gengpt.config.reinforce import ReinforceConfig
from r2gengpt.config.run import KEPT, RunConfig, Stored
from r2gengpt.config.train import LOGGERS, OF_TEXTS, SCORES, WITH_FLOORS, TrainConfig

__all__ = [
    "ALIGNMENTS",
    "CONTEXT_FIELDS",
    "DECODE_PRESETS",
    "DEFAULT_INSTRUCTION",
    "KEPT",
    "LENGTHS",
    "LOGGERS",
    "NO_OPENING",
    "OF_TEXTS",
    "PRIOR",
    "SCORES",
    "TEMPLATES",
    "WITH_FLOORS",
    "DataConfig",
    "DecodeConfig",
    "ModelConfig",
    "ReinforceConfig",
    "RunConfig",
    "Stored",
    "TrainConfig",
    "check_context",
]
