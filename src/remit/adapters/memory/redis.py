"""Memory in Redis: each change is one transaction that is tried again where another came between.

A list is a hash of its entries by number; a scope's texts are a hash by their SHA-256, each with the count of those who
refer to it. The server must persist what it is told and evict nothing. A cluster of servers is not supported.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, WatchError

from remit.core import canonical
from remit.core.errors import RemitError
from remit.core.labels import DATA_CLASSES
from remit.core.memory import Entry, Kept, ListInfo, Scope
from remit.ports.memory import Keep

TRIES_MAX = 100
_EMPTY_KEPT_S = 7 * 86_400
_PREFIX = "remit:memory"
_INDEX = f"{_PREFIX}:lists"
_FIELDS = ("key", "role", "trust", "source", "subject", "at_us", "expires_at_us", "covers")
T = TypeVar("T")
Meta: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The keys of one list. No name can lead into another scope: each is a part of a digest."""

    scope: Scope
    name: str

    @property
    def member(self) -> bytes:
        """The list in the index of all lists."""
        return orjson.dumps([*self.scope, self.name])

    @property
    def of_scope(self) -> str:
        return f"{_PREFIX}:{canonical.digest(orjson.dumps(list(self.scope)))}"

    @property
    def of_list(self) -> str:
        return f"{self.of_scope}:{canonical.digest(self.name.encode())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What a list is: the number of its last entry, how many it has, their bytes, when something of it was erased."""

    last: int = 0
    entries: int = 0
    size: int = 0
    erased_at: int = 0


