"""The Penn Treebank tokenizer finds the words that coco-caption's Java tokenizer finds."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from r2gengpt.metrics.ptb.tokenizer import ptb

GOLDEN = json.loads(Path(__file__).with_name("data").joinpath("ptb_golden.json").read_text(encoding="utf-8"))
MARKS = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"
"""As pycocoevalcap 1.2 has it; its tokenizer module runs Java on a file in its own directory, so it is not called."""
REPORT_PIECES = (
    "the heart is normal in size . Lungs clear, (stable) XXXX x-ray T1/T2 T10-T12 3.5 cm 2mm 1/2 vs. Dr. Smith's isn't "
    "L. R. The a.m. U.S. approx. 10/12/2011 12:30 5-10 [see] \"quote\" 'x' ... -- - / & < > % # 7th and/or <unk> it's "
    "e.g. i.e., etc. No. 5 no. fig. 3a 1. 2) : ; ? ! = + * ~ _ ___ 1,000 37.5°C ≥ 5 × µm café – — … “a” ’s ‘b’"
)
PIECES = [
    *"aAbBxyT0159.,:;-/'\"()[]<>&%$#@*_+=~!? ",
    "ab",
    "The",
    "no.",
    "12",
    "'s",
    "n't",
    "é",
    "°",
    "–",
    "’",
    "a.",
    "XX",
]


def java_words(texts: Sequence[str]) -> list[str]:
    """What coco-caption makes of texts, one line each."""
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None:
        pytest.skip("needs the extra `metrics`")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    jar = Path(*(package.submodule_search_locations or ()), "tokenizer", "stanford-corenlp-3.4.1.jar")
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    done = subprocess.run(command, input="\n".join(texts).encode(), capture_output=True, check=True)
    lines = done.stdout.decode().split("\n")[: len(texts)]
    assert len(lines) == len(texts)
    return [" ".join(word for word in line.rstrip().split(" ") if word not in MARKS.split(" ")) for line in lines]


def test_words_are_those_stored_from_the_java_tokenizer() -> None:
    assert [(text, ptb(text)) for text, _ in GOLDEN["texts"]] == [(text, words) for text, words in GOLDEN["texts"]]


def test_words_of_the_stored_texts_equal_the_java_tokenizers_where_it_is_installed() -> None:
    texts = [text for text, _ in GOLDEN["texts"]]
    assert [ptb(text) for text in texts] == java_words(texts)


def test_words_of_drawn_report_text_equal_the_java_tokenizers() -> None:
    rng = random.Random(0)
    pieces = REPORT_PIECES.split(" ")
    ends = ["", "", "", ".", ",", ";", ")", ":"]
    texts = [
        " ".join(["so", *(rng.choice(pieces) + rng.choice(ends) for _ in range(rng.randrange(3, 12))), "end"])
        for _ in range(4000)
    ]
    assert [(text, ptb(text)) for text in texts] == list(zip(texts, java_words(texts), strict=True))


def test_words_of_drawn_characters_equal_the_java_tokenizers() -> None:
    rng = random.Random(0)
    texts = ["so " + "".join(rng.choices(PIECES, k=rng.randrange(2, 9))) + " end" for _ in range(20_000)]
    assert [(text, ptb(text)) for text in texts] == list(zip(texts, java_words(texts), strict=True))


@pytest.mark.skipif("R2GENGPT_SHARED" not in os.environ, reason="needs the IU X-ray annotation (CC BY-NC-ND)")
def test_words_of_all_iu_xray_reports_equal_the_java_tokenizers() -> None:
    path = Path(os.environ["R2GENGPT_SHARED"], "iu_xray", "annotation.json")
    splits = json.loads(path.read_text(encoding="utf-8"))
    texts = [study["report"].replace("\n", " ") for studies in splits.values() for study in studies]
    assert len(texts) == 2955
    assert [ptb(text) for text in texts] == java_words(texts)


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\v", "\f", "\u2028", "\u2029"])
def test_a_line_break_of_any_kind_is_a_blank(mark: str) -> None:
    assert ptb(f"Lungs clear.{mark}No mass.") == "lungs clear no mass"


@pytest.mark.parametrize("text", ["", " ", "\u00a0", ". , ;", "\u200b"])
def test_a_text_without_words_is_empty(text: str) -> None:
    assert ptb(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [("&lt; a", "< a"), ("&LT; a", "< a"), ("x &QUOT; a", "x &quot; a"), ("x &APOS; a", "x &apos; a")],
)
def test_entities_in_capitals_are_known_but_for_quotes(text: str, words: str) -> None:
    assert ptb(text) == words


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("cannot", "can not"),
        ("gimme", "gim me"),
        ("gonna", "gon na"),
        ("gotta", "got ta"),
        ("lemme", "lem me"),
        ("wanna", "wan na"),
    ],
)
@pytest.mark.parametrize("mark", ["", ".", ",", ";", " "])
def test_two_words_in_one_are_parted_as_the_treebank_has_them(word: str, parts: str, mark: str) -> None:
    assert ptb(f"{word}{mark} {word.capitalize()}{mark}") == f"{parts} {parts}"


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ("a,", "a"),
        ("(", "-lrb-"),
        ("<!a ", "< a"),
        ("&", "&"),
        ("é.5;", "é .5"),
        ("A$", "a$"),
        ("(a=", "-lrb- a ="),
        ("dr. ", "dr."),
        ("lung. ", "lung"),
    ],
)
def test_a_long_text_takes_time_by_its_length_and_not_its_square(piece: str, words: str) -> None:
    assert ptb(piece * 20_000) == " ".join([words] * 20_000)  # by the square this took minutes
