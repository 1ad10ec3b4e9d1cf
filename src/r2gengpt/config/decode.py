"""How reports are decoded. Decodes none."""

from dataclasses import dataclass, replace
from typing import Any

from r2gengpt.config.data import LENGTHS
from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option

NO_OPENING = "none"
"""Of `DecodeConfig.opening`: the language model chooses all words."""


@dataclass(frozen=True)
class DecodeConfig:
    """How text is generated."""

    beam_size: int = option(3, "beams; 1 is greedy (or plain sampling)", low=1, unit="BEAMS")
    do_sample: bool = option(False, "sample instead of taking the most likely token")
    temperature: float = option(
        0.0, "sampling temperature; 0: the model's own distribution", low=0.0, unit="TEMPERATURE"
    )
    top_p: float = option(
        1.0, "sampling: smallest set of tokens with this probability", above=0.0, high=1.0, unit="PROBABILITY"
    )
    top_k: int = option(0, "sampling: this many likeliest tokens; 0: all", low=0, unit="TOKENS")
    min_new_tokens: int | None = option(None, "shortest report in tokens; None: by `dataset`", low=0, unit="TOKENS")
    max_new_tokens: int | None = option(None, "longest report in tokens; None: by `dataset`", low=1, unit="TOKENS")
    repetition_penalty: float | None = option(
        None,
        "divides the score of tokens already generated; 1: off; None: as training chose it for so many beams, else 1",
        above=0.0,
        unit="FACTOR",
    )
    length_penalty: float = option(2.0, "beam scores are divided by length to this power", unit="POWER")
    early_stopping: str = option(
        "False",
        "beam search ends: True: when as many reports as beams have ended; False: when the best open beam would lose "
        "at its length; never: when it would lose at any length",
        choices=("True", "False", "never"),
    )
    no_repeat_ngram_size: int | None = option(
        None,
        "no n-gram of this size twice; 0: off (the original's 2 was never passed on, so its results had it off); None: "
        "as training chose it, else 0",
        low=0,
        unit="TOKENS",
    )
    num_beam_groups: int = option(
        1, "only 1: diverse beam search is no longer part of transformers", low=1, unit="GROUPS"
    )
    diversity_penalty: float = option(0.0, "only 0: belongs to diverse beam search", low=0.0, unit="PENALTY")
    decode_seed: int = option(42, "seed of sampling", low=0, unit="SEED")
    engine: str = option(
        "auto",
        "who decodes: fast (ours), hf (transformers' generate, the reference), auto: fast where it can; compiled: fast "
        "with compiled layers, on CUDA (ten seconds at the start, then faster)",
        choices=("auto", "fast", "compiled", "hf"),
    )
    opening: str = option(
        NO_OPENING,
        "how a report opens; findings: with what the finding head calls likely (`findings_head`), in words by its "
        "probability, and the language model goes on from there",
        choices=(NO_OPENING, "findings"),
    )
    speculate: bool = option(
        False,
        "greedy text in fewer passes, by drafts from the training reports; in float32 the same text. train and test "
        "keep those reports beside the weights, in speculation.safetensors",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_beam_groups != 1 or self.diversity_penalty != 0.0:
            raise InputError(
                f"`num_beam_groups` {self.num_beam_groups} `diversity_penalty` {self.diversity_penalty}: diverse beam "
                "search was removed from transformers 5; use 1 and 0, or `do_sample` True"
            )
        if self.speculate and (self.beam_size != 1 or self.do_sample or self.engine == "hf"):
            flags = f"`beam_size` {self.beam_size} `do_sample` {self.do_sample} `engine` {self.engine}"
            raise InputError(
                f"needs `beam_size` 1 `do_sample` False and our engine, not {flags}", field="speculate", value=True
            )
        low, high = self.min_new_tokens, self.max_new_tokens
        if low is not None and high is not None and low > high:
            raise InputError(f"`min_new_tokens` {low} is more than `max_new_tokens` {high}")

    @property
    def penalties(self) -> dict[str, Any]:
        """The penalties that are not left open, by name; open ones are off."""
        values = {name: getattr(self, name) for name in ("repetition_penalty", "no_repeat_ngram_size")}
        return {name: value for name, value in values.items() if value is not None}

    def for_dataset(self, dataset: str) -> "DecodeConfig":
        """The same settings with the lengths that were left open taken from the data set's row in `LENGTHS`."""
        _, low, high = LENGTHS[dataset]
        maximum = self.max_new_tokens if self.max_new_tokens is not None else max(high, self.min_new_tokens or 0)
        minimum = self.min_new_tokens if self.min_new_tokens is not None else min(low, maximum)
        return replace(self, min_new_tokens=minimum, max_new_tokens=maximum)


DECODE_PRESETS: dict[str, dict[str, Any]] = {
    "original": {"beam_size": 3, "repetition_penalty": 2.0, "length_penalty": 2.0, "no_repeat_ngram_size": 0}
}
"""Decode settings under one name, for `decode_preset`; the original's are those of its scripts."""
