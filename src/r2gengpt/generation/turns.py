"""Studies that come while others are being written: prompts in, reports out as they end. Waits for nobody itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from r2gengpt.config import DecodeConfig
from r2gengpt.data.batches import Batch
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.engine import COMPILED, Engine, Prompt, use_engine
from r2gengpt.generation.prompts import prompts_of
from r2gengpt.generation.sentences import report_of
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.report import Report


@dataclass(frozen=True)
class Turns:
    """A model whose places go to the next study as soon as one is finished.

    Attributes:
        model: in eval mode.
        processor: of the model.
        composes: its reports are composed of training sentences, and nothing takes turns.
    """

    model: R2GenGPTForConditionalGeneration
    processor: R2GenGPTProcessor
    composes: bool = False

    def possible(self, decode: DecodeConfig) -> bool:
        """Whether studies can join others: the engine writes.

        Raises:
            InputError: settings of the engine that it has not for this model.
        """
        return not self.composes and use_engine(self.model.language_model, decode)

    def prompt(self, batch: Batch, decode: DecodeConfig, tag: object) -> Prompt:
        """The prompt of one study for `run`.

        Raises:
            InputError: prompt and report do not fit into the language model.
        """
        (prompt,) = prompts_of(self.model, [batch], decode)
        return replace(prompt, tag=tag)

    def run(
        self,
        prompts: Iterator[Prompt | None],
        decode: DecodeConfig,
        slots: int,
        on_token: Callable[[Any, int], bool | None] | None = None,
        unwanted: Callable[[Any], bool] | None = None,
    ) -> Iterator[Written]:
        """What is written, in the order in which it is finished.

        Args:
            prompts: the next study; None while there is none, as `Engine.run` has it.
            decode: how.
            slots: studies that are written at once.
            on_token: gets a study's tag and each of its tokens; True ends a report of one beam.
            unwanted: whether a study leaves before it is finished, by its tag.
        """
        rules = Rules.of(decode, self.processor.end_token_id)
        compiled = decode.engine == COMPILED
        engine = Engine(self.model.language_model, rules, slots, on_token, unwanted=unwanted, compiled=compiled)
        return engine.run(prompts)

    def report_of(self, written: Written, study: str = "study") -> Report:
        """What was written as a record; not yet judged.

        Raises:
            RunError: the language model's scores are no numbers.
        """
        return report_of(self.processor, written, study=study)

    @contextmanager
    def asking(self, check: Callable[[], None]) -> Iterator[None]:
        """Each pass of the language model begins with `check` while it lasts; what it raises ends what is written.

        Of several beams by transformers' `generate`, which hands out no word before its end.
        """
        embeddings = self.model.get_input_embeddings()
        handle = embeddings.register_forward_pre_hook(lambda *_: check())
        try:
            yield
        finally:
            handle.remove()
