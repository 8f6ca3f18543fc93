"""The newest run that somebody asked for is found at once."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index it."""
    op.execute("CREATE INDEX run_asker ON run (agent, principal, seq)")
