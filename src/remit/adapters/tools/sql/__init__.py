"""Databases as a toolset: named queries, and free SELECTs behind a guard.

`specs.declare_sql` opens nothing; `toolset.open_sql` connects and looks at what its role may do.
"""
