"""A prompt that holds a hint, in token ids, by tokenizer.json alone. No films, no graphs, no PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r2gengpt.text.observations import hinted
from r2gengpt.text.prompt import PromptIds, encode_prompt, fill_template


@dataclass(frozen=True)
class HintPrompt:
    """What a prompt with a hint is made of.

    `instruction` is what it asks for and `template` what stands around it. `symbols` is whether control tokens that are
    written out in the template are tokens. `opening` are the ids that every prompt begins with.
    """

    instruction: str
    template: str
    symbols: bool
    opening: tuple[int, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "HintPrompt":
        """The settings from JSON, whose lists become tuples.

        Raises:
            ValueError: an unknown key, no text, or a template without the image's place.
        """
        prompt = cls(**{**values, "opening": tuple(int(token) for token in values["opening"])})
        if not isinstance(prompt.instruction, str) or not isinstance(prompt.symbols, bool):
            raise ValueError("its hint has no instruction")
        fill_template("", prompt.template)
        return prompt

    def ids(self, tokenizer: Any, hint: str) -> PromptIds:
        """The prompt with a hint.

        Args:
            tokenizer: of the package tokenizers.
            hint: words.
        """

        def encode(text: str) -> list[int]:
            tokenizer.encode_special_tokens = not self.symbols
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return list(tokenizer.encode(text, add_special_tokens=False).ids)

        return encode_prompt(encode, fill_template(hinted(self.instruction, hint), self.template), self.opening)
