"""What differs from one family of language models to the next, one record each. No weights; nothing is loaded here."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.parts.lora import ROLES
from r2gengpt.parts.templates.fill import TemplateFailure, fill_chat_template
from r2gengpt.text.prompt import IMAGE_PLACEHOLDER, TEMPLATE

USER_TURN = f"<Img>{IMAGE_PLACEHOLDER}</Img> {{instruction}}"
"""What a chat template gets as the user's words: the original's marks around the image, then the instruction."""

Layers = Mapping[str, tuple[str, ...]]
"""Role of a linear layer → its names; LoRA's targets are given in roles."""

SEPARATE: Layers = types.MappingProxyType(
    {role: (f"{role}_proj",) for role in ("q", "k", "v", "o", "gate", "up", "down")}
)
FUSED_UP: Layers = types.MappingProxyType({**SEPARATE, "gate": ("gate_up_proj",), "up": ("gate_up_proj",)})
FUSED: Layers = types.MappingProxyType({**FUSED_UP, **dict.fromkeys("qkv", ("qkv_proj",))})
GPT_NEOX: Layers = types.MappingProxyType(
    {
        **dict.fromkeys("qkv", ("query_key_value",)),
        "o": ("attention.dense",),
        "gate": (),
        "up": ("dense_h_to_4h",),
        "down": ("dense_4h_to_h",),
    }
)


@dataclass(frozen=True)
class LanguageFamily:
    """One family of language models.

    Attributes:
        models: those it is known to fit.
        licence: of their weights; a note, not advice.
        layers: where LoRA finds its roles.
        chat: prompt of tuned models whose tokenizer brings no chat template; taken where its control tokens exist.
        end_of_turn: what tuned models end their turn with, where that is not the tokenizer's end token.
        bos: whether a plain prompt opens with the tokenizer's beginning-of-text token.
    """

    models: str
    licence: str
    layers: Layers
    chat: str | None = None
    end_of_turn: str | None = None
    bos: bool = True


LLAMA = LanguageFamily(
    "Llama 2, Llama 3.x, SmolLM2",
    "Llama 2 and 3.x: the Community Licence of each version, to be accepted on the hub; SmolLM2: Apache-2.0",
    SEPARATE,
)
FAMILIES: Mapping[str, LanguageFamily] = types.MappingProxyType(
    {
        "stablelm": LanguageFamily(
            "StableLM-3B-4E1T, StableLM-2-1.6B, Zephyr-3B",
            "3B-4E1T: CC BY-SA 4.0; 2-1.6B and Zephyr-3B: a licence of Stability AI's own that limits commercial use",
            SEPARATE,
        ),
        "gpt_neox": LanguageFamily(
            "StableLM-Base-Alpha, StableLM-Tuned-Alpha",
            "base: CC BY-SA 4.0; tuned: CC BY-NC-SA 4.0",
            GPT_NEOX,
            chat=f"<|USER|>{USER_TURN}<|ASSISTANT|>",
        ),
        "llama": LLAMA,
        "gemma3_text": LanguageFamily(
            "Gemma 3 (the text part of 4B and larger, or 1B)",
            "Gemma Terms of Use, to be accepted on the hub",
            SEPARATE,
            end_of_turn="<end_of_turn>",
        ),
        "glm": LanguageFamily(
            "ChatGLM3-6B",
            "the ChatGLM model licence: research is free, commercial use after registration",
            FUSED_UP,
            chat=f"<|user|>\n {USER_TURN}<|assistant|>",
        ),
        "qwen2": LanguageFamily("Qwen2, Qwen2.5", "Apache-2.0; 3B and 72B: Qwen's own licences", SEPARATE, bos=False),
        "qwen3": LanguageFamily("Qwen3", "Apache-2.0", SEPARATE, bos=False),
        "mistral": LanguageFamily("Mistral-7B", "Apache-2.0", SEPARATE),
        "phi3": LanguageFamily("Phi-3-mini, Phi-3-medium", "MIT", FUSED, end_of_turn="<|end|>"),
    }
)
"""`model_type` of the loaded configuration → its family."""

OTHER = LanguageFamily("any other causal language model", "that of the language model", types.MappingProxyType(ROLES))


def family_of(language_model: Any) -> LanguageFamily:
    """The family of a loaded language model, by its configuration's `model_type`."""
    return FAMILIES.get(language_model.config.model_type, OTHER)


@dataclass(frozen=True)
class PromptRule:
    """How a prompt is made and how a report ends: what `R2GenGPTProcessor` takes under the same names."""

    template: str
    add_bos: bool
    end_sym: str | None


def choose_prompt(config: ModelConfig, family: LanguageFamily, tokenizer: Any) -> PromptRule:
    """The prompt that the settings ask for; what they leave open goes by family and tokenizer.

    `auto` is the chat template where the model was tuned with one, else the original's plain prompt.

    Raises:
        InputError: `template` chat of a model that has none, or a chat template that cannot take the image.
    """
    if config.template not in ("auto", "chat"):
        template = TEMPLATE if config.template == "plain" else config.template
        return PromptRule(template, _given(config.add_bos, family.bos), config.end_sym)
    if tokenizer.chat_template:
        template, opens = _render_chat(tokenizer, config.lm_model)
        rule = PromptRule(template, _given(config.add_bos, opens), config.end_sym)
    elif family.chat is not None and _knows(tokenizer, family.chat):
        rule = PromptRule(family.chat, _given(config.add_bos, family.bos), config.end_sym)
    elif config.template == "chat":
        raise InputError(
            f"the tokenizer of {config.lm_model} has no chat template; use plain", field="template", value="chat"
        )
    else:
        return PromptRule(TEMPLATE, _given(config.add_bos, family.bos), config.end_sym)
    ends = config.end_sym is None and family.end_of_turn in tokenizer.get_vocab()
    return PromptRule(rule.template, rule.add_bos, family.end_of_turn if ends else rule.end_sym)


def _given(value: bool | None, otherwise: bool) -> bool:
    return otherwise if value is None else value


def _knows(tokenizer: Any, template: str) -> bool:
    """Whether every control token of a template of ours (`<|…|>`) is one token of this tokenizer."""
    words = [f"<|{rest.split('|>')[0]}|>" for rest in template.split("<|")[1:]]
    return all(word in tokenizer.get_vocab() for word in words)


def _render_chat(tokenizer: Any, name: str) -> tuple[str, bool]:
    """The tokenizer's chat template around one user turn, and whether it opens with BOS (which is taken off).

    Raises:
        InputError: the template fails, or loses or repeats the image's place.
    """
    turn = [{"role": "user", "content": USER_TURN}]
    try:  # enable_thinking: Qwen3 would else think aloud before it writes
        text = fill_chat_template(tokenizer, turn, add_generation_prompt=True, enable_thinking=False)
    except TemplateFailure as error:
        hint = "give `template` plain or a text"
        raise InputError(
            f"the chat template of {name} cannot be filled: {error}; {hint}", field="template", value="chat"
        ) from None
    for part in (IMAGE_PLACEHOLDER, "{instruction}"):
        if text.count(part) != 1:
            raise InputError(
                f"the chat template of {name} holds {part} {text.count(part)} times, must hold it "
                "once; give `template` plain or a text",
                field="template",
                value="chat",
            )
    bos = tokenizer.bos_token
    return (text.removeprefix(bos), True) if bos and text.startswith(bos) else (text, False)
