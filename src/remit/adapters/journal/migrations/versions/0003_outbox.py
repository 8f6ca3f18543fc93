"""The outbox: messages to the outside, written by the commit they tell of, and the topics that are wanted."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    # `due_at` is also the lease: who claims a message moves it on, and nobody else takes it until then.
    """CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        topic TEXT NOT NULL,
        body BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        ended_at INTEGER,
        error TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'waiting'",
    "CREATE TABLE outbox_topic (topic TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
)


def upgrade() -> None:
    """Create the tables; what was crossed before is not told afterwards."""
    for statement in STATEMENTS:
        op.execute(statement)
