"""Leases: which worker has a run, and until when a worker counts as alive without being heard of."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; nobody is alive who could have the runs there are."""
    op.execute(
        "CREATE TABLE worker (id TEXT PRIMARY KEY, lease_until INTEGER NOT NULL) STRICT, WITHOUT ROWID"
    )
    op.execute("ALTER TABLE run ADD COLUMN worker TEXT NOT NULL DEFAULT ''")
