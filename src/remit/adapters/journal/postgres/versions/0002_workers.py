"""Leases: which worker has a run, and until when a worker counts as alive without being heard of."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; nobody is alive who could have the runs there are."""
    op.execute('CREATE TABLE worker (id text COLLATE "C" PRIMARY KEY, lease_until bigint NOT NULL)')
    op.execute("""ALTER TABLE run ADD COLUMN worker text COLLATE "C" NOT NULL DEFAULT ''""")
