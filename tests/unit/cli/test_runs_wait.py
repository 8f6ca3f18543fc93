"""`remit runs wait`: what it looks at changes while it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remit.adapters.journal.sqlite import SqliteJournal
from remit.cli.runs_wait import _goes_on
from remit.core.runs import RunEnd
from remit.ports.runs import ReadyRun, RunEnding, StartRun
from remit.testing.fakes import FakeClock
from remit.testing.faulty_journal import WrappedJournal
from remit.testing.journal_values import Z, run_of


class Quick(WrappedJournal):
    """Before it is asked which runs are ready, a worker has taken the one that was."""

    async def ready_runs(self, *given: Any, **more: Any) -> Sequence[ReadyRun]:
        assert await self.inner.begin_run("r", 1, 0)
        return await self.inner.ready_runs(*given, **more)


async def test_a_run_that_is_taken_meanwhile_goes_on(tmp_path: Path) -> None:
    clock = FakeClock()
    journal = SqliteJournal.open(tmp_path / "remit.db", clock)
    await journal.create_run(StartRun(run=run_of("r"), audit=Z))
    await journal.begin_run("r", 1, 0)
    end = RunEnd(status="suspended", code="run.interrupted")
    await journal.end_run("r", RunEnding(end=end, audit=Z), 0)
    waiting = await journal.run("r")
    assert waiting is not None
    assert waiting.status == "suspended"
    assert await _goes_on(Quick(journal), waiting, clock.now_us())
    await journal.close()
