"""Holds that expire, and the digest of a call's content, by which repeated calls are found."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what is in flight already expires at once, because its process has ended."""
    op.execute("ALTER TABLE inflight ADD COLUMN presumed INTEGER NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE inflight ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE call ADD COLUMN content BLOB NOT NULL DEFAULT x''")
