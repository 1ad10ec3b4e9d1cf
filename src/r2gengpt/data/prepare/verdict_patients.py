"""Whose the drafts of a store are, by hashes, and which words are the model's own. Names nobody, opens no store."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable

from r2gengpt.text.identifiers import words_of
from r2gengpt.verdicts.record import KeptVerdict

PATIENTS = 3
"""Patients in whose drafts a word must stand to count as the model's own, and as no name."""


def hashed(kind: str, name: str, salt: bytes) -> str:
    """A name under the secret, 32 hexadecimal digits; another one for each kind of name."""
    return hmac.new(salt, f"{kind}\0{name}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def patients_of(verdicts: Iterable[KeptVerdict]) -> dict[str, str]:
    """Draft → whose it is: the patient that its films name, else whoever shares a film with it.

    Drafts that share a film are of one patient, also where only one of them names it.
    """
    above: dict[str, str] = {}

    def top(node: str) -> str:
        while above.setdefault(node, node) != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    drafts = {}
    for kept in verdicts:
        patient = [f"patient {kept.facts.patient}"] if kept.facts.patient else []
        nodes = [*patient, *(f"film {film}" for film in kept.facts.films)] or [f"draft {kept.facts.id}"]
        drafts[kept.facts.id] = nodes[0]
        for node in nodes[1:]:
            first, second = sorted((top(nodes[0]), top(node)), key=lambda name: (name.startswith("film"), name))
            above[second] = first  # a patient stands above films, so that a hash does not change with further films
    return {draft: top(node) for draft, node in drafts.items()}


def own_words(verdicts: Iterable[KeptVerdict]) -> frozenset[str]:
    """Words in lower case that drafts of `PATIENTS` patients or more have: those of the model, and no names."""
    verdicts = list(verdicts)
    whose = patients_of(verdicts)
    counts = Counter(word for _, word in {(whose[kept.facts.id], word) for kept in verdicts
                                          for word in words_of(kept.facts.text)})  # fmt: skip
    return frozenset(word for word, count in counts.items() if count >= PATIENTS)
