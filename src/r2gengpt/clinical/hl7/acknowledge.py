"""Answers to HL7 v2 messages: written for who sends orders, read from who gets results. Sends nothing."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from r2gengpt.clinical.documents.draft import MANUFACTURER
from r2gengpt.clinical.hl7.er7 import WORDS, Header, MessageError, header_of, read_message
from r2gengpt.errors import InputError

PASSING = ("204", "206", "207")
"""Errors that may pass: a key that is not known yet, a locked record, a fault within. Source: HL7 table 0357."""
FINAL = ("200", "201", "202", "203")
"""Rejections that stay: type, event, processing id, version."""
Now = Callable[[], datetime]


def answers(header: Header, error: MessageError | None, now: Now = lambda: datetime.now().astimezone()) -> list[bytes]:
    """The answers to a message: one of the original mode, or those that MSH-15 and MSH-16 ask for.

    Source: HL7 2.5.1, chapter 2.9.

    Args:
        header: of the message.
        error: why it is not taken; None: it is.
        now: gives the time.
    """
    kind = "A" if error is None else "R" if error.rejects else "E"
    accept, application = (header.raw(number).strip().upper() for number in (15, 16))
    if not accept and not application:
        return [_answer(header, f"A{kind}", error, now())]
    wanted = [("C", accept), ("A", application)]
    return [_answer(header, mode + kind, error, now()) for mode, word in wanted if _is_due(word, error)]


def _is_due(word: str, error: MessageError | None) -> bool:
    """Source: HL7 table 0155."""
    return word == "AL" or word == ("SU" if error is None else "ER")


def _answer(header: Header, code: str, error: MessageError | None, now: datetime) -> bytes:
    """One answer, with the separators of the message and in its bytes."""
    signs = header.separators
    kind = header.words(9)
    event = signs.component + kind[1] if len(kind) > 1 and kind[1] else ""
    version = header.raw(12) or "2.5.1"
    msh = ["MSH", signs.encoding, MANUFACTURER, "", header.raw(3), header.raw(4), f"{now:%Y%m%d%H%M%S%z}", ""]
    msh += [f"ACK{event}{signs.component}ACK", uuid.uuid4().hex[:20], header.raw(11) or "P", version]
    if header.raw(18):
        msh += ["", "", "", "", "", header.raw(18)]
    lines = [msh, ["MSA", code, header.raw(10), *([signs.escaped(str(error)[:80])] if error else [])]]
    if error is not None:
        lines.append(_err(header, error, version))
    return "".join(f"{signs.field.join(line)}\r" for line in lines).encode("latin-1", "replace")


def _err(header: Header, error: MessageError, version: str) -> list[str]:
    """ERR, in the form of the message's version: 2.5 gave it new fields."""
    signs = header.separators
    segment, _, number = error.place.partition("-")
    place = [segment, str(error.sequence), *([number] if number else [])]
    words = WORDS[error.number]
    if re.match(r"2\.[1-4](?![0-9])", version):
        fields = [*place, *[""] * (3 - len(place)), signs.subcomponent.join((str(error.number), words, "HL70357"))]
        return ["ERR", signs.component.join(fields)]
    code = signs.component.join((str(error.number), words, "HL70357"))
    return ["ERR", "", signs.component.join(place), code, "E", "", "", "", signs.escaped(str(error))]


@dataclass(frozen=True)
class Acknowledgement:
    """What a peer answers.

    Attributes:
        code: MSA-1: AA, AE, AR, CA, CE or CR.
        control_id: MSA-2: of the message that is answered.
        errors: the numbers in ERR.
    """

    code: str
    control_id: str
    errors: tuple[str, ...] = ()

    @property
    def is_taken(self) -> bool:
        """Whether the peer has the message, or has made it safe."""
        return self.code in ("AA", "CA")

    @property
    def is_final(self) -> bool:
        """Whether the same message would be refused again: an error (AE, CE), unless it says that it may pass; a
        rejection (AR, CR) only for type, event, processing id or version.
        """
        if self.code in ("AE", "CE"):
            return not set(self.errors) & set(PASSING)
        return bool(set(self.errors) & set(FINAL))

    @property
    def words(self) -> str:
        """In the log."""
        return self.code + (f" with error {', '.join(self.errors)}" if self.errors else "")


def read_acknowledgement(data: bytes) -> Acknowledgement | None:
    """What the answer says; None where it is none."""
    try:
        message = read_message(data, header_of(data), "latin-1")
    except InputError:
        return None
    found = next((one for one in message.segments if one.name == "MSA"), None)
    if found is None or found.text(1).upper() not in ("AA", "AE", "AR", "CA", "CE", "CR"):
        return None
    errors = [number for one in message.segments if one.name == "ERR" for number in (one.text(3), _old(one.raw(1)))]
    return Acknowledgement(
        found.text(1).upper(), found.text(2), tuple(one for one in errors if re.fullmatch("[0-9]{3}", one))
    )


def _old(location: str) -> str:
    """The error's number in ERR-1, as versions before 2.5 have it."""
    parts = location.split("^")
    return parts[3].split("&")[0] if len(parts) > 3 else ""
