"""The store's tables as SQLAlchemy has them; `migrations` makes them. Opens nothing."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class UtcTime(sa.TypeDecorator[datetime]):
    """A moment with its zone, UTC, also in SQLite, which keeps none."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """To UTC, as each database takes it."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """With its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA = sa.MetaData()
VERDICTS = sa.Table(
    "verdicts",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("draft_id", sa.String(80), nullable=False, index=True),
    sa.Column("client_key", sa.String(64), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("drafted_at", UtcTime, nullable=False),
    sa.Column("decided_at", UtcTime, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("draft", sa.Text, nullable=False),
    sa.Column("final", sa.Text, nullable=False),
    sa.Column("edits", sa.JSON, nullable=False),
    sa.Column("sentences_changed", sa.Integer, nullable=False),
    sa.Column("words_changed", sa.Integer, nullable=False),
    sa.Column("labels_before", sa.JSON(none_as_null=True)),
    sa.Column("labels_after", sa.JSON(none_as_null=True)),
    sa.Column("labeler", sa.String(80), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_sha256", sa.String(64)),
    sa.Column("delta_sha256", sa.String(64)),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("films", sa.JSON, nullable=False),
    sa.Column("patient", sa.String(32), nullable=False),
    sa.Column("age", sa.String(16), nullable=False),
    sa.Column("sex", sa.String(1), nullable=False),
    sa.Column("view", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
    sa.Column("needs_review", sa.Boolean),
    sa.UniqueConstraint("draft_id", "client_key", name="once_a_key"),
)
SEALS = sa.Table(
    "seals",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False),
)
"""The key of receipts and pseudonyms, in hexadecimal; one row, made with the tables."""
