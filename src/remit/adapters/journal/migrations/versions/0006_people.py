"""Approvals with roles, quorum, edits and reminders; runs that wait know when they may go on; refusals are kept."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE approval ADD COLUMN roles TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE approval ADD COLUMN quorum INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE approval ADD COLUMN votes TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE approval ADD COLUMN edited_digest TEXT",
    "ALTER TABLE approval ADD COLUMN edited_args BLOB",
    "ALTER TABLE approval ADD COLUMN remind_at INTEGER",
    "ALTER TABLE approval ADD COLUMN escalate_at INTEGER",
    "ALTER TABLE approval ADD COLUMN escalate_to TEXT NOT NULL DEFAULT '[]'",
    "CREATE INDEX approval_run ON approval (run_id)",
    "CREATE INDEX approval_due ON approval (expires_at) WHERE verdict = 'pending'",
    # `ready_at`: from when on a suspended run may go on, by itself
    "ALTER TABLE run ADD COLUMN suspended_at INTEGER",
    "ALTER TABLE run ADD COLUMN ready_at INTEGER",
    "CREATE INDEX run_ready ON run (agent, ready_at) WHERE status = 'suspended'",
    # calls of which nobody knows whether they happened
    "CREATE INDEX done_unknown ON done (seq) WHERE state = 'unknown'",
    # what the model was told of a refused call, so that a run that goes on is told the same
    "CREATE TABLE refusal (call_id TEXT PRIMARY KEY, decision BLOB NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE attachment (
        run_id TEXT NOT NULL,
        place INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        name TEXT NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (run_id, place)
    ) STRICT""",
)


def upgrade() -> None:
    """Add them; the time that a run has waited until now does not count."""
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("UPDATE run SET suspended_at = coalesce(started_at, created_at) WHERE status = 'suspended'")
