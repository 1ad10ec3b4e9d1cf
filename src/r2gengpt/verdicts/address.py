"""Where verdicts are kept: a file of SQLite or the URL of a PostgreSQL server, opened. A password is never shown."""

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.errors import InputError, installing, one_line
from r2gengpt.files import check_file, check_writable_file

if TYPE_CHECKING:
    from sqlalchemy import URL

    from r2gengpt.verdicts.store import VerdictStore

FIELD = "verdicts"
"""The setting that names the store."""
NEEDED = ("sqlalchemy", "alembic")
POSTGRESQL, SQLITE = "postgresql+psycopg", "sqlite"
SCHEMES = {"postgresql": POSTGRESQL, "postgres": POSTGRESQL, POSTGRESQL: POSTGRESQL, SQLITE: SQLITE}
"""What a URL may begin with → the driver that is used."""
_SECRET = re.compile(r"(?<=:)[^:@/]*(?=@)|(?<=[?&])(?:password|passfile|sslpassword)=[^&]*", re.IGNORECASE)


def shown_address(text: str) -> str:
    """An address as it may be printed: without a password, whatever else is wrong with it.

    >>> shown_address("postgresql://me:secret@host/db?password=secret"), shown_address("a/verdicts.db")
    ('postgresql://me:***@host/db?***', 'a/verdicts.db')
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        word, colon, _ = text.partition(":")
        return f"{word}:***" if colon and word in SCHEMES else text
    login, at, place = rest.rpartition("@")  # a password may hold any sign, also an unquoted @ or /
    if "?" in login:  # that @ is of a query, or of a password
        return f"{scheme}://***"
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{_SECRET.sub('***', place)}"


def database_url(text: str) -> "URL":
    """The URL of a text that is one, or names a file.

    Raises:
        InputError: a package is missing, or it is neither a file's name nor a URL of SQLite or PostgreSQL.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        words = f"needs {', '.join(missing)}: {installing('verdicts')}"
        raise InputError(words, field=FIELD, value=shown_address(text))
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if not text.strip():
        raise InputError(f"`{FIELD}` is empty: must name a file, or the URL of a PostgreSQL server")
    shown = shown_address(text)
    scheme, mark, rest = text.partition("://")
    if not mark and shown == text:
        return URL.create(SQLITE, database=text)
    if mark and scheme not in SCHEMES:
        raise InputError(
            f"begins with {scheme}: choose from {', '.join(SCHEMES)}, or name a file", field=FIELD, value=shown
        )
    if rest.count("@") > 1:
        raise InputError("has two @: write the one within the user or the password as %40", field=FIELD, value=shown)
    try:
        url = make_url(text).set(drivername=SCHEMES[scheme])
    except (ArgumentError, ValueError):
        raise InputError(
            "cannot be read as a URL: postgresql://USER@HOST:PORT/NAME", field=FIELD, value=shown
        ) from None
    if url.drivername == SQLITE and not url.database:
        raise InputError("names no file: sqlite:///verdicts.db", field=FIELD, value=shown)
    if url.drivername == POSTGRESQL and importlib.util.find_spec("psycopg") is None:
        raise InputError(f"needs psycopg: {installing('verdicts')}", field=FIELD, value=shown)
    return url


def opened_store(text: str, *, is_read: bool = False) -> "VerdictStore":
    """The store at an address, its tables brought up to this version.

    Args:
        text: a file's name, or a URL.
        is_read: a file of SQLite is read alone: it must be there, and may lie where nothing can be written. Tables of
            an earlier version are brought up to date in a copy, in memory.

    Raises:
        InputError: it cannot be reached or read, or is of a newer version.
    """
    url, shown = database_url(text), shown_address(text)
    is_file = url.drivername == SQLITE
    if is_file and is_read:
        check_file(str(url.database), FIELD, shown)
    elif is_file:
        path = Path(str(url.database))
        check_writable_file(path, FIELD)
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    from sqlalchemy.exc import DBAPIError

    from r2gengpt.verdicts.reader import sqlite_reader
    from r2gengpt.verdicts.steps import NewerTables
    from r2gengpt.verdicts.store import VerdictStore

    try:
        return VerdictStore(url, sqlite_reader(url) if is_file and is_read else None)
    except NewerTables as error:
        words = f"was written by a newer r2gengpt (its tables are at step {error}): install that version"
        raise InputError(words, field=FIELD, value=shown) from None
    except DBAPIError as error:
        raise InputError(reason_of(error), field=FIELD, value=shown) from None
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field=FIELD, value=shown) from None


def reason_of(error: BaseException) -> str:
    """What a database says of a failure, in a line: the driver's first, without the statement and its values."""
    first = next((line for line in str(getattr(error, "orig", error)).splitlines() if line.strip()), "")
    return one_line(first)[:300] or type(error).__name__
