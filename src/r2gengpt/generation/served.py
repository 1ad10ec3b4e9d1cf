"""What another program that runs a language model does: it writes a report from a prompt's embeddings. Runs none."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from r2gengpt.errors import InputError
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.engine import Prompt
from r2gengpt.model.served import ServedLanguageModel


class InferenceEngine(ABC):
    """A language model in another program.

    Attributes:
        name: of the program, as reports call it.
        scores_opening: whether the tokens that a report opens with get log-probabilities; where not, they count 0.
    """

    name: str
    scores_opening: bool

    @staticmethod
    @abstractmethod
    def check(rules: Rules) -> None:
        """Refuse rules that the program does not follow.

        Raises:
            InputError: it does not.
        """

    @abstractmethod
    def write(self, prompt: Prompt, rules: Rules, show: Callable[[int], object] | None) -> Written:
        """The report of a prompt.

        Args:
            prompt: its embeddings (P, D).
            rules: how tokens are chosen.
            show: gets each token.

        Raises:
            InputError: the program has no such model.
            RunError: it fails.
        """


def engine_of(language_model: ServedLanguageModel) -> InferenceEngine:
    """What writes with a language model.

    Raises:
        InputError: nothing was put there, as where transformers alone loaded the model.
    """
    if not isinstance(language_model.writer, InferenceEngine):
        raise InputError("another program runs the language model: load the directory by `r2gengpt.load`")
    return language_model.writer
