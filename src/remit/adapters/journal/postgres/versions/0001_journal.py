"""The journal: the tables of SQLite's, the writers' last batches, and the batch as one function."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Text compares by its bytes, as in SQLite: ids are searched by their beginnings.
TEXT = 'text COLLATE "C"'
# Rows that come and go at every call: vacuumed often, and updated without touching an index.
BUSY = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0"
)

STATEMENTS = (
    # Places in the log are unique and never given twice, with gaps, in the order in which they were taken.
    "CREATE SEQUENCE audit_seq",
    "CREATE TABLE audit (seq bigint PRIMARY KEY DEFAULT nextval('audit_seq'), body bytea NOT NULL)",
    f"""CREATE TABLE run (
        seq bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        id {TEXT} NOT NULL UNIQUE,
        tenant {TEXT} NOT NULL,
        agent {TEXT} NOT NULL,
        remit_digest {TEXT} NOT NULL,
        principal {TEXT} NOT NULL,
        task {TEXT} NOT NULL,
        task_digest {TEXT} NOT NULL,
        trace_id {TEXT} NOT NULL,
        status {TEXT} NOT NULL,
        created_at bigint NOT NULL,
        deadline bigint NOT NULL,
        started_at bigint,
        ended_at bigint,
        answer {TEXT},
        code {TEXT},
        message {TEXT}
    )""",
    "CREATE INDEX run_open ON run (tenant, agent, status) WHERE status IN ('queued', 'running', 'suspended')",
    f"""CREATE TABLE call (
        seq bigint PRIMARY KEY,
        id {TEXT} NOT NULL UNIQUE,
        kind {TEXT} NOT NULL,
        resource {TEXT} NOT NULL,
        digest bytea NOT NULL,
        at bigint NOT NULL,
        content bytea NOT NULL
    )""",
    f"""CREATE TABLE inflight (
        seq bigint PRIMARY KEY,
        held bigint NOT NULL,
        scopes {TEXT} NOT NULL,
        presumed bigint NOT NULL,
        expires_at bigint NOT NULL
    ) WITH ({BUSY})""",
    f"""CREATE TABLE done (
        seq bigint PRIMARY KEY,
        state {TEXT} NOT NULL,
        at bigint NOT NULL,
        input_tokens integer NOT NULL,
        output_tokens integer NOT NULL,
        cache_read_tokens integer NOT NULL,
        cache_write_tokens integer NOT NULL,
        cost bigint NOT NULL,
        exposes boolean NOT NULL,
        result bytea NOT NULL,
        saved bigint NOT NULL,
        presumed bigint NOT NULL,
        assumed boolean NOT NULL
    )""",
    f"""CREATE TABLE balance (
        scope {TEXT} PRIMARY KEY,
        spent bigint NOT NULL,
        held bigint NOT NULL,
        presumed bigint NOT NULL
    ) WITH (fillfactor = 50, {BUSY})""",
    f"""CREATE TABLE alert (
        scope {TEXT} NOT NULL,
        threshold integer NOT NULL,
        at bigint NOT NULL,
        PRIMARY KEY (scope, threshold)
    )""",
    f"""CREATE TABLE rate_event (
        key {TEXT} NOT NULL,
        at bigint NOT NULL,
        n integer NOT NULL,
        PRIMARY KEY (key, at)
    ) WITH ({BUSY})""",
    f"CREATE TABLE remit (agent {TEXT} PRIMARY KEY, digest {TEXT} NOT NULL, at bigint NOT NULL)",
    f"CREATE TABLE control (scope {TEXT} PRIMARY KEY, reason {TEXT} NOT NULL, at bigint NOT NULL)",
    f"""CREATE TABLE approval (
        seq bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        id {TEXT} NOT NULL UNIQUE,
        action_id {TEXT} NOT NULL,
        action_digest {TEXT} NOT NULL UNIQUE,
        run_id {TEXT} NOT NULL,
        remit_digest {TEXT} NOT NULL,
        requested_by {TEXT} NOT NULL,
        requested_at bigint NOT NULL,
        expires_at bigint NOT NULL,
        resource {TEXT} NOT NULL,
        action bytea NOT NULL,
        rule {TEXT} NOT NULL,
        verdict {TEXT} NOT NULL,
        decided_by {TEXT},
        decided_at bigint,
        reason {TEXT} NOT NULL,
        used_at bigint
    )""",
    f"""CREATE TABLE outbox (
        seq bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        id {TEXT} NOT NULL UNIQUE,
        topic {TEXT} NOT NULL,
        body bytea NOT NULL,
        created_at bigint NOT NULL,
        due_at bigint NOT NULL,
        state {TEXT} NOT NULL,
        attempts integer NOT NULL,
        ended_at bigint,
        error {TEXT} NOT NULL
    )""",
    "CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'waiting'",
    f"CREATE TABLE outbox_topic (topic {TEXT} PRIMARY KEY)",
    # One row for each connection that writes: the last batch that it committed, and what was answered. Whoever
    # deletes the row knows what became of the batch whose answer was lost, and that nothing can follow it.
    f"""CREATE TABLE writer (
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        batch bigint NOT NULL DEFAULT 0,
        ended int[] NOT NULL DEFAULT '{{}}',
        at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 50, {BUSY})""",
    """CREATE FUNCTION mark_batch(writer_id bigint, batch_number bigint, ended_runs int[])
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE writer SET batch = batch_number, ended = ended_runs, at = now() WHERE id = writer_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'this connection was given up' USING ERRCODE = 'RM002';
        END IF;
    END $$""",
    # The one clock of all workers, read when it is called and not when the transaction began.
    """CREATE FUNCTION database_us() RETURNS bigint LANGUAGE sql VOLATILE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$""",
    "CREATE FUNCTION window_lock(key text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT hashtextextended(key, 7) $$",
    "CREATE FUNCTION agent_lock(agent text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT hashtextextended(agent, 8) $$",
    """CREATE FUNCTION local_day(at bigint, zone text) RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT to_char(to_timestamp(at / 1000000) AT TIME ZONE zone, 'YYYY-MM-DD') $$""",
)


def upgrade() -> None:
    """Create every table and function."""
    for statement in (*STATEMENTS, (Path(__file__).parent / "commit_batch.sql").read_text()):
        op.execute(statement)
