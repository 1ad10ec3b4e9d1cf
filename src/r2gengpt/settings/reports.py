"""How a report is written, marked and explained. Writes none."""

from dataclasses import dataclass

from r2gengpt.options import Checked, option


@dataclass(frozen=True)
class ReviewConfig(Checked):
    """Which sentences are marked for review."""

    abstain_below: float | None = option(
        None,
        "mark sentences whose confidence is below this as needing review; without a calibration beside the model "
        "confidence is exp(mean log-probability)",
        low=0.0,
        high=1.0,
        unit="PROBABILITY",
    )


WARN, REFUSE = "warn", "refuse"


@dataclass(frozen=True)
class GuardConfig(Checked):
    """What becomes of a film that shows no chest."""

    film_guard: str = option(
        WARN,
        "a film that looks like none of a chest, to a model with a film guard: warn, the report needs review and says "
        "why; refuse, there is none without `force`",
        choices=(WARN, REFUSE),
    )


GENERATE, RETRIEVE = "generate", "retrieve"
WRITERS = (GENERATE, RETRIEVE)


@dataclass(frozen=True)
class WriterConfig(Checked):
    """Who writes the reports."""

    writer: str = option(
        GENERATE,
        "generate: the language model; retrieve: sentences of training reports that fit what the finding head sees, "
        "each with its source (train with `keep_sentences` True)",
        choices=WRITERS,
    )


METHODS = ("findings", "occlusion", "gradient")


@dataclass(frozen=True)
class EvidenceConfig(Checked):
    """Which parts of the images a test's texts rest on."""

    evidence: bool = option(
        False, "maps of the image tokens that each sentence rests on, with a faithfulness number: evidence.jsonl"
    )
    evidence_studies: int = option(
        20, "how many studies get maps: the best, median and worst by CIDEr", low=1, unit="STUDIES"
    )
    evidence_method: str | None = option(
        None,
        "findings: the patches that the finding head read a sentence's finding from; occlusion: the drop of a "
        "sentence's log-probability when image tokens are masked; gradient: faster, less faithful; None: findings "
        "where there is a head, else occlusion",
        choices=METHODS,
    )
