"""Reporters around models that tests have built, and what a checkpoint of some settings holds. No test stands here."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from r2gengpt.config import DecodeConfig, Stored
from r2gengpt.generation.suffixes import SuffixIndex
from r2gengpt.parts.assemble import Built
from r2gengpt.reporter import Reporter


def stored_of(*configs: Any) -> Stored:
    """What a checkpoint of a run of these settings says of them."""
    return Stored.of({name: value for config in configs for name, value in asdict(config).items()})


def reporter_of(built: Built, decode: DecodeConfig, index: SuffixIndex | None = None) -> Reporter:
    """A model in memory, decoding as it is told to."""
    stored = Stored.of({"vision_model": "vision", "lm_model": "language", "dataset": "plain"})
    streamed = replace(decode, beam_size=1)
    directory = Path("nowhere")
    return Reporter(
        name="model", built=built, stored=stored, directory=directory, decode=decode, streamed=streamed, index=index
    )
