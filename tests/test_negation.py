"""NegEx on words: what a cue reaches, and where its reach ends. The cues here are made up for each case."""

import pytest

from r2gengpt.metrics.labels.negation import NegEx, TermSet, Words
from r2gengpt.metrics.labels.reading import asserted

TERMS = TermSet(before=["no", "free of"], after=["is absent"], ends=["but", ";"], pseudo=["no change", "no longer"])


def reached(sentence: str, *mentions: str) -> tuple[bool, ...]:
    """Whether a cue of `TERMS` acts on each mention, given by its words."""
    words = Words(sentence)
    places = [(sentence.index(mention), sentence.index(mention) + len(mention)) for mention in mentions]
    return NegEx(TERMS).reached(words, [words.covering(*place) for place in places])


@pytest.mark.parametrize(
    ("sentence", "denied"),
    [
        ("no edema", True),
        ("edema no", False),
        ("lungs free of edema", True),
        ("edema is absent", True),
        ("is absent edema", False),
        ("no effusion but edema", False),
        ("no effusion; edema", False),
        ("edema but effusion is absent", False),
        ("no change of edema", False),
        ("no change, no edema", True),
        ("no effusion. edema", False),
        ("no effusion. , edema", False),
        ("no 1.5 cm edema", True),
        ("no-edema", True),
        ("knock edema", False),
        ("edema but is absent", False),
    ],
)
def test_a_cue_reaches_a_mention_on_its_side_until_a_wording_ends_it(sentence: str, denied: bool) -> None:
    assert reached(sentence, "edema") == (denied,)


def test_each_mention_of_a_sentence_is_judged_apart() -> None:
    assert reached("edema, no effusion but a nodule", "edema", "effusion", "nodule") == (False, True, False)


@pytest.mark.parametrize(
    ("sentence", "opacity"),
    [
        ("opacity, edema is absent", False),
        ("opacity, effusion, edema is absent", True),
        ("opacity, a small effusion, edema is absent", True),
        ("opacity, a rather small effusion, edema is absent", False),
        ("opacity, rather small, edema is absent", False),
        ("opacity, effusion and edema is absent", True),
        ("opacity, effusion with edema is absent", False),
    ],
)
def test_a_cue_behind_a_list_acts_on_all_of_it(sentence: str, opacity: bool) -> None:
    named = [word for word in ("opacity", "effusion", "edema") if word in sentence]
    first, *_, last = reached(sentence, *named)
    assert (first, last) == (opacity, True)


def test_a_cue_within_a_mention_does_not_act_on_it() -> None:
    assert reached("is absent", "is absent") == (False,)
    assert reached("no edema", "no edema") == (False,)


def test_a_wording_that_begins_within_a_cue_ends_nothing() -> None:
    terms = TermSet(before=["compatible with"], after=[], ends=["with mild"], pseudo=[])
    words = Words("compatible with mild edema with mild effusion")
    assert NegEx(terms).reached(words, [(3, 4), (6, 7)]) == (True, False)


def test_a_mention_covers_the_whole_words_that_it_touches() -> None:
    words = Words("mild edemas.")
    assert words.characters(words.covering(6, 9)) == (5, 11)
    assert Words("grade b edema").covering(0, 7) == (0, 2)


def test_a_sentence_ends_where_a_space_is_missing_too() -> None:
    assert asserted("No effusion.Edema is seen.") == {
        "Edema": "positive", "Pleural Effusion": "negative",
    }  # fmt: skip


def test_vs_with_a_full_stop_ends_no_sentence() -> None:
    assert asserted("Edema vs. pneumonia.") == {
        "Edema": "uncertain", "Pneumonia": "uncertain",
    }  # fmt: skip
