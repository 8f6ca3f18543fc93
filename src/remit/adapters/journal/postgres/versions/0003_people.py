"""Approvals with roles, quorum, edits and reminders; runs that wait know when they may go on; refusals are kept."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = 'text COLLATE "C"'

STATEMENTS = (
    f"""ALTER TABLE approval
        ADD COLUMN roles {TEXT} NOT NULL DEFAULT '[]',
        ADD COLUMN quorum integer NOT NULL DEFAULT 1,
        ADD COLUMN votes {TEXT} NOT NULL DEFAULT '[]',
        ADD COLUMN edited_digest {TEXT},
        ADD COLUMN edited_args bytea,
        ADD COLUMN remind_at bigint,
        ADD COLUMN escalate_at bigint,
        ADD COLUMN escalate_to {TEXT} NOT NULL DEFAULT '[]'""",
    "CREATE INDEX approval_run ON approval (run_id)",
    "CREATE INDEX approval_due ON approval (expires_at) WHERE verdict = 'pending'",
    "ALTER TABLE run ADD COLUMN suspended_at bigint, ADD COLUMN ready_at bigint",
    "CREATE INDEX run_ready ON run (agent, ready_at) WHERE status = 'suspended'",
    "CREATE INDEX done_unknown ON done (seq) WHERE state = 'unknown'",
    f"CREATE TABLE refusal (call_id {TEXT} PRIMARY KEY, decision bytea NOT NULL)",
    f"""CREATE TABLE attachment (
        run_id {TEXT} NOT NULL,
        place integer NOT NULL,
        media_type {TEXT} NOT NULL,
        name {TEXT} NOT NULL,
        data {TEXT} NOT NULL,
        PRIMARY KEY (run_id, place)
    )""",
    "UPDATE run SET suspended_at = coalesce(started_at, created_at) WHERE status = 'suspended'",
)


def upgrade() -> None:
    """Add them; the time that a run has waited until now does not count."""
    for statement in STATEMENTS:
        op.execute(statement)
