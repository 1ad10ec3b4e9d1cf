"""An HL7 v2 message taken apart: separators, character set, segments, fields, within bounds. Knows no message type.

Nothing of a message stands in an error but the names of segments and numbers of fields: values are of patients.
"""

import re
from dataclasses import dataclass, field

from r2gengpt.errors import InputError

MOST_SEGMENTS, MOST_FIELDS, MOST_PARTS = 1000, 250, 100
"""Of a message, of a segment, and repetitions or components of a field."""
MOST_ECHOED = 200
"""Characters of a field of the header that an answer repeats."""
SEQUENCE, MISSING, TYPE, VALUE = 100, 101, 102, 103
KIND, EVENT, PROCESSING, VERSION, KEY, INTERNAL = 200, 201, 202, 203, 204, 207
"""What is wrong. Source: HL7 table 0357."""
WORDS = {
    SEQUENCE: "Segment sequence error", MISSING: "Required field missing", TYPE: "Data type error",
    VALUE: "Table value not found", KIND: "Unsupported message type", EVENT: "Unsupported event code",
    PROCESSING: "Unsupported processing id", VERSION: "Unsupported version id", KEY: "Unknown key identifier",
    INTERNAL: "Application internal error",
}  # fmt: skip
CHARSETS = {
    "": "", "ASCII": "ascii", "UNICODE UTF-8": "utf-8", "8859/1": "latin-1", "8859/2": "iso8859-2",
    "8859/3": "iso8859-3", "8859/4": "iso8859-4", "8859/5": "iso8859-5", "8859/6": "iso8859-6", "8859/7": "iso8859-7",
    "8859/8": "iso8859-8", "8859/9": "iso8859-9", "8859/15": "iso8859-15",
}  # fmt: skip
"""MSH-18 → Python's name. Source: HL7 table 0211; an empty field is ASCII there, and more here."""
IANA = {"UTF-8": "utf-8", "UTF8": "utf-8"} | {
    f"ISO-{name.replace('/', '-')}": python for name, python in CHARSETS.items() if name.startswith("8859")
}
"""The internet's names of the same sets, which senders write in MSH-18 too."""


BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NotAMessage(InputError):
    """The bytes have no header, so that nobody can be answered."""


class MessageError(InputError):
    """A message is not taken.

    Args:
        place: segment and field, as OBR-18; or a segment alone.
        message: what is wrong, without a value of the message.
        number: of HL7 table 0357.
        sequence: which segment of that name, from 1.
    """

    def __init__(self, place: str, message: str, number: int, sequence: int = 1) -> None:
        super().__init__(f"{place}: {message}", field=place)
        self.place, self.number, self.sequence = place, number, sequence

    @property
    def rejects(self) -> bool:
        """Whether the message is rejected (AR) for its header or for us, not for what it holds (AE)."""
        return self.number >= KIND and self.number != KEY


@dataclass(frozen=True)
class Separators:
    """The signs that a message is written with."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent

    def escaped(self, text: str) -> str:
        """A text of ours as it may stand in a field."""
        names = zip(
            self.escape + self.field + self.component + self.subcomponent + self.repetition, "EFSTR", strict=True
        )
        table = {sign: f"{self.escape}{name}{self.escape}" for sign, name in names}
        return "".join(table.get(sign, sign) for sign in text)

    def text(self, raw: str, charset: str = "utf-8") -> str:
        r"""What a part of a field says, its escape sequences resolved; those of fonts and of other sets are dropped.

        >>> Separators().text("a\\F\\b \\X41\\ c\\.br\\d")
        'a|b A c\nd'
        """
        signs = {"F": self.field, "S": self.component, "T": self.subcomponent, "R": self.repetition, "E": self.escape}

        def resolved(found: re.Match[str]) -> str:
            name = found[1]
            if name in signs:
                return signs[name]
            if re.fullmatch("X([0-9A-Fa-f]{2})+", name):
                data = bytes.fromhex(name[1:])
                try:
                    return data.decode(charset)
                except UnicodeDecodeError:
                    return data.decode("latin-1")
            return "\n" if name.startswith((".br", ".sp")) else " " if name.startswith(".") else ""

        mark = re.escape(self.escape)
        return re.sub(f"{mark}([^{mark}]{{1,4000}}){mark}", resolved, raw)


@dataclass(frozen=True)
class Segment:
    """One segment; fields are numbered as the standard does, MSH-1 being the separator."""

    name: str
    fields: tuple[str, ...] = field(repr=False)
    separators: Separators
    charset: str = "utf-8"

    def raw(self, number: int) -> str:
        """A field as it came; "" where there is none, and where it is said to be empty by two quotes."""
        found = self.fields[number - 1] if number <= len(self.fields) else ""
        return "" if found == '""' else found

    def repetitions(self, number: int) -> list[str]:
        """The repetitions of a field that hold something."""
        parts = self.raw(number).split(self.separators.repetition, MOST_PARTS)[:MOST_PARTS]
        return [part for part in parts if part]

    def text(self, number: int, component: int = 1) -> str:
        """A component of a field's first repetition, as text without white space around it."""
        return self.part((self.repetitions(number) or [""])[0], component)

    def part(self, repetition: str, component: int) -> str:
        """A component of a repetition, as text."""
        parts = repetition.split(self.separators.component, MOST_PARTS)
        raw = parts[component - 1] if component <= len(parts) else ""
        return "" if raw == '""' else self.separators.text(raw, self.charset).strip()


