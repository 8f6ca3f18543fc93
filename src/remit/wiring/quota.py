"""What the providers still allow, as their last responses said, kept in the home for `remit doctor`.

There is no way to ask them: the numbers are as old as the last call. The file decides nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from remit.core.quota import Quota
from remit.ports.services import Clock

_SAVE_EVERY_US = 30_000_000
_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredQuota:
    """A quota, and when it was said."""

    quota: Quota
    at_us: int


class QuotaFile:
    """Remembers the newest quota of each provider, model and kind; writes them now and then, and in `save`.

    `seen` is told each quota as well.
    """

    def __init__(self, path: Path, clock: Clock, seen: Callable[[Quota], None]) -> None:
        self._path = path
        self._clock = clock
        self._seen = seen
        self._newest = {_key(one.quota): one for one in read_quotas(path)}
        self._saved_us = 0

    def take(self, quotas: tuple[Quota, ...]) -> None:
        """Take what a response said. Never raises."""
        now_us = self._clock.now_us()
        for quota in quotas:
            self._newest[_key(quota)] = MeasuredQuota(quota=quota, at_us=now_us)
            self._seen(quota)
        if now_us - self._saved_us > _SAVE_EVERY_US:
            self._saved_us = now_us
            self.save()

    def save(self) -> None:
        """Write the file, whole or not at all. Never raises: it is a help for people, no run depends on it."""
        if not self._saved_us:
            return  # no response said anything
        beside = self._path.with_suffix(f".{os.getpid()}")
        try:
            beside.write_bytes(orjson.dumps([asdict(one) for one in self._newest.values()]))
            beside.replace(self._path)
        except OSError:
            beside.unlink(missing_ok=True)


def read_quotas(path: Path) -> Sequence[MeasuredQuota]:
    """What the file holds; nothing where there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            found = orjson.loads(file.read(_BYTES_MAX))
        return [MeasuredQuota(quota=Quota(**one["quota"]), at_us=int(one["at_us"])) for one in found]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _key(quota: Quota) -> tuple[str, str, str]:
    return quota.provider, quota.model, quota.kind
