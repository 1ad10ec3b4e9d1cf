"""Whether the program marked a draft for review; not known of drafts from before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty."""
    op.add_column("verdicts", sa.Column("needs_review", sa.Boolean))