class RedisMemory:
    """A `Memory` on the server at `url`. Raises: RemitError `usage.invalid` where that is no URL of one."""

    def __init__(self, url: str) -> None:
        try:
            self._redis = Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
        except ValueError:
            # what it complains of may be a part of the password
            message = "the address of the memory is no Redis URL"
            raise RemitError("usage.invalid", message, remedy="write redis://HOST:6379/0") from None
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def append(self, keep: Keep) -> None:
        names = _Names(scope=keep.scope, name=keep.name)

        async def work(pipe: Pipeline) -> None:
            state = await _state(pipe, names)
            known = await pipe.hmget(f"{names.of_list}:keys", [one.key for one in keep.entries])
            fresh = [one for one, seq in zip(keep.entries, known, strict=True) if seq is None]
            if not fresh:
                return
            if state.erased_at >= keep.since_us:
                raise RemitError("memory.changed", "something of it was erased while the run was under way")
            added = sum(entry.size for entry in fresh)
            scope_size = int(await pipe.get(f"{names.of_scope}:size") or 0) + added
            keep.limits.check(state.entries + len(fresh), state.size + added, scope_size)
            expiries = [await _expiry(pipe, names, entry) for entry in fresh]
            _queue(pipe)
            for seq, (entry, expires_at_us) in enumerate(zip(fresh, expiries, strict=True), state.last + 1):
                _queue_entry(pipe, names, seq, entry, expires_at_us)
            _queue_state(
                pipe,
                names,
                _State(
                    last=state.last + len(fresh),
                    entries=state.entries + len(fresh),
                    size=state.size + added,
                    erased_at=state.erased_at,
                ),
            )
            pipe.incrby(f"{names.of_scope}:size", added)
            pipe.zadd(_INDEX, {names.member: min(expiries)}, lt=True)

        await self._transaction(names.scope, work)

    async def read(self, scope: Scope, name: str, at_us: int, upto: int | None = None) -> Sequence[Kept]:
        names = _Names(scope=scope, name=name)

        async def work(pipe: Pipeline) -> list[Kept]:
            last = (await _state(pipe, names)).last
            last = last if upto is None else min(upto, last)
            summaries = await pipe.hgetall(f"{names.of_list}:summaries")
            numbers = sorted(((int(covers), int(seq)) for seq, covers in summaries.items()), reverse=True)
            metas = await _metas(pipe, names, [seq for _, seq in numbers if seq <= last])
            newest = next(
                (seq for _, seq in numbers if seq in metas and metas[seq]["expires_at_us"] > at_us), 0
            )
            covers = metas[newest]["covers"] if newest else 0
            after = await _metas(pipe, names, range(covers + 1, last + 1))
            found = {seq: meta for seq, meta in after.items() if not meta["covers"]}
            return await _kept(pipe, names, ({newest: metas[newest]} if newest else {}) | found, at_us)

        return await self._transaction(scope, work)

    async def entries(self, scope: Scope, name: str, at_us: int) -> Sequence[Kept]:
        names = _Names(scope=scope, name=name)

        async def work(pipe: Pipeline) -> list[Kept]:
            return await _kept(pipe, names, await _all_metas(pipe, names), at_us)

        return await self._transaction(scope, work)

    async def lists(self, at_us: int) -> Sequence[ListInfo]:
        members = await self._finished(self._members())
        infos = []
        for tenant, agent, name in sorted(orjson.loads(member) for member in members):
            names = _Names(scope=Scope(tenant, agent), name=name)
            metas = (await self._transaction(names.scope, partial(_all_metas, names=names))).values()
            live = [meta for meta in metas if meta["expires_at_us"] > at_us]
            if live:
                infos.append(
                    ListInfo(
                        scope=names.scope,
                        name=name,
                        entries=len(live),
                        size=sum(meta["size"] for meta in live),
                        first_at_us=min(meta["at_us"] for meta in live),
                        last_at_us=max(meta["at_us"] for meta in live),
                        expires_at_us=max(meta["expires_at_us"] for meta in live),
                    )
                )
        return infos

    async def erase(self, scope: Scope, name: str, seqs: Collection[int], at_us: int) -> int:
        def gone(metas: dict[int, Meta]) -> list[int]:
            first = min((seq for seq in metas if seq in seqs), default=2**62)
            return [seq for seq, meta in metas.items() if seq in seqs or meta["covers"] >= first]

        return await self._remove(_Names(scope=scope, name=name), gone, erased_at_us=at_us)

    async def purge(self, at_us: int) -> int:
        count = 0
        for member in await self._finished(self._members(at_us)):
            tenant, agent, name = orjson.loads(member)
            names = _Names(scope=Scope(tenant, agent), name=name)
            count += await self._remove(
                names, lambda metas: [seq for seq, meta in metas.items() if meta["expires_at_us"] <= at_us]
            )
        return count

    async def close(self) -> None:
        """Finish what was begun, then let go of the connections."""
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._redis.aclose()

    async def _remove(
        self,
        names: _Names,
        choose: Callable[[dict[int, Meta]], list[int]],
        *,
        erased_at_us: int | None = None,
    ) -> int:
        async def work(pipe: Pipeline) -> int:
            metas = await _all_metas(pipe, names)
            seqs = choose(metas)
            state = await _state(pipe, names)
            released = Counter(metas[seq]["digest"] for seq in seqs)
            if not seqs:
                return 0
            referred = await pipe.hmget(f"{names.of_scope}:refs", list(released))
            held = dict(zip(released, referred, strict=True))
            _queue(pipe)
            size = sum(metas[seq]["size"] for seq in seqs)
            pipe.hdel(f"{names.of_list}:entries", *map(str, seqs))
            pipe.hdel(f"{names.of_list}:summaries", *map(str, seqs))
            pipe.hdel(f"{names.of_list}:keys", *(metas[seq]["key"] for seq in seqs))
            for digest, count in released.items():
                if int(held[digest] or 0) <= count:
                    pipe.hdel(f"{names.of_scope}:texts", digest)
                    pipe.hdel(f"{names.of_scope}:refs", digest)
                else:
                    pipe.hincrby(f"{names.of_scope}:refs", digest, -count)
            erased_at = state.erased_at if erased_at_us is None else max(state.erased_at, erased_at_us)
            left = _State(
                last=state.last,
                entries=state.entries - len(seqs),
                size=state.size - size,
                erased_at=erased_at,
            )
            _queue_state(pipe, names, left)
            pipe.decrby(f"{names.of_scope}:size", size)
            expiries = [meta["expires_at_us"] for seq, meta in metas.items() if seq not in set(seqs)]
            if expiries:
                pipe.zadd(_INDEX, {names.member: min(expiries)})
            else:
                pipe.zrem(_INDEX, names.member)
            return len(seqs)

        return await self._transaction(names.scope, work)

    async def _members(self, due_us: int | None = None) -> Sequence[Any]:
        """The lists of all scopes; where a time is given, those of which something may have expired by then."""
        if due_us is None:
            return await self._redis.zrange(_INDEX, 0, -1)
        return await self._redis.zrangebyscore(_INDEX, "-inf", due_us)

    async def _transaction(self, scope: Scope, work: Callable[[Pipeline], Awaitable[T]]) -> T:
        """What `work` reads of a scope, and the changes it queues: of one moment, or not at all."""
        return await self._finished(self._try(f"{_Names(scope=scope, name='').of_scope}:version", work))

    async def _try(self, version: str, work: Callable[[Pipeline], Awaitable[T]]) -> T:
        async with self._one_at_a_time:  # so that only other processes come between
            for _ in range(TRIES_MAX):
                try:
                    async with self._redis.pipeline(transaction=True) as pipe:
                        await pipe.watch(version)
                        done = await work(pipe)
                        if pipe.explicit_transaction:
                            pipe.incr(version)
                        else:
                            _queue(pipe)
                            pipe.get(version)
                        await pipe.execute()
                        return done
                except WatchError:
                    continue
        raise RemitError("memory.unavailable", "others changed the same again and again")

    async def _finished(self, asked: Coroutine[Any, Any, T]) -> T:
        """What comes of `asked`. Who is cancelled meanwhile is so at once, and it is finished all the same.

        The client may lose a cancellation while it waits, so it must never be given one.
        """
        task = asyncio.create_task(asked)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except RedisError as error:
            # what a server or the client says may hold the address, and with it the password
            message, cause = "the Redis of the memory cannot be used", type(error).__name__
            raise RemitError("memory.unavailable", message, cause=cause) from None

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # which nobody may wait for any more


