"""A draft's facts, sealed: the server hands them out and takes them back, so it keeps nothing until a verdict comes.

The seal is an HMAC under a key that lies in the store, so that every server of one store takes the others' receipts.
Nothing in it is secret from who got the draft; it only cannot be changed or made up.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import asdict, fields

from r2gengpt.text.written import json_text
from r2gengpt.verdicts.record import DraftFacts

FORM = 2
"""Rises when the facts of a receipt change. Form 1 had no `needs_review`, and is taken: drafts outlive an update."""
LONGEST_RECEIPT = 100_000
"""Characters of a receipt."""


class BrokenReceipt(ValueError):
    """It was not made by a server of this store, or was changed."""


def seal(facts: DraftFacts, key: bytes) -> str:
    """The facts as one word that nobody without the key can make."""
    body = json_text([FORM, asdict(facts)], ascii_only=True).encode()
    return f"{_packed(body)}.{_packed(_mark(body, key))}"


def unseal(receipt: str, key: bytes) -> DraftFacts:
    """The facts of a receipt.

    Raises:
        BrokenReceipt: another store's, or changed, or of another form.
    """
    head, _, mark = receipt.partition(".")
    try:
        body, given_mark = _unpacked(head), _unpacked(mark)
    except (ValueError, binascii.Error):
        raise BrokenReceipt from None
    if not hmac.compare_digest(given_mark, _mark(body, key)):
        raise BrokenReceipt
    form, values = json.loads(body)
    if form == 1:
        form, values = FORM, {**values, "needs_review": None}
    if form != FORM or set(values) != {field.name for field in fields(DraftFacts)}:
        raise BrokenReceipt
    return DraftFacts(**{**values, "films": tuple(values["films"])})


def pseudonym(name: str, key: bytes) -> str:
    """A keyed hash of a name, 32 hexadecimal digits; empty of an empty name."""
    message = b"name " + name.encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32] if name else ""


def _mark(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, b"receipt " + body, hashlib.sha256).digest()


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
