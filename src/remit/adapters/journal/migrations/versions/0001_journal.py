"""The journal: runs, calls, money, windows, approvals, controls, audit."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    # The log. A call's admission shares its number with the audit record of the intent.
    "CREATE TABLE audit (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT",
    """CREATE TABLE run (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        remit_digest TEXT NOT NULL,
        principal TEXT NOT NULL,
        task TEXT NOT NULL,
        task_digest TEXT NOT NULL,
        trace_id TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        deadline INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        answer TEXT,
        code TEXT,
        message TEXT
    ) STRICT""",
    "CREATE INDEX run_open ON run (tenant, agent, status) WHERE status IN ('queued', 'running', 'suspended')",
    """CREATE TABLE call (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        resource TEXT NOT NULL,
        digest BLOB NOT NULL,
        at INTEGER NOT NULL
    ) STRICT""",
    # One row for each intent without an outcome; deleting it is the compare-and-set of the completion.
    """CREATE TABLE inflight (
        seq INTEGER PRIMARY KEY,
        held INTEGER NOT NULL,
        scopes TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE done (
        seq INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        at INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        exposes INTEGER NOT NULL,
        result BLOB NOT NULL
    ) STRICT""",
    # Nano-USD. `presumed` is the part of spent that nobody could confirm.
    """CREATE TABLE balance (
        scope TEXT PRIMARY KEY,
        spent INTEGER NOT NULL,
        held INTEGER NOT NULL,
        presumed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE alert (
        scope TEXT NOT NULL,
        threshold INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (scope, threshold)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE rate_event (
        key TEXT NOT NULL,
        at INTEGER NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (key, at)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE remit (
        agent TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE control (
        scope TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE approval (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        action_id TEXT NOT NULL,
        action_digest TEXT NOT NULL UNIQUE,
        run_id TEXT NOT NULL,
        remit_digest TEXT NOT NULL,
        requested_by TEXT NOT NULL,
        requested_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        resource TEXT NOT NULL,
        action BLOB NOT NULL,
        rule TEXT NOT NULL,
        verdict TEXT NOT NULL,
        decided_by TEXT,
        decided_at INTEGER,
        reason TEXT NOT NULL,
        used_at INTEGER
    ) STRICT""",
)


def upgrade() -> None:
    """Create every table."""
    for statement in STATEMENTS:
        op.execute(statement)
