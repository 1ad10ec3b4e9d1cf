"""The prose of the documents: no sentence that must be read twice. Judges length alone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_PROSE = {ROOT / "docs" / name for name in ("log.md", "reference.md")}
"""Notes of what was tried, and a page of tables that the program writes."""
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "runs" / "README.md"} - NOT_PROSE)
MOST = 25
"""Words a sentence may have; a piece of code counts as one."""
FENCED = re.compile(r"^```.*?^```\n?", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"`[^`]+`")
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+", re.MULTILINE)
END = re.compile(r"(?<=[.!?])[*_)\"]*\s+")


def blocks(text: str) -> Iterator[str]:
    """The paragraphs and list items of a Markdown text, without code blocks, tables and headings."""
    bare = COMMENT.sub("", FENCED.sub("\n\n", text))
    lines = ["" if line.lstrip().startswith(("|", "#")) else line for line in bare.splitlines()]
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        yield from (" ".join(part.split()) for part in ITEM.split(paragraph) if part.strip())


def sentences(text: str) -> Iterator[str]:
    """The sentences of a Markdown text; links are their words, and a piece of code is one word."""
    for block in blocks(text):
        yield from END.split(CODE.sub("code", LINK.sub(r"\1", block)))


def words(sentence: str) -> int:
    """How many of a sentence's parts hold a letter or a digit."""
    return sum(any(sign.isalnum() for sign in word) for word in sentence.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_sentence_is_longer_than_twenty_five_words(page: Path) -> None:
    found = list(sentences(page.read_text(encoding="utf-8")))
    assert found
    assert [f"{words(one)}: {one}" for one in found if words(one) > MOST] == []


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    long = "word " * 26 + "ends."
    pages = (long, f"- short.\n- {long}", f"Short. {long} Short.", f"**{long}**", f"[{long}](place.md)", f"1. {long}\n")
    assert [max(map(words, sentences(page))) for page in pages] == [27] * len(pages)


def test_code_tables_and_addresses_are_no_words() -> None:
    many = "word " * 30
    page = f"# {many}\n\n| {many} | {many} |\n\n```bash\n{many}\n```\n\nSee `{many}` and [this]({many.strip()})."
    assert [words(one) for one in sentences(page)] == [4]
