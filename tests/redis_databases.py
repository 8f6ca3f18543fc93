"""Redis for tests: the server that REMIT_TEST_REDIS_URL names, else one that is started for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from remit.testing.redis_server import redis_server

URL = "REMIT_TEST_REDIS_URL"
_OURS = "remit:memory*"


@contextmanager
def redis_urls() -> Iterator[str]:
    """The address of a server. One that is named must hold nothing of ours, and holds nothing afterwards."""
    named = os.environ.get(URL)
    if not named:
        with redis_server() as server:
            yield server.url
        return
    with Redis.from_url(named) as client:
        assert not client.keys(_OURS), f"{URL} names a Redis with a memory in it"
    yield named


def empty(url: str) -> None:
    """Remove every memory there."""
    with Redis.from_url(url) as client:
        for key in client.scan_iter(_OURS):
            client.delete(key)
