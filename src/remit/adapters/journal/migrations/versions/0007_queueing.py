"""Runs that any worker takes from the queue: their segments, their urgency, and how often they were interrupted."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE run ADD COLUMN urgency INTEGER NOT NULL DEFAULT 500",
    "ALTER TABLE run ADD COLUMN segment INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE run ADD COLUMN is_queued INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE run ADD COLUMN interruptions INTEGER NOT NULL DEFAULT 0",
    "UPDATE run SET ready_at = NULL WHERE status <> 'suspended'",
    "DROP INDEX run_ready",
    "CREATE INDEX run_ready ON run (agent, ready_at) WHERE ready_at IS NOT NULL",
    "CREATE INDEX run_worker ON run (worker) WHERE status IN ('queued', 'running')",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)
