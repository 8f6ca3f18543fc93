"""Which store a deployment's agents remember in, and what is said of a wrong address."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core.errors import RemitError
from remit.wiring.deployment import Deployment
from remit.wiring.memories import open_memory

REDIS, POSTGRES = "redis://h/0", "postgresql://h/d"


@pytest.mark.parametrize(
    ("environment", "store"),
    [
        ({}, "SqliteMemory"),
        ({"REMIT_MEMORY_URL": ""}, "SqliteMemory"),
        ({"REMIT_MEMORY_URL": REDIS}, "RedisMemory"),
        ({"REMIT_MEMORY_URL": POSTGRES}, "PostgresMemory"),
        ({"REMIT_DATABASE_URL": POSTGRES}, "PostgresMemory"),
        ({"REMIT_DATABASE_URL": "host=h dbname=d"}, "PostgresMemory"),
        ({"REMIT_DATABASE_URL": POSTGRES, "REMIT_MEMORY_URL": REDIS}, "RedisMemory"),
    ],
)
async def test_the_store_is_the_one_named_else_where_the_journal_is(
    environment: dict[str, str], store: str, tmp_path: Path
) -> None:
    memory = open_memory(Deployment(home=tmp_path, environment=environment))
    assert type(memory).__name__ == store
    await memory.close()


@pytest.mark.parametrize("url", ["s3cret", "mysql://u:s3cret@h", "s3cret=://"])
def test_a_wrong_address_is_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(RemitError, match=r"usage\.invalid.*REMIT_MEMORY_URL") as caught:
        open_memory(Deployment(home=tmp_path, environment={"REMIT_MEMORY_URL": url}))
    assert "s3cret" not in str(caught.value)
