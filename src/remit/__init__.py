"""Remit runs AI agents in production and keeps each of them inside its remit."""

__version__ = "0.1.0"
