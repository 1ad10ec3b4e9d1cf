"""The rules on repetition for the library's `generate`, held to new tokens. The engine's own stand in `generation`."""

from transformers import (
    GenerationConfig,
    LogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)


def take_repetition_rules(settings: GenerationConfig) -> list[LogitsProcessor]:
    """The repetition penalty and the n-gram rule as processors of new tokens; they are switched off in `settings`.

    The library's own penalty takes a prompt's padding for padding of the new tokens where prompts are embeddings, and
    so lets a padded row repeat its first words.
    """
    rules: list[LogitsProcessor] = []
    if settings.repetition_penalty is not None and settings.repetition_penalty != 1.0:
        rules.append(RepetitionPenaltyLogitsProcessor(float(settings.repetition_penalty)))
        settings.repetition_penalty = 1.0
    if settings.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
        settings.no_repeat_ngram_size = 0
    return rules
