"""Images and prompt text to model inputs, generated ids to text. No files are opened and nothing is cleaned here."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import AddedToken, BatchFeature, ProcessorMixin

from r2gengpt.config import DEFAULT_INSTRUCTION, PRIOR
from r2gengpt.errors import InputError
from r2gengpt.text.alignment import pad_rows
from r2gengpt.text.context import UNTRAINED, Context, instruction_for
from r2gengpt.text.prompt import (
    IMAGE_PLACEHOLDER,
    TEMPLATE,
    PromptIds,
    chat_template_of,
    encode_prompt,
    end_token_id,
    fill_template,
)
from r2gengpt.text.sentences import tidy_report

CONTROL = "`{}` holds a control token of this language model"
_ENCODING = threading.Lock()  # a tokenizer keeps in itself, for all threads, what it makes of special tokens


class R2GenGPTProcessor(ProcessorMixin):  # type: ignore[misc]  # the library is untyped
    """Image processor and tokenizer of one model.

    Args:
        image_processor: any Hugging Face image processor that resizes to one size.
        tokenizer: the language model's tokenizer; `<ImageHere>` is added to it as a special token.
        tokens_per_view: N, image tokens of a view.
        fusion: "mean" (N tokens a study) or "concat" (N tokens a view).
        instruction: what the prompt asks for where the caller gives no text.
        template: text with `<ImageHere>` and `{instruction}`; control tokens of the tokenizer in it are tokens.
        add_bos: whether a prompt opens with the tokenizer's beginning-of-text token, where it has one.
        end_sym: the end symbol; None is the tokenizer's own.
        chat_template: for chat messages, in Jinja; None: by `template`.
        context_fields: what of a study's context the model was trained to find in its prompt; none: nothing.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        tokens_per_view: int = 49,
        fusion: str = "mean",
        instruction: str = DEFAULT_INSTRUCTION,
        template: str = TEMPLATE,
        add_bos: bool = True,
        end_sym: str | None = None,
        chat_template: str | None = None,
        context_fields: Sequence[str] = (),
    ) -> None:
        self.tokens_per_view = tokens_per_view
        self.fusion = fusion
        self.instruction = instruction
        self.template = template
        self.add_bos = add_bos
        self.end_sym = end_sym
        self.context_fields = tuple(context_fields)
        tokenizer.add_tokens([AddedToken(IMAGE_PLACEHOLDER, special=True, normalized=False)])
        self.image_token_id = int(tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER))
        super().__init__(image_processor, tokenizer, chat_template=chat_template or chat_template_of(template))

    @property
    def end_token_id(self) -> int:
        """The token that ends a report."""
        return end_token_id(self._encode_symbols, self.end_sym, self.tokenizer.eos_token_id)

    @property
    def pad_token_id(self) -> int:
        """Fills masked positions; the end token where the tokenizer has no padding token."""
        pad = self.tokenizer.pad_token_id
        return self.end_token_id if pad is None else int(pad)

    def _encoded(self, text: str, **how: Any) -> Any:
        with _ENCODING:
            return self.tokenizer(text, **how)

    def _encode_symbols(self, text: str) -> list[int]:
        return list(self._encoded(text, add_special_tokens=False).input_ids)

    def encode_text(self, text: str) -> list[int]:
        """Text to ids; special tokens written out in the text stay ordinary text."""
        return list(self._encoded(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def token_ends(self, text: str) -> list[int]:
        """For each token of `encode_text` the length of the text up to and with it."""
        encoded = self._encoded(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        return [end for _, end in encoded.offset_mapping]

    def prompt_ids(self, text: str | None = None) -> PromptIds:
        """The prompt in ids: `text` is an instruction, a whole prompt with `<ImageHere>`, or None for the default.

        Raises:
            InputError: an instruction with a control token, where the template is made of control tokens.
        """
        whole = text is not None and IMAGE_PLACEHOLDER in text
        if whole:
            instruction, halves = "", fill_template("", str(text))
        else:
            instruction = self.instruction if text is None or not text.strip() else text
            halves = fill_template(instruction, self.template)
        encode = self._encode_symbols if self.has_control_tokens(self.template) else self.encode_text
        if encode == self._encode_symbols and self.has_control_tokens(instruction):
            raise InputError(CONTROL.format("instruction"), field="instruction")
        return encode_prompt(encode, halves, self._opening())

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them; of a model without context nothing is said of one."""
        found: dict[str, Any] = super().to_dict()
        found.pop("context_fields", None)
        return {**found, **({"context_fields": list(self.context_fields)} if self.context_fields else {})}

    def instruction_for(self, context: Context) -> str | None:
        """What the prompt of a study with this context asks for; None: the same as every other prompt.

        Raises:
            InputError: a field of it with a control token, where the template is made of control tokens.
        """
        asked = instruction_for(context, self.instruction, self.context_fields)
        if asked is not None and self.has_control_tokens(asked) and self.has_control_tokens(self.template):
            for name in self.context_fields or UNTRAINED:
                words = instruction_for(context.only([name]), "", self.context_fields) or ""
                if self.has_control_tokens(words):
                    named = "prior_report" if name == PRIOR else name
                    raise InputError(CONTROL.format(named), field=named)
        return asked

    def has_control_tokens(self, text: str) -> bool:
        """Whether special tokens of the language model, the image's place aside, are written out in a text."""
        text = text.replace(IMAGE_PLACEHOLDER, "")
        return self._encode_symbols(text) != self.encode_text(text)

    def _opening(self) -> tuple[int, ...]:
        """BOS where the tokenizer has one, after what the tokenizer itself puts before it (ChatGLM3: `[gMASK] sop`)."""
        bos = self.tokenizer.bos_token_id
        if bos is None or not self.add_bos:
            return ()
        ids = list(self._encoded("").input_ids)
        return tuple(ids[: ids.index(bos) + 1]) if bos in ids else (int(bos),)

    @property
    def reads_prior(self) -> bool:
        """Whether the model was trained with earlier studies."""
        return PRIOR in self.context_fields

    def prompt_row(self, views: int, text: str | None = None, earlier: int = 0) -> tuple[int, ...]:
        """The prompt of a study of so many views, and so many of an earlier one, image placeholders included."""
        places = views + earlier if self.fusion == "concat" else 1 + (earlier > 0)
        return self.prompt_ids(text).with_image(self.image_token_id, self.tokens_per_view * places)

    def pixels(self, views: Sequence[Any]) -> Tensor:
        """The views of one study, (V, 3, H, W), float32."""
        return pixels_of(self.image_processor, views)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs of one study or several.

        Args:
            images: one image, or a list (the views of ONE study where text is a string or None; one image a study
                where text is a list), or a list of lists (the views of each study).
            text: instruction(s) or whole prompt(s); None for the default.
            return_tensors: only "pt".
            **kwargs: padding and the like, as pipelines pass them; without effect.

        Returns:
            input_ids and attention_mask (B, T), padded on the left; pixel_values (B, V, 3, H, W); view_mask (B, V).
        """
        if return_tensors not in ("pt", None):
            raise ValueError(f"return_tensors={return_tensors!r}: only 'pt' is supported")
        studies, texts = pair_inputs(images, text)
        rows = [self.prompt_row(len(views), prompt) for views, prompt in zip(studies, texts, strict=True)]
        ids, mask = pad_rows(rows, self.pad_token_id, left=True)
        pixel_values, view_mask = pad_views([self.pixels(views) for views in studies])
        return BatchFeature(
            {
                "input_ids": torch.tensor(ids),
                "attention_mask": torch.tensor(mask),
                "pixel_values": pixel_values,
                "view_mask": view_mask,
            }
        )

    def decode_reports(self, ids: Tensor) -> list[str]:
        """New token ids (B, T) to reports: up to the end token, special tokens and role words removed."""
        end = self.end_token_id
        rows = [row[: row.index(end)] if end in row else row for row in ids.tolist()]
        return [tidy_report(text) for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def post_process_image_text_to_text(self, generated_outputs: Any, **kwargs: Any) -> list[str]:
        """What `pipeline("image-text-to-text")` shows: the same text as `decode_reports`."""
        return self.decode_reports(generated_outputs)

    @property
    def model_input_names(self) -> list[str]:
        """Names of what `__call__` returns."""
        return ["input_ids", "attention_mask", "pixel_values", "view_mask"]


def pixels_of(image_processor: Any, views: Sequence[Any]) -> Tensor:
    """The views of one study, (V, 3, H, W), float32, by the image processor alone."""
    images = [view.convert("RGB") if isinstance(view, Image.Image) else view for view in views]
    values: Tensor = image_processor(images, return_tensors="pt").pixel_values
    return values


def film_side(image_processor: Any) -> int:
    """The side in pixels that images are resized to, the larger one where they differ: what films are reduced for."""
    return int(max(value for value in dict(image_processor.size).values() if value))


@dataclass(frozen=True)
class ViewMaker:
    """Makes a model's pixels of films, where the model itself is not loaded."""

    image_processor: Any

    @property
    def side(self) -> int:
        """What films are reduced for, in pixels."""
        return film_side(self.image_processor)

    def pixels(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """The views of one study, (V, 3, H, W), float32."""
        return np.ascontiguousarray(pixels_of(self.image_processor, pictures).numpy(), dtype=np.float32)


def decoded_size(processor: R2GenGPTProcessor) -> int:
    """`film_side` of a model's processor."""
    return film_side(processor.image_processor)


def pair_inputs(images: Any, text: str | Sequence[str] | None) -> tuple[list[list[Any]], list[str | None]]:
    """Studies (lists of views) and their texts, from the forms that `R2GenGPTProcessor.__call__` takes.

    Raises:
        InputError: no image, a study without views, or counts that differ.
    """
    if images is None:
        raise InputError("an image is needed: the prompt has a place for it")
    if not isinstance(images, list | tuple):
        images = [images]
    nested = bool(images) and isinstance(images[0], list | tuple)
    many = not isinstance(text, str) and text is not None and len(text) > 1
    studies = [list(views) for views in images] if nested else [[v] for v in images] if many else [list(images)]
    texts: list[str | None]
    if text is None or isinstance(text, str):
        texts = [text] * len(studies)
    else:
        texts = list(text)
    if len(studies) != len(texts):
        raise InputError(f"{len(studies)} studies for {len(texts)} texts")
    if not all(studies):
        raise InputError(f"study {[bool(s) for s in studies].index(False)} has no image")
    return studies, texts


def pad_views(studies: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Studies of (V_i, 3, H, W) to (B, V, 3, H, W), zeros where no view is, and the mask (B, V), bool."""
    longest = max(len(study) for study in studies)
    values = studies[0].new_zeros(len(studies), longest, *studies[0].shape[1:])
    mask = torch.zeros(len(studies), longest, dtype=torch.bool)
    for row, study in enumerate(studies):
        values[row, : len(study)] = study
        mask[row, : len(study)] = True
    return values, mask
