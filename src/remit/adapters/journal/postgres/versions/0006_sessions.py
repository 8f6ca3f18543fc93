"""The session that a run belongs to."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.execute("ALTER TABLE run ADD COLUMN session text NOT NULL DEFAULT ''")
