"""What a prompt asks for beside the model's own instruction, and the warning that this leads away from training."""

from collections.abc import Sequence

from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError
from r2gengpt.provenance import Source
from r2gengpt.serving.failures import refused
from r2gengpt.serving.served import ServedModel
from r2gengpt.text.context import UNTRAINED, Context

OTHER_INSTRUCTION = (
    "the instruction is not the one that the model was trained with: the report may be worse than with the model's own"
)
INDICATION = "the prompt holds an indication, and the model was trained without: the report may be worse for it"
NO_EFFECT = "the instruction, or indication, has no effect: the report is composed of training sentences"
SETTLED = "the instruction, or indication, has no effect: the prompt was settled when the model was exported"


def instruction_warnings(instruction: str | None, reporter: ServedModel, words: str = OTHER_INSTRUCTION) -> list[str]:
    """What is to be known of a prompt: a line where it does not ask as the model was trained, white space aside.

    Args:
        instruction: what it asks for; None: the model's own.
        reporter: the model.
        words: of the line.
    """
    if instruction is None or instruction.split() == reporter.instruction.split():
        return []
    if reporter.composes:
        return [NO_EFFECT]
    return [SETTLED if reporter.no_text else words]


def asked_of(context: Context, sources: Sequence[Source], reporter: ServedModel) -> str | None:
    """What the prompt of a study asks for; None: the model's own instruction.

    Raises:
        ApiError: a field of the context can be no part of this model's prompt.
    """
    try:
        return reporter.instruction_for(context, [source.header for source in sources])
    except InputError as error:
        raise refused(error) from None


def context_warnings(context: Context, reporter: ServedModel, *, films: bool = False) -> list[str]:
    """What is to be known of a study's context: which of it has no effect, or that the model never read one.

    Args:
        context: of the study.
        reporter: the model.
        films: whether films of an earlier study came too.
    """
    trained = reporter.context_fields
    lines = [] if trained else instruction_warnings(reporter.instruction_for(context), reporter, INDICATION)
    present = dict.fromkeys((*context.present, *((PRIOR,) if films else ())))
    unread = [name for name in present if name not in (trained or UNTRAINED)]
    if unread:
        lines.append(f"no effect, as the model was trained without: {', '.join(unread)}")
    return lines
