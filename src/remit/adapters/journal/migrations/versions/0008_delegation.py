"""Runs that the call of another run has started: by which call, and how deep below the first."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE run ADD COLUMN parent TEXT",
    "ALTER TABLE run ADD COLUMN depth INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX run_parent ON run (parent) WHERE parent IS NOT NULL",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)
