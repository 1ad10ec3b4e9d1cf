"""Verdicts and the key of receipts."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables, and draw the key."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "verdicts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("draft_id", sa.String(80), nullable=False),
        sa.Column("client_key", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("drafted_at", moment, nullable=False),
        sa.Column("decided_at", moment, nullable=False),
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
        sa.UniqueConstraint("draft_id", "client_key", name="once_a_key"),
    )
    op.create_index("ix_verdicts_draft_id", "verdicts", ["draft_id"])
    seals = op.create_table(
        "seals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False),
    )
    op.bulk_insert(seals, [{"id": 1, "key": secrets.token_hex(32)}])
