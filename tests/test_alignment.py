"""Which tokens are learnt. The first test tells the bug that kept the original from learning to stop on StableLM."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2gengpt.text.alignment import IGNORE, pad_rows, training_row
from test_prompt import KINDS, processor, tokenizer

REPORTS = ("The lungs are clear.", "There is an opacity in the left lower lobe. No pneumothorax is seen.")


def original_labels(ids: list[int], end: int, pad: int, max_length: int) -> list[int]:
    """The original's labels of one report: padded to max_length, then masked wherever the id equals the pad id.

    Source: wang-zhanyu/R2GenGPT, models/R2GenGPT.py, forward.
    """
    tokens = [*ids, end][:max_length]
    return [IGNORE if token == pad else token for token in [*tokens, *[pad] * (max_length - len(tokens))]]


@pytest.mark.parametrize("kind", ["gpt_neox", KINDS[-1]])
def test_the_end_token_is_learnt_exactly_once_although_it_also_pads(kind: str) -> None:
    """On StableLM pad = eos = id 0: masking labels by value masks the end token too, so the model never stops."""
    made = processor(kind)
    end = pad = made.end_token_id
    assert end == made.pad_token_id == 0
    ids = made.encode_text(REPORTS[0])
    assert end not in original_labels(ids, end, pad, 60)

    prompt = made.prompt_row(1)
    rows = [training_row(prompt, made.encode_text(report), end, 60) for report in REPORTS]
    padded, mask = pad_rows([row.input_ids for row in rows], made.pad_token_id)
    labels, _ = pad_rows([row.labels for row in rows], IGNORE)
    assert [row.count(end) for row in labels] == [1, 1]
    assert [sum(row) for row in mask] == [len(prompt) + len(made.encode_text(report)) + 1 for report in REPORTS]
    assert padded[0][-1] == end
    assert (labels[0][-1], mask[0][-1]) == (IGNORE, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_report_carries_no_end_token(kind: str) -> None:
    made = processor(kind)
    report = made.encode_text(REPORTS[1])
    for length in (2, len(report) - 1, len(report)):
        labels = [label for label in training_row((1, 2), report, made.end_token_id, length).labels if label != IGNORE]
        assert labels == report[:length]
    whole = training_row((1, 2), report, made.end_token_id, len(report) + 1).labels
    assert whole[2:] == (*report, made.end_token_id)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_written_in_a_report_stay_ordinary_text(kind: str) -> None:
    made = processor(kind)
    text = f"Clear {tokenizer(kind).eos_token} lungs <ImageHere> seen."
    ids = made.encode_text(text)
    assert made.end_token_id not in ids
    assert made.image_token_id not in ids
    assert tokenizer(kind).decode(ids, skip_special_tokens=True) == text


def reports(kind: str) -> Any:
    """Any text; a SentencePiece-like tokenizer writes a space as `▁`, so that sign can't come back."""
    return st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=80)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80)
@given(data=st.data())
def test_the_learnt_tokens_of_any_report_decode_to_the_report(kind: str, data: st.DataObject) -> None:
    report = data.draw(reports(kind))
    made = processor(kind)
    row = training_row(made.prompt_row(1), made.encode_text(report), made.end_token_id, 1000)
    learnt = [label for label in row.labels if label != IGNORE]
    assert learnt[-1] == made.end_token_id
    assert learnt.count(made.end_token_id) == 1
    assert tokenizer(kind).decode(learnt, skip_special_tokens=True) == report


@given(
    prompt=st.lists(st.integers(0, 9), max_size=5),
    report=st.lists(st.integers(1, 9), max_size=8),
    max_length=st.integers(1, 12),
)
def test_labels_stand_where_their_tokens_stand_and_nowhere_in_the_prompt(
    prompt: list[int], report: list[int], max_length: int
) -> None:
    row = training_row(prompt, report, 0, max_length)
    assert len(row.input_ids) == len(row.labels) <= len(prompt) + max_length
    assert set(row.labels[: len(prompt)]) <= {IGNORE}
    assert row.labels[len(prompt) :] == row.input_ids[len(prompt) :]
    assert (row.labels[-1:] == (0,)) == (len(report) < max_length)


@given(
    rows=st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5).filter(any),
    left=st.booleans(),
)
def test_padding_adds_only_what_the_mask_leaves_out(rows: list[list[int]], left: bool) -> None:
    padded, mask = pad_rows(rows, 0, left=left)
    assert {len(row) for row in padded} == {len(row) for row in mask} == {max(map(len, rows))}
    for row, found, kept in zip(rows, padded, mask, strict=True):
        assert [token for token, one in zip(found, kept, strict=True) if one] == row
        assert kept == sorted(kept, reverse=not left)
