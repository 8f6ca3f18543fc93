"""What agents remember: on SQLite, PostgreSQL and Redis, and the tools that reach it."""
