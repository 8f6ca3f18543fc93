"""The file of who has which token. Needs no extra."""

from remit.adapters.tools.mcp.tokens import add_token as add_token
