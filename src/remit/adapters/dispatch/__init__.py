"""Dispatchers: DBOS, on SQLite for one worker and on PostgreSQL for many."""
