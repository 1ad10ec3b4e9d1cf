"""Protocols do to both texts what their names say, and scores of different ones are not compared."""

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from r2gengpt.errors import InputError
from r2gengpt.metrics.protocols import PROTOCOLS, BoundProtocol, bind, split_punctuation, truncation, vocabulary
from r2gengpt.metrics.records import check_comparable

TRAIN = ["The lungs are clear."] * 3 + ["Rare cardiomegaly."] * 2


def rules(name: str, dataset: str = "iu_xray", **given: object) -> BoundProtocol:
    return bind(PROTOCOLS[name], dataset, **given)  # type: ignore[arg-type]


def test_clean_is_the_data_sets_cleaner_with_single_spaces() -> None:
    assert rules("clean").reference("The heart, is FINE.. 1. No mass...") == "the heart is fine . no mass ."


def test_clean_on_plain_texts_splits_punctuation_off_so_that_spacing_does_not_matter() -> None:
    clean = rules("clean", "plain").hypothesis
    assert clean("No mass in the lung.") == clean("no mass in the lung .") == "no mass in the lung ."


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("X-ray of 3.5 cm", "x-ray of 3.5 cm"),
        ("(no) mass?!", "( no ) mass ? !"),
        ("by ___.", "by ___ ."),
        ("patient's T1/T2", "patient's t1/t2"),
        (" \n ", ""),
    ],
)
def test_punctuation_is_split_off_words_but_not_inside_them(text: str, tokens: str) -> None:
    assert split_punctuation(text) == tokens


def test_ptb_finds_the_same_words_whatever_the_data_set() -> None:
    first, second = rules("ptb", "iu_xray"), rules("ptb", "plain")
    assert (
        first.reference("The heart isn't enlarged.")
        == second.hypothesis("the heart isn't enlarged")
        == "the heart is n't enlarged"
    )
    assert str(first.signature) == str(second.signature) == "ptb|ds:none|tok:ptb3.4.1|cut:none|unk:none|v1"


def test_raw_changes_nothing_but_white_space() -> None:
    assert rules("raw").hypothesis(" The\nlungs,  CLEAR. ") == "The lungs, CLEAR."


def test_r2gen_replaces_rare_training_words_in_both_texts() -> None:
    r2gen = rules("r2gen", train=TRAIN)
    assert r2gen.reference("Cardiomegaly. Lungs clear.") == "<unk> . lungs clear ."
    assert r2gen.hypothesis("Cardiomegaly. Lungs clear.") == "<unk> . lungs clear ."


@pytest.mark.parametrize(("dataset", "length"), [("iu_xray", 59), ("mimic_cxr", 99)])
def test_r2gen_cuts_references_and_not_hypotheses(dataset: str, length: int) -> None:
    r2gen = rules("r2gen", dataset, train=["lung"] * 10)
    long = "lung " * 150
    assert len(r2gen.reference(long).split()) == length
    assert len(r2gen.hypothesis(long).split()) == 151


def test_the_vocabulary_counts_words_of_all_reports() -> None:
    assert vocabulary(["a b a", "a c", "c"], 2) == {"a", "c"}


def test_mimic_cxr_needs_a_word_ten_times() -> None:
    assert rules("r2gen", "mimic_cxr", train=["lung"] * 10).report("lung") == "lung ."
    assert rules("r2gen", "mimic_cxr", train=["lung"] * 9).report("lung") == "<unk> <unk>"


def test_r2gengpt_truncates_cleaned_references_and_takes_hypotheses_as_they_are() -> None:
    r2gengpt = rules("r2gengpt", truncate=lambda text: text[:9], truncate_name="9characters")
    assert r2gengpt.reference("The LUNGS are clear.") == "the lungs"
    assert r2gengpt.hypothesis(" The LUNGS  are clear. ") == "The LUNGS  are clear."
    assert r2gengpt.report("The LUNGS are clear.") == "the lungs are clear ."
    assert "cut:9characters" in str(r2gengpt.signature)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of five words, that puts a token of its own before each text."""
    words = {word: number for number, word in enumerate(("[UNK]", "[CLS]", "the", "lungs", "are"))}
    made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.add_special_tokens(["[UNK]", "[CLS]"])
    made.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_a_tokenizers_first_tokens_of_the_text_itself_are_kept(name: str, tokenizer: Path) -> None:
    cut, words = truncation(tokenizer / name, 2)
    assert (cut("the lungs are"), cut("the"), cut("")) == ("the lungs", "the", "")
    assert words == "2of5"


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match=r"no such file, or no tokenizer\.json"):
            truncation(path, 2)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not a tokenizer"):
        truncation(tmp_path, 2)


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("r2gen", "iu_xray", "needs train"),
        ("r2gen", "plain", "no rules for dataset plain"),
        ("r2gengpt", "iu_xray", "needs the model's tokenizer"),
        ("clean", "openi", "dataset openi: choose from iu_xray, mimic_cxr, plain"),
    ],
)
def test_a_protocol_that_lacks_something_names_it(name: str, dataset: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rules(name, dataset)


def test_a_signature_reads_as_the_page_says() -> None:
    assert str(rules("clean").signature) == "clean|ds:iu_xray|tok:ws|cut:none|unk:none|v1"
    assert str(rules("clean", "plain").signature) == "clean|ds:plain|tok:punct|cut:none|unk:none|v1"
    assert str(rules("r2gen", train=TRAIN).signature) == "r2gen|ds:iu_xray|tok:ws|cut:59w|unk:lt3of5|v1"
    cut = rules("r2gengpt", truncate=str, truncate_name="60of5").signature
    assert str(cut) == "r2gengpt|ds:iu_xray|tok:ws|cut:60of5|unk:none|v1"


def test_raw_scores_are_comparable_whatever_the_data_set() -> None:
    check_comparable(rules("raw", "iu_xray").signature, rules("raw", "plain").signature)


def test_scores_of_different_conventions_are_not_compared() -> None:
    clean = rules("clean").signature
    with pytest.raises(InputError, match="protocol clean and raw, dataset iu_xray and none"):
        check_comparable(clean, rules("raw").signature)
    with pytest.raises(InputError, match="version 1 and 2"):
        check_comparable(clean, replace(clean, version=2))
