from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_samples import (
    DENY,
    RUN_ID,
    T0,
    FixedClock,
    a_model_call,
    a_run,
    a_tool_call,
    an_effect,
    attempt_ended,
    ended,
    model_done,
    started,
    stopped,
)

from remit.adapters.telemetry import schema
from remit.adapters.telemetry.batches import Batches, BatchOptions
from remit.adapters.telemetry.spans import NOTHING, SpanMaker, SpanRecord
from remit.adapters.telemetry.store import StoreOptions, TraceReader, TraceStore
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Failed, Refused, Suspended, Unknown

RUN = a_run()
Opened = Callable[..., TraceStore]


@pytest.fixture
def opened(tmp_path: Path, maker: SpanMaker, heard: Any) -> Iterator[Opened]:
    stores: list[TraceStore] = []

    def make(**options: Any) -> TraceStore:
        store = TraceStore(
            tmp_path / "traces.db",
            maker,
            lost=heard.count,
            notice=heard.notices.append,
            options=StoreOptions(**options),
        )
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


def a_whole_run() -> list[Any]:
    return [
        started(RUN),
        ended(RUN, a_model_call(RUN), model_done(), at=T0 + 1),
        ended(RUN, a_tool_call(RUN), at=T0 + 2),
        attempt_ended(RUN, 1, "model.unavailable", 1.5),
        ended(RUN, a_tool_call(RUN), Done(value={}, replayed=True, truncated=True), at=T0 + 3, attempt=2),
        ended(RUN, a_tool_call(RUN, 1), Refused(decision=DENY), at=T0 + 4, attempt=2),
        ended(RUN, a_tool_call(RUN, 2), Suspended(approval_id="ap", decision=DENY), at=T0 + 5, attempt=2),
        ended(RUN, a_tool_call(RUN, 3), Failed(code="tool.failed", message=""), at=T0 + 6, attempt=2),
        ended(RUN, a_tool_call(RUN, 4), Unknown(action_id="", reason=""), at=T0 + 7, attempt=2),
        attempt_ended(RUN, 2),
        stopped(RUN),
    ]


def test_spans_come_back_as_they_were_made(opened: Opened, maker: SpanMaker) -> None:
    store = opened()
    events = a_whole_run()
    made = [maker.span_of(event) for event in events]
    for event in events:
        store.emit(event)
    found = store.spans(RUN_ID)
    assert found[0] == made[-1]
    assert sorted(found[1:], key=repr) == sorted((span for span in made[1:-1] if span), key=repr)
    assert [span.started_us for span in found[1:]] == sorted(span.started_us for span in found[1:])
    assert store.spans(RUN.trace_id) == found


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
counts = st.integers(0, 2**50)


@given(
    kind=st.sampled_from(["attempt", "model", "tool", "release"]),
    words=st.lists(texts, min_size=7, max_size=7),
    numbers=st.lists(counts, min_size=9, max_size=9),
    state=st.sampled_from(["done", "refused", "suspended", "failed", "unknown"]),
    effect=st.sampled_from(["", "allow", "deny", "require_approval"]),
    digest=st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(bytes.hex), st.just("z" * 64)),
    flags=st.tuples(st.booleans(), st.booleans()),
    extra=st.dictionaries(texts, st.one_of(texts, st.booleans(), st.integers(-9, 9)), max_size=3),
)
def test_a_row_is_its_span(kind, words, numbers, state, effect, digest, flags, extra) -> None:  # type: ignore[no-untyped-def]
    resource, place, code, decision_code, rule, source, agent = words
    run = SpanRecord("run", "t", "r", "default", agent, "d", agent, "", 0, 0, 1, None, "running")
    span = SpanRecord(
        kind, "t", "r", "default", agent, "d", resource, place, numbers[0], numbers[1], numbers[2], numbers[3],
        state, code, effect, decision_code, rule, source, digest, *numbers[4:9], *flags, extra or NOTHING,
    )  # fmt: skip
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        schema.create(connection)
        connection.execute(schema.PUT_SPAN, schema.span_row(1, span))
        assert schema.span_of(run, connection.execute(schema.FIND_SPANS, (1,)).fetchone()) == span
    connection.close()


