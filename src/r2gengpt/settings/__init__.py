"""Settings of what runs, measures or serves a model, as frozen dataclasses. None of them is stored with weights."""

from r2gengpt.settings.archive import (
    AE_TITLE,
    GIB,
    OBJECT_FORMS,
    ListenConfig,
    MllpConfig,
    PriorConfig,
    WorklistConfig,
    check_forms,
)
from r2gengpt.settings.batch import BATCH_FORMATS, BatchConfig
from r2gengpt.settings.measures import METEOR_NAMES, AuditConfig, HonestyConfig, SeedsConfig
from r2gengpt.settings.placement import ACCELERATORS, MEMORY_LIMIT, NO_HASH, RUNTIMES, CellConfig, PlacementConfig
from r2gengpt.settings.reports import (
    GENERATE,
    METHODS,
    REFUSE,
    RETRIEVE,
    WARN,
    WRITERS,
    EvidenceConfig,
    GuardConfig,
    ReviewConfig,
    WriterConfig,
)
from r2gengpt.settings.serve import AuditLogConfig, ServeConfig, VerdictsConfig, host_and_port

__all__ = [
    "ACCELERATORS",
    "AE_TITLE",
    "BATCH_FORMATS",
    "GENERATE",
    "GIB",
    "MEMORY_LIMIT",
    "METEOR_NAMES",
    "METHODS",
    "NO_HASH",
    "OBJECT_FORMS",
    "REFUSE",
    "RETRIEVE",
    "RUNTIMES",
    "WARN",
    "WRITERS",
    "AuditConfig",
    "AuditLogConfig",
    "BatchConfig",
    "CellConfig",
    "EvidenceConfig",
    "GuardConfig",
    "HonestyConfig",
    "ListenConfig",
    "MllpConfig",
    "PlacementConfig",
    "PriorConfig",
    "ReviewConfig",
    "SeedsConfig",
    "ServeConfig",
    "VerdictsConfig",
    "WorklistConfig",
    "WriterConfig",
    "check_forms",
    "host_and_port",
]
