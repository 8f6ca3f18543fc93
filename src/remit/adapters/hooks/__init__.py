"""Webhooks that come in, over HTTP."""
