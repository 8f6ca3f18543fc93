"""Runs that any worker takes from the queue: their segments, their urgency, and how often they were interrupted."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """ALTER TABLE run
        ADD COLUMN urgency integer NOT NULL DEFAULT 500,
        ADD COLUMN segment integer NOT NULL DEFAULT 0,
        ADD COLUMN is_queued boolean NOT NULL DEFAULT false,
        ADD COLUMN interruptions integer NOT NULL DEFAULT 0""",
    "UPDATE run SET ready_at = NULL WHERE status <> 'suspended'",
    "DROP INDEX run_ready",
    "CREATE INDEX run_ready ON run (agent, ready_at) WHERE ready_at IS NOT NULL",
    "CREATE INDEX run_worker ON run (worker) WHERE status IN ('queued', 'running')",
)


def upgrade() -> None:
    """Add them; a batch is of one worker, whose runs they must be."""
    for statement in (*STATEMENTS, (Path(__file__).parent / "commit_batch.sql").read_text()):
        op.execute(statement)
