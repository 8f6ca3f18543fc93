"""What every `Memory` must do; subclass it with a fixture `memory` that opens an empty one.

The store says nothing about policy: it keeps, reads as of a number, expires, erases, and never mixes two scopes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remit.core.errors import RemitError
from remit.core.memory import Entry, Limits, Scope
from remit.ports.memory import Keep, Memory

SCOPE = Scope("t", "a")
LIST = "session/S"
PLENTY = Limits(10_000, 10_000_000, 100_000_000, ("entries", "bytes", "scope"))
FAR_US = 10**18


def entry_of(text: str, key: str = "", **changes: Any) -> Entry:
    """An entry with every field set."""
    given: dict[str, Any] = {
        "key": key or text,
        "role": "user",
        "text": text,
        "classes": ("internal", "pii"),
        "trust": "untrusted",
        "source": "run",
        "subject": "C-1042",
        "at_us": 5,
        "expires_at_us": FAR_US,
    }
    return Entry(**(given | changes))


def summary_of(text: str, covers: int, **changes: Any) -> Entry:
    return entry_of(text, role="summary", covers=covers, **changes)


def keep_of(*entries: Entry, scope: Scope = SCOPE, name: str = LIST, **changes: Any) -> Keep:
    return Keep(scope, name, entries, PLENTY, 1)._replace(**changes)


async def texts(memory: Memory, scope: Scope = SCOPE, name: str = LIST, **more: Any) -> list[str]:
    return [one.entry.text for one in await memory.read(scope, name, more.pop("at_us", 10), **more)]


class MemorySuite:
    """The promises of the port."""

    async def test_what_is_kept_is_read_again_in_its_order_with_every_field(self, memory: Memory) -> None:
        first, second = (
            entry_of("one"),
            entry_of("zwei \u2603 \x00 end", "second", classes=(), trust="trusted", subject=""),
        )
        await memory.append(keep_of(first, second))
        kept = await memory.read(SCOPE, LIST, 10)
        assert [(one.seq, one.entry) for one in kept] == [(1, first), (2, second)]
        assert await memory.read(SCOPE, "session/T", 10) == []

    async def test_a_key_is_kept_once(self, memory: Memory) -> None:
        await memory.append(keep_of(entry_of("one")))
        await memory.append(keep_of(entry_of("one"), entry_of("two")))
        await memory.append(keep_of(entry_of("other words", key="one"), name="session/T"))
        assert await texts(memory) == ["one", "two"]
        assert await texts(memory, name="session/T") == ["other words"]

    @pytest.mark.parametrize(
        ("scope", "name"),
        [
            (Scope("t2", "a"), LIST),
            (Scope("t", "a2"), LIST),
            (Scope("a", "t"), LIST),
            (Scope("t/a", ""), LIST),
            (Scope("t:a", "session"), "S"),
            (Scope("", "t"), f"a/{LIST}"),
            (Scope("T", "a"), LIST),
            (Scope("*", "*"), "*"),
            (Scope("%", "%"), "%"),
            (SCOPE, "notes"),
            (SCOPE, "session/"),
            (SCOPE, "session/s"),
            (SCOPE, ""),
        ],
    )
    async def test_no_other_scope_and_no_other_list_has_it(
        self, memory: Memory, scope: Scope, name: str
    ) -> None:
        await memory.append(keep_of(entry_of("secret")))
        assert await texts(memory, scope, name) == []
        assert await memory.entries(scope, name, 10) == []
        assert await memory.erase(scope, name, [1], 9) == 0
        assert await texts(memory) == ["secret"]

    async def test_equal_texts_of_two_scopes_are_two(self, memory: Memory) -> None:
        other = Scope("t2", "a")
        await memory.append(keep_of(entry_of("same")))
        await memory.append(keep_of(entry_of("same"), scope=other))
        await memory.erase(SCOPE, LIST, [1], 9)
        assert await texts(memory, other) == ["same"]

    async def test_it_is_read_as_it_was_when_a_number_was_the_last(self, memory: Memory) -> None:
        for number in range(1, 5):
            await memory.append(keep_of(entry_of(str(number))))
        await memory.append(keep_of(summary_of("1-2", 2)))
        await memory.append(keep_of(entry_of("6")))
        await memory.append(keep_of(summary_of("1-4", 4)))
        assert await texts(memory, upto=3) == ["1", "2", "3"]
        assert await texts(memory, upto=5) == ["1-2", "3", "4"]
        assert await texts(memory, upto=6) == ["1-2", "3", "4", "6"]
        assert await texts(memory) == ["1-4", "6"]
        every = [one.entry.text for one in await memory.entries(SCOPE, LIST, 10)]
        assert every == ["1", "2", "3", "4", "1-2", "6", "1-4"]

    async def test_what_expired_is_not_read_and_a_purge_removes_it_alone(self, memory: Memory) -> None:
        await memory.append(keep_of(entry_of("short", expires_at_us=20), entry_of("long")))
        assert await texts(memory, at_us=19) == ["short", "long"]
        assert await texts(memory, at_us=20) == ["long"]
        assert [info.entries for info in await memory.lists(20)] == [1]
        assert await memory.purge(19) == 0
        assert await memory.purge(20) == 1
        assert await texts(memory, at_us=1) == ["long"]
        await memory.append(keep_of(entry_of("more")))
        assert [one.seq for one in await memory.read(SCOPE, LIST, 20)] == [2, 3]

    async def test_a_summary_expires_with_the_first_text_it_stands_for(self, memory: Memory) -> None:
        await memory.append(
            keep_of(entry_of("1", expires_at_us=50), entry_of("2", expires_at_us=30), entry_of("3"))
        )
        await memory.append(keep_of(summary_of("1-2", 2)))
        assert await texts(memory, at_us=29) == ["1-2", "3"]
        assert await texts(memory, at_us=30) == ["1", "3"]

    async def test_what_is_erased_takes_along_every_summary_of_it(self, memory: Memory) -> None:
        await memory.append(keep_of(*(entry_of(str(number)) for number in range(1, 5))))
        await memory.append(keep_of(summary_of("1-2", 2), summary_of("1-3", 3)))
        assert await memory.erase(SCOPE, LIST, [3], 9) == 2
        assert await texts(memory) == ["1-2", "4"]
        assert await memory.erase(SCOPE, LIST, [1, 99], 9) == 2
        assert await texts(memory) == ["2", "4"]
        assert await memory.erase(SCOPE, LIST, [3], 9) == 0

    async def test_who_began_before_an_erasure_keeps_nothing(self, memory: Memory) -> None:
        await memory.append(keep_of(entry_of("1"), entry_of("2")))
        await memory.erase(SCOPE, LIST, [1, 2], 100)
        with pytest.raises(RemitError, match=r"memory\.changed"):
            await memory.append(keep_of(entry_of("derived"), since_us=100))
        await memory.append(keep_of(entry_of("fresh"), since_us=101))
        assert [(one.seq, one.entry.text) for one in await memory.entries(SCOPE, LIST, 10)] == [(3, "fresh")]

    async def test_expiry_is_no_erasure(self, memory: Memory) -> None:
        await memory.append(keep_of(entry_of("short", expires_at_us=20)))
        await memory.purge(20)
        await memory.append(keep_of(entry_of("next"), since_us=1))
        assert await texts(memory) == ["next"]

    @pytest.mark.parametrize(
        ("limits", "named"),
        [((2, 999, 999), "entries"), ((9, 8, 999), "bytes"), ((9, 999, 13), "scope")],
    )
    async def test_what_is_too_much_is_refused_whole_and_named(
        self, memory: Memory, limits: tuple[int, int, int], named: str
    ) -> None:
        tight = Limits(*limits, ("entries", "bytes", "scope"))
        await memory.append(keep_of(entry_of("12345"), name="session/other"))
        await memory.append(keep_of(entry_of("abc"), limits=tight))
        with pytest.raises(RemitError, match=rf"memory\.full.*and {named} is"):
            await memory.append(keep_of(entry_of("def"), entry_of("gh\u00e4"), limits=tight))
        assert await texts(memory) == ["abc"]
        await memory.append(keep_of(entry_of("abc"), limits=tight))  # it is kept already
        await memory.append(keep_of(entry_of("defgh"), limits=tight))
        await memory.erase(SCOPE, LIST, [1], 0)
        assert await texts(memory) == ["defgh"]

    async def test_what_is_erased_or_expired_makes_room(self, memory: Memory) -> None:
        tight = Limits(2, 10, 10, ("entries", "bytes", "scope"))
        await memory.append(keep_of(entry_of("12345"), entry_of("67890", expires_at_us=20), limits=tight))
        await memory.erase(SCOPE, LIST, [1], 0)
        await memory.append(keep_of(entry_of("abcde"), limits=tight))
        await memory.purge(20)
        await memory.append(keep_of(entry_of("fghij"), limits=tight))
        assert await texts(memory) == ["abcde", "fghij"]

    async def test_all_lists_are_told_with_what_they_hold(self, memory: Memory) -> None:
        assert await memory.lists(10) == []
        await memory.append(keep_of(entry_of("one", at_us=3), entry_of("three", at_us=7, expires_at_us=40)))
        await memory.append(keep_of(entry_of("x"), scope=Scope("t", "b"), name="notes"))
        first, second = await memory.lists(10)
        assert (first.scope, first.name, first.entries, first.size) == (SCOPE, LIST, 2, 8)
        assert (first.first_at_us, first.last_at_us, first.expires_at_us) == (3, 7, FAR_US)
        assert (second.scope, second.name, second.entries) == (Scope("t", "b"), "notes", 1)

    async def test_several_at_once_are_all_kept_under_numbers_of_their_own(self, memory: Memory) -> None:
        await asyncio.gather(*(memory.append(keep_of(entry_of(f"{number}"))) for number in range(12)))
        kept = await memory.entries(SCOPE, LIST, 10)
        assert [one.seq for one in kept] == list(range(1, 13))
        assert sorted(int(one.entry.text) for one in kept) == list(range(12))

    async def test_several_at_once_never_exceed_a_limit(self, memory: Memory) -> None:
        tight = Limits(5, 999, 999, ("entries", "bytes", "scope"))
        work = [memory.append(keep_of(entry_of(f"{number}"), limits=tight)) for number in range(12)]
        ended = await asyncio.gather(*work, return_exceptions=True)
        refused = [one for one in ended if isinstance(one, RemitError)]
        assert [one.code for one in refused] == ["memory.full"] * 7
        assert len(await memory.entries(SCOPE, LIST, 10)) == 5
