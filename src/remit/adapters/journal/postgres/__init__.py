"""The journal on PostgreSQL, for many workers on one database. Needs the extra `remit[postgres]`."""
