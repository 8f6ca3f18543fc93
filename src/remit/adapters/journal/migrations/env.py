"""Alembic's entry: runs the steps that are due on the connection it is handed.

Each has a transaction of its own, so that none keeps others waiting for long; but a new journal appears as a whole.
"""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    transactional_ddl=True,  # of SQLite's too, which has them though Alembic does not think so
    transaction_per_migration=not context.config.attributes["is_new"],
)
with context.begin_transaction():
    context.run_migrations()
