"""The prompt in token ids, the end token, and what is cleaned off generated text."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil

from r2gengpt.config import DEFAULT_INSTRUCTION
from r2gengpt.errors import InputError
from r2gengpt.model.processing import R2GenGPTProcessor, pair_inputs
from r2gengpt.testing import tiny_tokenizer
from r2gengpt.text.prompt import IMAGE_PLACEHOLDER, PromptIds, encode_prompt, end_token_id, fill_template
from r2gengpt.text.sentences import tidy_report

SHARED = os.environ.get("R2GENGPT_SHARED")
ORIGINAL_PROMPT = (
    "Human: <Img><ImageHere></Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. "
    "\nAssistant:"
)
"""Source: wang-zhanyu/R2GenGPT, models/R2GenGPT.py, prompt and prompt_wrap."""

KINDS = [
    "gpt_neox",
    "gpt2",
    "llama",
    pytest.param(
        "real_gpt_neox",
        marks=pytest.mark.skipif(SHARED is None, reason="R2GENGPT_SHARED names no folder with the real tokenizer"),
    ),
]


@cache
def tokenizer(kind: str) -> Any:
    if kind == "real_gpt_neox":
        return PreTrainedTokenizerFast(
            tokenizer_file=str(Path(str(SHARED)) / "tokenizers" / "gpt_neox_20b" / "tokenizer.json"),
            bos_token="<|endoftext|>",
            eos_token="<|endoftext|>",
        )
    return tiny_tokenizer(kind)


@cache
def processor(kind: str, **options: Any) -> R2GenGPTProcessor:
    images = ViTImageProcessorPil(size={"height": 32, "width": 32})
    return R2GenGPTProcessor(images, tokenizer(kind), tokens_per_view=4, **options)


def test_the_default_prompt_is_the_originals() -> None:
    before, after = fill_template(DEFAULT_INSTRUCTION)
    assert before + IMAGE_PLACEHOLDER + after == ORIGINAL_PROMPT


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_pieces_are_the_originals_tokenisation_of_the_two_halves(kind: str) -> None:
    halves = [
        tokenizer(kind)(half, add_special_tokens=False).input_ids for half in ORIGINAL_PROMPT.split("<ImageHere>")
    ]
    ids = processor(kind).prompt_ids()
    assert [list(ids.before), list(ids.after)] == halves


def test_threads_encode_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer keeps in itself, for all threads, whether special tokens in a text are tokens."""
    made, kind = processor("llama"), type(tokenizer("llama"))
    own, inside, together = kind.__call__, [0], [0]

    def slow(*words: Any, **named: Any) -> Any:
        inside.append(1)
        together.append(sum(inside))
        sleep(0.002)
        found = own(*words, **named)
        inside.append(-1)
        return found

    monkeypatch.setattr(kind, "__call__", slow)
    ways = [made.encode_text, made.prompt_ids, made.has_control_tokens, made.token_ends, lambda _: made.end_token_id]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda way: way("The heart </s> is large."), 8 * ways))
    assert max(together) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_opens_with_bos_and_holds_it_nowhere_else(kind: str) -> None:
    row = processor(kind).prompt_row(1)
    assert row[0] == tokenizer(kind).bos_token_id
    assert row.count(row[0]) == 1