@dataclass(frozen=True)
class Header:
    """MSH, byte for byte: one character for each."""

    separators: Separators
    fields: tuple[str, ...] = field(repr=False)

    def raw(self, number: int) -> str:
        """A field as it came, cut to a length that an answer may repeat."""
        found = self.fields[number - 1] if number <= len(self.fields) else ""
        return re.sub("[\\x00-\\x1f\\x7f]", " ", found[:MOST_ECHOED])

    def words(self, number: int) -> list[str]:
        """The components of a field."""
        return [part.strip() for part in self.raw(number).split(self.separators.component)]


@dataclass(frozen=True)
class Er7Message:
    """A message; its header is its first segment too."""

    header: Header
    segments: tuple[Segment, ...] = field(repr=False)


def header_of(data: bytes) -> Header:
    """The header of a message, whatever follows it. Where MSH-2 is wrong, it has the recommended separators.

    Raises:
        NotAMessage: it has none; or MSH-2 is wrong, and no answer could be written or found.
    """
    line = re.split(b"[\r\n]", _unmarked(data).lstrip(b"\r\n"), maxsplit=1)[0].decode("latin-1")
    sign = line[3:4]
    if not line.startswith("MSH") or not _is_sign(sign):
        raise NotAMessage("does not begin with MSH and a separator")
    fields = line[4:].split(sign, MOST_FIELDS)
    signs = fields[0] if are_separators(sign, fields[0]) else Separators().encoding
    if not are_separators(sign, signs) or (signs != fields[0] and not "".join(fields[8:9]).strip()):
        raise NotAMessage("MSH-2 does not name four or five different separators")
    return Header(Separators(sign, *signs[:4]), (sign, *fields))


def are_separators(sign: str, signs: str) -> bool:
    """Whether MSH-2 names four or five separators, all different and none that of fields."""
    return len(signs) in (4, 5) and all(map(_is_sign, signs)) and len({sign, *signs}) == 1 + len(signs)


def _unmarked(data: bytes) -> bytes:
    """A message without the byte order mark that some programs begin UTF-8 with."""
    return data.removeprefix(BYTE_ORDER_MARK)


def _is_sign(sign: str) -> bool:
    return len(sign) == 1 and sign.isascii() and sign.isprintable() and not sign.isalnum() and sign != " "


def read_message(data: bytes, header: Header, charset: str | None = None) -> Er7Message:
    """The segments of a message.

    Args:
        data: of the message, without what frames it.
        header: its own.
        charset: as Python names it; None: what MSH-18 names.

    Raises:
        MessageError: a character set that is not read, bytes that are not of it, or too many parts.
    """
    data = _unmarked(data)
    name = charset if charset is not None else _charset_of(data, header)
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        raise MessageError("MSH-18", "the message holds bytes that are not of its character set", VALUE) from None
    lines = [line for line in re.split("[\r\n]+", text, maxsplit=MOST_SEGMENTS + 2) if line]
    if len(lines) > MOST_SEGMENTS:
        raise MessageError("MSH", f"the message has more than {MOST_SEGMENTS} segments", SEQUENCE)
    return Er7Message(header, tuple(_segment(line, header.separators, name) for line in lines))


def _charset_of(data: bytes, header: Header) -> str:
    """What a message is decoded by. One that names no set is ASCII by the standard; senders leave out what they mean.

    Raises:
        MessageError: a set that is not read, or several.
    """
    name = header.raw(18).strip().upper().replace("_", "-")
    found = (CHARSETS | IANA).get(name)
    if found is None:
        known = ", ".join(filter(None, CHARSETS))
        raise MessageError("MSH-18", f"its character set is not read, which are: {known}", VALUE)
    if found:
        return found
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _segment(line: str, separators: Separators, charset: str) -> Segment:
    """One segment.

    Raises:
        MessageError: it has no name, or too many fields.
    """
    name, *fields = line.split(separators.field, MOST_FIELDS + 1)
    if not re.fullmatch("[A-Z][A-Z0-9]{2}", name):
        raise MessageError("MSH", "a segment of the message does not begin with its name", SEQUENCE)
    if len(fields) > MOST_FIELDS:
        raise MessageError(name, f"has more than {MOST_FIELDS} fields", TYPE)
    first = (separators.field,) if name == "MSH" else ()
    return Segment(name, (*first, *fields), separators, charset)
