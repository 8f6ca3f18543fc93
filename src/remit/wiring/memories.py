"""Which store agents remember in: a file in the home, or the one that REMIT_MEMORY_URL names."""

from __future__ import annotations

from remit.adapters.memory.sqlite import SqliteMemory
from remit.ports.memory import Memory
from remit.wiring.deployment import Deployment

MEMORY_FILE = "memory.db"


def open_memory(deployment: Deployment) -> Memory:
    """The store, which is reached for once something is wanted of it."""
    return SqliteMemory(deployment.home / MEMORY_FILE)