def test_a_tokenizer_without_bos_gets_none() -> None:
    words = tiny_tokenizer("gpt_neox")
    words.bos_token = None
    images = ViTImageProcessorPil(size={"height": 32, "width": 32})
    made = R2GenGPTProcessor(images, words, tokens_per_view=4)
    assert made.prompt_ids().bos == ()
    assert made.prompt_row(1) == (*made.prompt_ids().before, *[made.image_token_id] * 4, *made.prompt_ids().after)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_written_in_an_instruction_stay_ordinary_text(kind: str) -> None:
    eos = tokenizer(kind).eos_token
    row = processor(kind).prompt_row(1, f"Describe {eos} it.")
    assert tokenizer(kind).eos_token_id not in row[1:]
    assert f"Describe {eos} it." in tokenizer(kind).decode(row, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(instruction=st.text(min_size=1, max_size=60).filter(lambda text: text.strip() and IMAGE_PLACEHOLDER not in text))
def test_no_instruction_changes_how_many_image_tokens_a_prompt_has(kind: str, instruction: str) -> None:
    made = processor(kind)
    assert made.prompt_row(1, instruction).count(made.image_token_id) == 4


@pytest.mark.parametrize(("fusion", "count"), [("mean", 4), ("concat", 12)])
def test_three_views_have_the_tokens_of_one_or_of_three(fusion: str, count: int) -> None:
    made = processor("gpt_neox", fusion=fusion)
    assert made.prompt_row(3).count(made.image_token_id) == count


def test_a_whole_prompt_with_the_placeholder_is_taken_as_it_is() -> None:
    made = processor("gpt_neox")
    row = made.prompt_row(1, f"Look: {IMAGE_PLACEHOLDER} Describe.")
    encode = made.encode_text
    assert row == (row[0], *encode("Look: "), *[made.image_token_id] * 4, *encode(" Describe."))


@pytest.mark.parametrize("template", ["{instruction}", "<ImageHere> {instruction} <ImageHere>"])
def test_a_template_holds_the_placeholder_exactly_once(template: str) -> None:
    with pytest.raises(InputError, match=f"holds <ImageHere> {template.count('<')} times, must hold it once"):
        fill_template("Describe.", template)


def test_halves_are_encoded_by_themselves_so_that_no_token_spans_the_image() -> None:
    def encode(text: str) -> list[int]:
        return [len(text)]

    assert encode_prompt(encode, ("ab", "cde"), ()) == PromptIds((), (2,), (3,))


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_token_is_the_tokenizers_own_by_default(kind: str) -> None:
    assert processor(kind).end_token_id == tokenizer(kind).eos_token_id


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", KINDS[-1]])
def test_the_originals_end_symbol_is_refused_where_it_is_several_tokens_naming_their_ids(kind: str) -> None:
    """The original appends the text `</s>` to each report; to GPT-NeoX that is ordinary text, which ends nothing."""
    pieces = tokenizer(kind)("</s>", add_special_tokens=False).input_ids
    assert len(pieces) > 1
    with pytest.raises(InputError) as refusal:
        _ = processor(kind, end_sym="</s>").end_token_id
    assert f"end_sym </s> is {len(pieces)} tokens" in str(refusal.value)
    assert str(pieces) in str(refusal.value)


def test_the_originals_end_symbol_is_one_token_of_a_llama_tokenizer() -> None:
    assert processor("llama", end_sym="</s>").end_token_id == tokenizer("llama").eos_token_id


def test_a_tokenizer_without_end_token_asks_for_the_flag() -> None:
    with pytest.raises(InputError, match="end_sym"):
        end_token_id(lambda text: [1], None, None)


def test_the_end_token_pads_where_the_tokenizer_has_no_padding_token() -> None:
    assert tokenizer("gpt_neox").pad_token_id is None
    assert processor("gpt_neox").pad_token_id == tokenizer("gpt_neox").eos_token_id


@pytest.mark.parametrize(
    ("generated", "report"),
    [
        ("  The lungs are clear. ", "The lungs are clear."),
        ("Assistant: The lungs are clear.", "The lungs are clear."),
        ("Human: The lungs are clear.", "The lungs are clear."),
        ("The Assistant: is a word.", "The Assistant: is a word."),
        ("Assistants disagree.", "Assistants disagree."),
        ("", ""),
    ],
)
def test_role_words_are_removed_as_a_prefix_only(generated: str, report: str) -> None:
    assert tidy_report(generated) == report


@pytest.mark.parametrize(
    ("images", "text", "studies", "texts"),
    [
        ("a", None, [["a"]], [None]),
        (["a", "b"], None, [["a", "b"]], [None]),
        (["a", "b"], "t", [["a", "b"]], ["t"]),
        (["a", "b"], ["t", "u"], [["a"], ["b"]], ["t", "u"]),
        ([["a", "b"], ["c"]], None, [["a", "b"], ["c"]], [None, None]),
        ([["a", "b"], ["c"]], ["t", "u"], [["a", "b"], ["c"]], ["t", "u"]),
    ],
)
def test_images_are_views_of_one_study_unless_texts_or_lists_tell_studies_apart(
    images: Any, text: Any, studies: Any, texts: Any
) -> None:
    assert pair_inputs(images, text) == (studies, texts)


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        (None, "t", "an image is needed"),
        ([], None, "study 0 has no image"),
        ([["a"], []], None, "study 1 has no image"),
        ([["a"], ["b"]], ["t", "u", "v"], "2 studies for 3 texts"),
        (["a"], ["t", "u"], "1 studies for 2 texts"),
    ],
)
def test_images_and_texts_that_do_not_pair_are_refused_with_both_counts(images: Any, text: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair_inputs(images, text)


def test_grey_and_transparent_images_become_three_channels() -> None:
    made = processor("gpt_neox")
    views = [Image.new(mode, (40, 40)) for mode in ("L", "RGBA", "RGB")]
    assert made.pixels(views).shape == (3, 3, 32, 32)