def _queue(pipe: Pipeline) -> None:
    """From here on, what the pipe is told is done with the transaction."""
    pipe.multi()  # type: ignore[no-untyped-call]


async def _state(pipe: Pipeline, names: _Names) -> _State:
    body = await pipe.get(f"{names.of_list}:state")
    return _State() if body is None else _State(**orjson.loads(body))


def _queue_state(pipe: Pipeline, names: _Names, state: _State) -> None:
    # of what is empty nothing need be known once the runs have ended that may have read it
    pipe.set(f"{names.of_list}:state", orjson.dumps(state), ex=None if state.entries else _EMPTY_KEPT_S)


async def _expiry(pipe: Pipeline, names: _Names, entry: Entry) -> int:
    covered = await _metas(pipe, names, range(1, entry.covers + 1))
    expiries: list[int] = [meta["expires_at_us"] for meta in covered.values()]
    return min([entry.expires_at_us, *expiries])


def _queue_entry(pipe: Pipeline, names: _Names, seq: int, entry: Entry, expires_at_us: int) -> None:
    meta = {name: getattr(entry, name) for name in _FIELDS} | {
        "classes": entry.classes,
        "expires_at_us": expires_at_us,
        "digest": entry.digest,
        "size": entry.size,
    }
    pipe.hset(f"{names.of_list}:entries", str(seq), orjson.dumps(meta))
    pipe.hset(f"{names.of_list}:keys", entry.key, str(seq))
    if entry.covers:
        pipe.hset(f"{names.of_list}:summaries", str(seq), str(entry.covers))
    pipe.hset(f"{names.of_scope}:texts", entry.digest, zlib.compress(entry.text.encode()))
    pipe.hincrby(f"{names.of_scope}:refs", entry.digest, 1)


async def _metas(pipe: Pipeline, names: _Names, seqs: Sequence[int]) -> dict[int, Meta]:
    if not seqs:
        return {}
    bodies = await pipe.hmget(f"{names.of_list}:entries", [str(seq) for seq in seqs])
    return {seq: orjson.loads(body) for seq, body in zip(seqs, bodies, strict=True) if body is not None}


async def _all_metas(pipe: Pipeline, names: _Names) -> dict[int, Meta]:
    bodies = await pipe.hgetall(f"{names.of_list}:entries")
    return {int(seq): orjson.loads(bodies[seq]) for seq in sorted(bodies, key=int)}


async def _kept(pipe: Pipeline, names: _Names, metas: dict[int, Meta], at_us: int) -> list[Kept]:
    live = {seq: meta for seq, meta in metas.items() if meta["expires_at_us"] > at_us}
    if not live:
        return []
    bodies = await pipe.hmget(f"{names.of_scope}:texts", [meta["digest"] for meta in live.values()])
    texts = [zlib.decompress(body).decode() for body in bodies if isinstance(body, bytes)]
    if len(texts) != len(live):
        raise RemitError("memory.unavailable", "the Redis of the memory has lost texts: let it evict nothing")
    return [
        Kept(
            seq,
            Entry(
                text=text,
                classes=tuple(one for one in DATA_CLASSES if one in meta["classes"]),
                **{name: meta[name] for name in _FIELDS},
            ),
        )
        for (seq, meta), text in zip(live.items(), texts, strict=True)
    ]
