"""What the cache saved of a call's cost, what of it was presumed, and whether its price had to be assumed."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; nothing is known of the calls that have ended already."""
    for column in ("saved", "presumed", "assumed"):
        op.execute(f"ALTER TABLE done ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
