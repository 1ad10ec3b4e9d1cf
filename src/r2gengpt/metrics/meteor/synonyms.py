"""Which words are synonyms: those that share a synset of WordNet, in METEOR's own tables. No alignment.

A word's synsets are its own and those of its base form. Irregular forms are listed; the others lose an ending, by the
first of WordNet's rules of detachment that leads to a word of the table. Found by asking the jar, as a black box.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.metrics.meteor.tables import word_lists

_NOUNS = (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"))
_VERBS = (("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""))
_ADJECTIVES = (("er", ""), ("est", ""), ("er", "e"), ("est", "e"))
_RULES = (*_NOUNS, *_VERBS, *_ADJECTIVES)
_SHORTEST = 3
"""Shorter words have no ending to lose."""


@dataclass(frozen=True)
class Synonyms:
    """Word → its synsets, as text; irregular form → its base forms."""

    synsets: Mapping[str, str]
    irregular: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, directory: Path) -> "Synonyms":
        """Those in the jar."""
        irregular: dict[str, list[str]] = {}
        for base, forms in word_lists(directory, "exceptions").items():
            for form in forms.split():
                irregular.setdefault(form, []).append(base)
        return cls(word_lists(directory, "synsets"), irregular)

    def among(self, words: Collection[str]) -> dict[str, list[str]]:
        """Each word's synonyms among `words`, itself left out; words without any are left out."""
        members: dict[str, list[str]] = {}
        for word in words:
            for synset in self._of(word):
                members.setdefault(synset, []).append(word)
        found: dict[str, dict[str, None]] = {}
        for several in members.values():
            if len(several) > 1:
                for word in several:
                    found.setdefault(word, {}).update(dict.fromkeys(several))
        return {word: [other for other in others if other != word] for word, others in found.items()}

    def _of(self, word: str) -> set[str]:
        forms = (word, *(self.irregular.get(word) or self._base(word)))
        return {synset for form in forms for synset in self.synsets.get(form, "").split()}

    def _base(self, word: str) -> tuple[str, ...]:
        if len(word) < _SHORTEST:
            return ()
        for end, instead in _RULES:
            if word.endswith(end) and not (end == "s" and word.endswith("ss")):
                base = word[: len(word) - len(end)] + instead
                if base in self.synsets:
                    return (base,)
        return ()
