"""Tools of MCP servers as a toolset: only those that are listed, and only as they were accepted.

`specs.declare_mcp` reads what was accepted and reaches nobody; `toolset.open_mcp` connects.
"""