def test_a_run_is_visible_from_its_start(opened: Opened) -> None:
    store = opened()
    store.emit(started(RUN))
    (run,) = store.spans(RUN_ID)
    assert (run.state, run.duration_us, run.started_us) == ("running", None, T0)
    assert [run.run_id for run in store.runs()] == [RUN_ID]


def test_a_run_that_waited_ends_with_its_first_start(opened: Opened, clock: FixedClock) -> None:
    store = opened()
    store.emit(started(RUN))
    store.emit(stopped(RUN, "suspended"))
    assert store.runs()[0].state == "suspended"
    clock.at_us = T0 + 60_000_000
    store.emit(started(RUN))
    assert (store.runs()[0].state, store.runs()[0].duration_us) == ("running", None)
    store.emit(replace(stopped(RUN), started_us=clock.at_us))
    run = store.runs()[0]
    assert (run.state, run.cost_nano_usd) == ("succeeded", 4_113_000)
    assert (run.started_us, run.duration_us) == (T0, 66_000_000)


def test_readers_do_not_wait_for_writers(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    store.emit(an_effect(RUN))
    store.flush()
    writing = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    writing.execute("BEGIN EXCLUSIVE")  # only under WAL does this let readers through
    assert len(TraceReader(tmp_path / "traces.db").spans(RUN_ID)) == 2
    writing.execute("ROLLBACK")
    writing.close()


def test_spans_whose_start_was_lost_are_found_all_the_same(opened: Opened) -> None:
    store = opened()
    store.emit(an_effect(RUN))
    assert [span.kind for span in store.spans(RUN_ID)] == ["run", "tool"]


def test_an_unknown_run_has_no_spans(opened: Opened, tmp_path: Path) -> None:
    assert opened().spans("no-such-run") == []
    assert TraceReader(tmp_path / "none.db").spans("x") == []
    assert not (tmp_path / "none.db").exists()


def test_runs_are_listed_newest_first_and_not_by_scanning_spans(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    for number in range(5):
        store.emit(started(a_run(f"run{number}")))
    assert [run.run_id for run in store.runs(3)] == ["run4", "run3", "run2"]
    with sqlite3.connect(tmp_path / "traces.db") as connection:
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {schema.LIST_RUNS}", {"limit": 3}).fetchall())
        one = str(connection.execute(f"EXPLAIN QUERY PLAN {schema.FIND_RUN}", {"id": "x"}).fetchall())
    connection.close()
    assert "span" not in plan
    assert "SCAN" not in one


def test_the_oldest_runs_go(opened: Opened) -> None:
    store = opened(runs_max=3)
    for number in range(8):
        store.emit(an_effect(a_run(f"run{number}")))
    assert [run.run_id for run in store.runs()] == ["run7", "run6", "run5"]
    assert store.spans("run4") == []
    assert len(store.spans("run5")) == 2


def test_a_full_queue_drops_and_counts_and_does_not_wait(opened: Opened, heard: Any, tmp_path: Path) -> None:
    store = opened(batches=BatchOptions(capacity=10, interval_s=0.01))
    store.emit(started(RUN))
    store.flush()
    blocker = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # the writer thread waits for this one
    for number in range(100):
        store.emit(an_effect(RUN, step=number))
    blocker.execute("COMMIT")
    blocker.close()
    kept = len(store.spans(RUN_ID)) - 1
    assert heard.lost >= 80
    assert kept + heard.lost == 100


def test_a_failing_disk_is_told_once_and_what_comes_after_is_written(
    opened: Opened, heard: Any, tmp_path: Path
) -> None:
    store = opened()
    with sqlite3.connect(tmp_path / "traces.db") as connection:
        connection.execute("ALTER TABLE span RENAME TO gone")
    for step in range(2):
        store.emit(an_effect(RUN, step=step))
        store.flush()
    with connection:
        connection.execute("ALTER TABLE gone RENAME TO span")
    connection.close()
    assert (heard.lost, len(heard.notices)) == (2, 1)
    store.emit(an_effect(RUN, step=2))
    assert len(store.spans(RUN_ID)) == 2


@pytest.mark.parametrize("found", ["version", "damage"])
def test_a_file_of_another_version_is_set_aside(
    opened: Opened, heard: Any, tmp_path: Path, found: str
) -> None:
    path = tmp_path / "traces.db"
    if found == "version":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE precious (x)")
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(RemitError) as error:
            TraceReader(path).spans("x")
        assert error.value.code == "journal.schema"
    else:
        path.write_bytes(b"not a database at all" * 100)
    before = path.read_bytes()
    store = opened()
    store.emit(started(RUN))
    assert len(store.runs()) == 1
    assert "set aside" in heard.notices[0]
    assert [aside.read_bytes() for aside in tmp_path.glob("traces.db.set-aside-*")] == [before]


def test_a_place_that_cannot_be_written_is_told_at_once(maker: SpanMaker, heard: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RemitError) as error:
        TraceStore(
            tmp_path / "file" / "traces.db",
            maker,
            lost=heard.count,
            notice=heard.notices.append,
            options=StoreOptions(),
        )
    assert error.value.code == "journal.unavailable"


def _write_in_another_process(path: str, run_id: str, count: int) -> None:
    lost: list[int] = []
    store = TraceStore(
        Path(path), SpanMaker(FixedClock()), lost=lost.append, notice=print, options=StoreOptions()
    )
    for step in range(count):
        store.emit(an_effect(a_run(run_id), step=step))
    store.close()
    if lost:
        raise SystemExit(3)


def test_several_processes_write_while_another_reads(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_in_another_process, args=(str(path), f"run{n}", 300)) for n in range(2)
    ]
    for writer in writers:
        writer.start()
    reader = TraceReader(path)
    while any(writer.is_alive() for writer in writers):
        reader.runs()
        writers[0].join(0.01)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [len(reader.spans(f"run{n}")) for n in range(2)] == [301, 301]


def test_a_usual_span_takes_less_than_550_bytes(opened: Opened, tmp_path: Path) -> None:
    store = opened()
    for step in range(1000):
        store.emit(an_effect(RUN, step=step, started_us=T0 + step * 517))
        store.emit(ended(RUN, a_model_call(RUN, step), model_done(), at=T0 + step * 517 + 9))
    store.close()
    assert (tmp_path / "traces.db").stat().st_size / 2000 < 300


def test_close_writes_what_waits_and_may_be_called_twice(opened: Opened, heard: Any, tmp_path: Path) -> None:
    store = opened(batches=BatchOptions(interval_s=60))
    store.emit(an_effect(RUN))
    store.flush()  # from here on the writer rests
    for step in range(1, 10):
        store.emit(an_effect(RUN, step=step))
    store.close()
    store.close()
    assert len(TraceReader(tmp_path / "traces.db").spans(RUN_ID)) == 11
    store.emit(an_effect(RUN))
    assert heard.lost == 1


def test_batches_lose_nothing_over_many_threads(heard: Any) -> None:
    written: list[int] = []
    batches: Batches[int] = Batches(
        "test",
        written.extend,
        lost=heard.count,
        notice=heard.notices.append,
        options=BatchOptions(interval_s=0.0, capacity=10**6),
    )
    threads = [
        threading.Thread(target=lambda n=n: [batches.put(n * 1000 + i) for i in range(1000)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert batches.flush()
    assert sorted(written) == list(range(4000))
    batches.close()
    assert heard.lost == 0


def test_an_idle_queue_wakes_up_every_time(heard: Any) -> None:
    written: list[int] = []
    done = threading.Event()

    def write(items: list[int]) -> None:
        written.extend(items)
        done.set()

    batches: Batches[int] = Batches(
        "test", write, lost=heard.count, notice=heard.notices.append, options=BatchOptions(interval_s=0.0)
    )
    for number in range(200):
        done.clear()
        batches.put(number)
        assert done.wait(5)
    batches.close()
    assert written == list(range(200))


def test_close_does_not_wait_for_the_rest_between_two_writes(heard: Any) -> None:
    written: list[int] = []
    first = threading.Event()

    def write(items: list[int]) -> None:
        written.extend(items)
        first.set()

    batches: Batches[int] = Batches(
        "test",
        write,
        lost=heard.count,
        notice=heard.notices.append,
        options=BatchOptions(interval_s=60, close_timeout_s=1.0),
    )
    batches.put(0)
    assert first.wait(5)
    batches.put(1)
    batches.close()
    assert (written, heard.lost) == ([0, 1], 0)
