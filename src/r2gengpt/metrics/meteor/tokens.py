"""The words that METEOR 1.5 finds in a text (`-norm`): punctuation apart, lower case. No alignment.

The rules are those of the Moses tokenizer for English, in the order that the jar's answers show. They were found by
asking the jar for its words, as a black box. A replacement takes its neighbours along, so "a,b,c" is "a , b,c".
"""

import functools
import re

from r2gengpt.metrics.meteor.tables import Prefixes

_LETTERS = "a-zA-Z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e\u0400-\u04ff"
_SIGNS = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "`": "'", "–": " - ", "\t": " ", "\f": " ", "\r": " ", "\n": " "}
)
_STEPS = [
    (re.compile(pattern), into)
    for pattern, into in (
        (rf"([^{_LETTERS}0-9 \x0b.',-])", r" \1 "),
        (r"(\.\.+)", r" \1 "),
        (r"([^0-9]),([^0-9])", r"\1 , \2"),
        (r"([0-9]),([^0-9])", r"\1 , \2"),
        (r"([^0-9]),([0-9])", r"\1 , \2"),
        (r"--", "-"),
        (r"''", ' " '),
        (rf"([^{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (rf"([^{_LETTERS}0-9])'([{_LETTERS}])", r"\1 ' \2"),
        (rf"([{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (rf"([{_LETTERS}])'([{_LETTERS}])", r"\1 '\2"),
        (r"([0-9])'(s)", r"\1 '\2"),
        (rf"([{_LETTERS}0-9.])-([{_LETTERS}0-9])", r"\1 \2"),
    )
]
_LETTER = re.compile(f"[{_LETTERS}]")
_BLANKS = re.compile("[ \u00a0\u2000-\u200a\u202f\u205f\u3000]+")
_CONTROLS = "".join(map(chr, range(33)))


@functools.lru_cache(maxsize=1 << 15)
def words(text: str, keep: Prefixes) -> tuple[str, ...]:
    """The words of a text; remembered, because a set is scored against several systems.

    >>> words("Mr. A's lungs: clear, 3.5 cm.", Prefixes(frozenset({"Mr"}), frozenset()))
    ('mr.', 'a', "'s", 'lungs', ':', 'clear', ',', '3.5', 'cm', '.')
    """
    text = f" {text.strip(_CONTROLS).translate(_SIGNS)} "
    for pattern, into in _STEPS:
        text = pattern.sub(into, text)
    found = [word for word in text.split(" ") if word]
    spaced = [_period(word, after, keep) for word, after in zip(found, [*found, ""][1:], strict=True)]
    line = _BLANKS.sub(" ", " ".join(spaced).lower()).strip(_CONTROLS)
    return tuple(line.split(" ")) if line else ()


def _period(word: str, after: str, keep: Prefixes) -> str:
    """A word with its last period apart, or as it is; an abbreviation of several periods loses them all."""
    if not word.endswith(".") or word.endswith(".."):
        return word
    rest = word[:-1]
    if "." in rest and _LETTER.search(rest):
        return rest.replace(".", "")
    if rest in keep.always or "a" <= after[:1] <= "z" or (rest in keep.numbers and "0" <= after[:1] <= "9"):
        return word
    return f"{rest} ."
