"""Verdicts in a database: kept once, never changed, read back. Knows no URL's form and no HTTP.

A change of mind is another row; the newest of a draft counts. Servers share a store: the database decides who is first.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from r2gengpt.metrics.labels.reading import asserted
from r2gengpt.verdicts.edits import sentence_edits
from r2gengpt.verdicts.findings import labeler_name
from r2gengpt.verdicts.record import (
    ACCEPT,
    EDIT,
    WITHDRAW,
    DraftFacts,
    KeptVerdict,
    ReaderVerdict,
    SentenceEdit,
)
from r2gengpt.verdicts.steps import upgrade
from r2gengpt.verdicts.tables import SEALS, VERDICTS

PATIENCE = 10
"""Seconds that a connection, a lock or a statement is waited for."""
AT_ONCE = 500
"""Rows that are read at once."""


class OtherVerdict(Exception):
    """The same key has come with another verdict."""


class VerdictStore:
    """The verdicts of one database.

    Args:
        url: of SQLite or PostgreSQL.
        engine: of that, where it is another one than usual (see `reader`).

    Raises:
        NewerTables: a newer version's.
        sqlalchemy.exc.DBAPIError: the database cannot be reached or read.
    """

    def __init__(self, url: sa.URL, engine: sa.Engine | None = None) -> None:
        usual = _sqlite if url.get_backend_name() == "sqlite" else _postgresql
        self.engine = usual(url) if engine is None else engine
        self._writing = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        try:
            with self._writing.begin() as connection:
                upgrade(connection)
                self.key = bytes.fromhex(connection.execute(sa.select(SEALS.c.key)).scalar_one())
        except BaseException:
            self.engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def keep(
        self, facts: DraftFacts, judgement: ReaderVerdict, now: datetime | None = None
    ) -> tuple[KeptVerdict, bool]:
        """Keep a verdict; whether it is new. One that has come before under its key is given back as it was kept.

        Raises:
            OtherVerdict: another one has come under this key.
            sqlalchemy.exc.DBAPIError: the database cannot be reached or written.
        """
        if before := self._under(facts.id, judgement):
            return before, False
        row = _row_of(facts, judgement, now or datetime.now(UTC))
        try:
            with self._writing.begin() as connection:
                number = connection.execute(VERDICTS.insert().returning(VERDICTS.c.id), row).scalar_one()
        except IntegrityError:  # another server has been quicker
            if before := self._under(facts.id, judgement):
                return before, False
            raise
        return _kept({**row, "id": number}), True

    def _under(self, draft: str, judgement: ReaderVerdict) -> KeptVerdict | None:
        chosen = sa.select(VERDICTS).where(VERDICTS.c.draft_id == draft, VERDICTS.c.client_key == judgement.key)
        with self.engine.connect() as connection:
            row = connection.execute(chosen).mappings().one_or_none()
        if row is None:
            return None
        kept = _kept(dict(row))
        if kept.judgement != _settled(kept.facts, judgement):
            raise OtherVerdict
        return kept

    def history(self) -> Iterator[KeptVerdict]:
        """All verdicts, in the order in which they were kept."""
        chosen = sa.select(VERDICTS).order_by(VERDICTS.c.id)
        with (
            self.engine.connect() as connection,
            connection.execution_options(yield_per=AT_ONCE).execute(chosen) as found,
        ):
            yield from (_kept(dict(row)) for row in found.mappings())

    def latest(self) -> list[KeptVerdict]:
        """The verdict that counts of each draft, in the order in which they were kept; withdrawn ones are left out."""
        newest = {kept.facts.id: kept for kept in self.history()}
        return sorted((it for it in newest.values() if it.judgement.verdict != WITHDRAW), key=lambda it: it.number)


def _settled(facts: DraftFacts, judgement: ReaderVerdict) -> ReaderVerdict:
    """A verdict with the text that belongs to it."""
    text = facts.text if judgement.verdict == ACCEPT else judgement.text if judgement.verdict == EDIT else ""
    return ReaderVerdict(judgement.verdict, judgement.key, text, judgement.reason, judgement.note)


def _row_of(facts: DraftFacts, judgement: ReaderVerdict, now: datetime) -> dict[str, Any]:
    settled = _settled(facts, judgement)
    has_text = settled.verdict in (ACCEPT, EDIT)
    edits = sentence_edits(facts.text, settled.text) if has_text else ()
    labels = None if settled.verdict == WITHDRAW else asserted(facts.text)
    drafted = datetime.fromtimestamp(facts.created, UTC)
    row: dict[str, Any] = {
        "draft_id": facts.id,
        "client_key": settled.key,
        "verdict": settled.verdict,
        "reason": settled.reason,
        "note": settled.note,
        "drafted_at": drafted,
        "decided_at": now,
        "seconds": max((now - drafted).total_seconds(), 0.0),  # clocks of two servers may differ
        "draft": facts.text,
        "final": settled.text,
        "edits": [asdict(edit) for edit in edits],
        "sentences_changed": sum(edit.kind != "kept" for edit in edits),
        "words_changed": sum(edit.words for edit in edits),
        "labels_before": labels,
        "labels_after": asserted(settled.text) if has_text and labels is not None else None,
        "labeler": labeler_name() if labels is not None else "",
    }
    own = (
        "model",
        "model_sha256",
        "delta_sha256",
        "version",
        "patient",
        "age",
        "sex",
        "view",
        "device",
        "needs_review",
    )
    return {**row, **{name: getattr(facts, name) for name in own},
            "films": list(facts.films), "features": dict(facts.features)}  # fmt: skip


def _kept(row: dict[str, Any]) -> KeptVerdict:
    facts = DraftFacts(
        id=row["draft_id"],
        created=int(row["drafted_at"].timestamp()),
        text=row["draft"],
        model=row["model"],
        model_sha256=row["model_sha256"],
        delta_sha256=row["delta_sha256"],
        version=row["version"],
        films=tuple(row["films"]),
        patient=row["patient"],
        age=row["age"],
        sex=row["sex"],
        view=row["view"],
        device=row["device"],
        features=row["features"],
        needs_review=row["needs_review"],
    )
    return KeptVerdict(
        number=row["id"],
        facts=facts,
        judgement=ReaderVerdict(row["verdict"], row["client_key"], row["final"], row["reason"], row["note"]),
        decided=row["decided_at"],
        seconds=row["seconds"],
        edits=tuple(SentenceEdit(**edit) for edit in row["edits"]),
        before=row["labels_before"],
        after=row["labels_after"],
        labeler=row["labeler"],
    )


def _sqlite(url: sa.URL) -> sa.Engine:
    """An engine of a file, which is its owner's alone: readers go on while one writes, who is waited for."""
    with suppress(FileExistsError):
        os.close(os.open(str(url.database), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    engine = sa.create_engine(url, connect_args={"timeout": PATIENCE})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # `begin` below says how a transaction begins
        for line in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {line}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def _postgresql(url: sa.URL) -> sa.Engine:
    """An engine of a server, whose connections are looked at before they are used."""
    milliseconds = PATIENCE * 1000
    options = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
    own = {"connect_timeout": PATIENCE, "options": options, "application_name": "r2gengpt"}
    return sa.create_engine(
        url, connect_args={name: value for name, value in own.items() if name not in url.query}, pool_pre_ping=True
    )
