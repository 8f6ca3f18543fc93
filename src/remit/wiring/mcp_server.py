"""What serves tools over MCP. An extra: imported where it is asked for."""

from remit.adapters.tools.mcp.serving import Reply as Reply
from remit.adapters.tools.mcp.serving import serve_stdio as serve_stdio
from remit.adapters.tools.mcp.serving import server_of as server_of
