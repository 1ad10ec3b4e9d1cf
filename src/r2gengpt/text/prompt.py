"""The prompt around the image tokens: pure functions on text and token ids. No tokenizer is loaded here."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r2gengpt.errors import InputError

IMAGE_PLACEHOLDER = "<ImageHere>"
TEMPLATE = "Human: <Img><ImageHere></Img> {instruction} \nAssistant:"
"""The original's prompt. Source: wang-zhanyu/R2GenGPT, models/R2GenGPT.py, prompt_wrap."""

Encode = Callable[[str], Sequence[int]]
"""Text to token ids without special tokens."""


def fill_template(instruction: str, template: str = TEMPLATE) -> tuple[str, str]:
    """The prompt's text before and after the image.

    >>> fill_template("Describe.")
    ('Human: <Img>', '</Img> Describe. \\nAssistant:')

    Raises:
        InputError: the template does not hold the placeholder exactly once.
    """
    count = template.count(IMAGE_PLACEHOLDER)
    if count != 1:
        raise InputError(f"prompt template holds {IMAGE_PLACEHOLDER} {count} times, must hold it once")
    before, after = template.split(IMAGE_PLACEHOLDER)
    return before.replace("{instruction}", instruction), after.replace("{instruction}", instruction)


def chat_template_of(template: str) -> str:
    """A prompt template for chat messages: one user turn whose images are the views of one study. In Jinja.

    Raises:
        InputError: the template does not hold the image's place exactly once.
    """
    fill_template("", template)
    before, _, after = (json.dumps(part, ensure_ascii=False) for part in template.partition("{instruction}"))
    content = (
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
        "{% endif %}"
    )
    turn = "{% if message['role'] == 'user' %}{{ " + before + " }}" + content + "{{ " + after + " }}{% endif %}"
    return "{% for message in messages %}" + turn + "{% endfor %}"


@dataclass(frozen=True)
class PromptIds:
    """The prompt in token ids, the image tokens left out; `bos` opens it: one id as a rule, none without a BOS."""

    bos: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def with_image(self, image_token_id: int, image_tokens: int) -> tuple[int, ...]:
        """The whole prompt with `image_tokens` placeholders.

        >>> PromptIds((1,), (5, 6), (7,)).with_image(9, 3)
        (1, 5, 6, 9, 9, 9, 7)
        """
        return (*self.bos, *self.before, *([image_token_id] * image_tokens), *self.after)


def encode_prompt(encode: Encode, text: tuple[str, str], bos: tuple[int, ...]) -> PromptIds:
    """Encode both halves by themselves, as the original does: no token ever spans the image."""
    before, after = text
    return PromptIds(bos, tuple(encode(before)), tuple(encode(after)))


def end_token_id(encode: Encode, end_sym: str | None, eos_token_id: int | None) -> int:
    """The one token that ends a report.

    Raises:
        InputError: `end_sym` is not exactly one token (the ids it became are named), or there is no EOS to fall
            back on.
    """
    if end_sym is not None:
        ids = list(encode(end_sym))
        if len(ids) != 1:
            raise InputError(
                f"`end_sym` {end_sym} is {len(ids)} tokens of this language model ({ids}), must be one; "
                "leave it out to use the tokenizer's own end token"
            )
        return ids[0]
    if eos_token_id is None:
        raise InputError("this tokenizer has no end token: name one of its tokens with `end_sym`")
    return eos_token_id
