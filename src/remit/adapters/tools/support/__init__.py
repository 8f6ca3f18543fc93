"""The built-in support toolset: knowledge base, customers, tickets, mail and read-only SQL.

`specs.support_specs` declares the tools and opens nothing; `toolset.open_support` opens them.
"""
