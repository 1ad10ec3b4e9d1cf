"""What a score was measured with, as one line; scores of different lines are not compared. No measuring here."""

import re
from dataclasses import asdict, dataclass

from r2gengpt.errors import InputError

_FORM = re.compile(r"([^|]*)\|ds:([^|]*)\|tok:([^|]*)\|cut:([^|]*)\|unk:([^|]*)\|v(\d{1,9})")


@dataclass(frozen=True)
class Signature:
    """The choices that move a score.

    `dataset` is whose cleaner was used (none: no cleaner), `tokens` how words are found, `cut` where references end
    and `unknown` which words became `<unk>`. `version` is the protocol's: it rises when a rule changes.
    """

    protocol: str
    dataset: str
    tokens: str
    cut: str
    unknown: str
    version: int

    def __str__(self) -> str:
        return f"{self.protocol}|ds:{self.dataset}|tok:{self.tokens}|cut:{self.cut}|unk:{self.unknown}|v{self.version}"

    @classmethod
    def parse(cls, text: str, source: str) -> "Signature":
        """The signature that a line shows.

        Raises:
            InputError: `source` holds another form of line.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise InputError(f"{source}: {text[:60]!r} is no signature of this program")
        protocol, dataset, tokens, cut, unknown, version = (str(part) for part in found.groups())
        return cls(protocol, dataset, tokens, cut, unknown, int(version))


def check_comparable(first: Signature, second: Signature) -> None:
    """Refuse to compare two scores that were measured differently.

    Raises:
        InputError: the signatures differ; names each choice with both values.
    """
    ours, theirs = asdict(first), asdict(second)
    differ = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differ:
        raise InputError(f"scores {first} and {second} can't be compared: {', '.join(differ)}")
