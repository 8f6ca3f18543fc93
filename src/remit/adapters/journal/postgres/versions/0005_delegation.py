"""Runs that the call of another run has started: by which call, and how deep below the first."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """ALTER TABLE run ADD COLUMN parent text COLLATE "C", ADD COLUMN depth integer NOT NULL DEFAULT 0""",
    "CREATE INDEX run_parent ON run (parent) WHERE parent IS NOT NULL",
)


def upgrade() -> None:
    """Add them; a run that ends ends those below it, which a batch leaves to who decides one by one."""
    for statement in (*STATEMENTS, (Path(__file__).parent / "commit_batch.sql").read_text()):
        op.execute(statement)
