"""`r2gengpt audit-log`: whether the chain of an audit log holds. The log's form is `auditlog.chain`'s."""

import re
from pathlib import Path

from r2gengpt.auditlog.chain import NOTHING
from r2gengpt.auditlog.verify import verify
from r2gengpt.cli import bridge
from r2gengpt.errors import InputError


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt audit-log",
        "Whether an audit log is as it was written: verify follows its chain of hashes, names the first record that "
        "breaks it, and prints the last hash.",
        example="r2gengpt audit-log verify /var/log/r2gengpt",
    )
    made.add_argument("action", choices=["verify"], help="what to do")
    made.add_argument(
        "directory", metavar="DIR", help="of the log, as `audit_log` of serve, listen and dicomweb has it"
    )
    made.add_argument("--last", metavar="HASH", help="a hash that you noted: without it nobody sees a cut-off end")
    made.add_argument("--after", metavar="HASH", help="hash of the record before the first one, where older files are "
                                                      "put away")  # fmt: skip
    return made


def main(argv: list[str]) -> None:
    """Parse, verify; prints how many records there are and the last hash."""
    space = bridge.parse(parser(), argv)
    for field in ("last", "after"):
        digest = getattr(space, field)
        if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError("must be 64 hexadecimal digits in lower case", field=field, value=digest[:80])
    found = verify(Path(space.directory), space.after or NOTHING, space.last)
    print(
        f"{found.records} records in {len(found.files)} files, {found.files[0]} to {found.files[-1]}: the chain holds"
    )
    if found.torn:
        print(f"torn lines in {found.torn} places, each told of by the next record: a kill or a full disk")
    if found.open_end:
        print(f"torn lines at the end: {found.open_end}, of which the next record will tell")
    if found.known_at is not None:
        print(f"the hash you gave is that of record {found.known_at}")
    print(f"last hash: {found.digest}")
