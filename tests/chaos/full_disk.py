"""A worker on SQLite whose disk is full for a while. Run it in a mount namespace of its own, with the folder of its files:

`unshare --map-root-user --mount python -m tests.chaos.full_disk FOLDER`. Prints JSON: what became of the runs.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.chaos.drill import WHO
from tests.chaos.world import REMIT, mails, make_agent, process

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.errors import RemitError
from remit.core.runs import FINAL, RunRecord
from remit.runtime import intake
from remit.runtime.clock import SystemClock
from remit.wiring.remits import load_remit

RUNS = 12
DISK = "12m"
FULL_S = 3.0
PATIENCE_S = 60.0


async def main(folder: Path) -> dict[str, Any]:
    """Runs on a small disk, which is full while they are under way."""
    home, witnessed = folder / "home", folder / "witnessed.jsonl"
    home.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(home)], check=True)
    config = make_agent(folder / "agent", slots=4, cap_usd="100.00", pause_s=0.2)
    remit, clock = load_remit(config), SystemClock()
    with ExitStack() as stack:
        witness = stack.enter_context(
            process(sys.executable, "-m", "tests.chaos.witness", witnessed, log=folder / "witness.log")
        )
        assert witness.stdout is not None
        mail = f"smtp://127.0.0.1:{int(witness.stdout.readline())}?starttls=no"
        journal = SqliteJournal.open(home / "remit.db", clock)
        ids = []
        for number in range(RUNS):
            run = intake.new_run(remit, f"drill {number}", WHO, clock)
            await intake.enqueue(journal, remit, run)
            ids.append(run.id)
        command = (REMIT, "--home", home, "worker", config, "--offline")
        worker = stack.enter_context(
            process(*command, log=folder / "worker.log", REMIT_SMTP_URL=mail, REMIT_LOG="off")
        )
        await _until(lambda: sum(mails(witnessed).values()) >= RUNS // 4)
        filled = _fill(home / "filler")
        await asyncio.sleep(FULL_S)
        while_full = sum(mails(witnessed).values())
        (home / "filler").unlink()
        records = await _settled(journal, ids)
        alive = worker.poll() is None
        await journal.close()
    return {
        "filled_bytes": filled,
        "worker_is_alive": alive,
        "mails_while_full": while_full,
        "statuses": Counter(
            f"{record.status} {record.end.code if record.end else ''}".strip() for record in records
        ),
        "mails": {record.run.task.text: mails(witnessed)[record.run.task.text] for record in records},
        "sent": [record.run.task.text for record in records if record.status == "succeeded"],
    }


def _fill(path: Path) -> int:
    """Take all the room that there is; how much that was."""
    size = 0
    with path.open("wb", buffering=0) as file:
        for block in (65_536, 4_096, 512):
            try:
                while True:
                    size += file.write(b"x" * block)
            except OSError:
                continue
    return size


async def _settled(journal: SqliteJournal, ids: list[str]) -> list[RunRecord]:
    """The runs, once each has ended or waits for a person."""
    records: list[RunRecord] = []

    async def settled() -> bool:
        nonlocal records
        try:
            found = [await journal.run(run_id) for run_id in ids]
        except RemitError:
            return False
        records = [record for record in found if record is not None]
        return all(
            record.status in FINAL or (record.end is not None and record.end.code == "effect.unknown")
            for record in records
        )

    await _until(settled)
    return records


async def _until(holds: Any) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while loop.time() < deadline:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
