"""A run and the runs that its calls have started: which these are, and what all of them cost."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core.money import format_usd
from remit.core.runs import RunRecord
from remit.ports.journal import JournalReads


async def runs_below(journal: JournalReads, record: RunRecord) -> list[RunRecord]:
    """All runs below a run, each before those below it."""
    found = []
    for child in await journal.children(record.run.id):
        found += [child, *await runs_below(journal, child)]
    return found


async def first_of(journal: JournalReads, run_id: str) -> str:
    """The run that stands above all others of a run's family: the one that somebody asked for."""
    record = await journal.run(run_id)
    while record is not None and record.run.caller_id is not None:
        record = await journal.run(record.run.caller_id)
    return run_id if record is None else record.run.id


def cost_of(records: Sequence[RunRecord]) -> int:
    """What runs cost together, in nano-USD."""
    return sum(record.cost_nano_usd for record in records)


def cost_text(record: RunRecord, below: Sequence[RunRecord]) -> str:
    """What a run cost, and what it cost with the runs below it, where there are any."""
    own = format_usd(record.cost_nano_usd)
    return f"{own}, {format_usd(cost_of([record, *below]))} with the runs below" if below else own
