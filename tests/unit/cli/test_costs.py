"""`remit costs`: groups, totals, and output that programs and spreadsheets can trust."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.messages import Usage
from remit.ports.runs import StartRun
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import (
    Z,
    admission_of,
    completion_of,
    digest_of,
    ending_of,
    hold_of,
    run_of,
)

EVIL = "=HYPERLINK(1)"


async def spend(home: Path) -> None:
    """Two runs of 2027-01-15, late in the evening of Berlin."""
    clock = FakeClock(1_800_000_000_000_000 + 14 * 3600 * 10**6)
    journal = SqliteJournal.open(home / "remit.db", clock)
    for run_id, agent in (("r", "desk"), ("s", EVIL)):
        await journal.create_run(StartRun(run=run_of(run_id, agent=agent), audit=Z))
        await journal.begin_run(run_id, 1000, clock.now_us())
    usage = Usage(input_tokens=100, output_tokens=10, cache_read_tokens=300)
    calls: list[tuple[str, str, str, dict[str, Any]]] = [
        ("r.1.m1", "model", "m-1", {"cost_nano_usd": 1_000_000, "usage": usage, "saved_nano_usd": -4000}),
        ("r.2.m1", "model", "m-1", {"cost_nano_usd": 500_000, "usage": usage, "assumed": True}),
        ("r.2.t1", "tool", "geocode", {"cost_nano_usd": 20_000_000, "usage": Usage()}),
        ("s.1.m1", "model", "m-1", {"cost_nano_usd": 7, "usage": usage, "state": "failed"}),
    ]
    for action_id, kind, resource, done in calls:
        amount = done["cost_nano_usd"]
        await journal.admit(
            admission_of(
                action_id,
                clock,
                kind=kind,
                resource=resource,
                content=digest_of("same"),
                holds=(hold_of(10**12),),
                amount_nano_usd=amount,
            )
        )
        await journal.complete(completion_of(action_id, clock, **done))
        await clock.sleep(3600)
    await journal.end_run("s", ending_of("failed"), clock.now_us())
    await journal.close()


@pytest.fixture
def spent(remit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("REMIT_TIMEZONE", raising=False)
    asyncio.run(spend(tmp_path / "home"))
    return remit


def test_the_table_has_every_column_and_a_total(spent: Any) -> None:
    lines = spent("costs").stdout.splitlines()
    header = "day (UTC)  agent  model  calls  tokens in  cached  out  cost  saved  wasted  repeats"
    assert lines[0].split() == header.split()
    total = "total  4  1200  75 %  30  $0.021501  -$0.000004  $0.000001  1 ($0.000500)"
    assert lines[-2].split() == total.split()
    assert "1 calls are priced at the dearest known rate" in lines[-1]
    assert any("geocode" in line for line in spent("costs", "--by", "tool").stdout.splitlines())


def test_json_is_exact_and_groups_by_what_is_asked(spent: Any) -> None:
    rows = json.loads(spent("costs", "--by", "agent,model,tool", "--json").stdout)
    assert [(row["agent"], row["model"], row["tool"]) for row in rows] == [
        (EVIL, "m-1", None),
        ("desk", None, "geocode"),
        ("desk", "m-1", None),
    ]
    desk = rows[2]
    assert desk == {
        "agent": "desk",
        "model": "m-1",
        "tool": None,
        "calls": 2,
        "input_tokens": 800,
        "cache_read_tokens": 600,
        "cache_write_tokens": 0,
        "output_tokens": 20,
        "cost_usd": "0.0015",
        "cost_nano_usd": 1_500_000,
        "saved_usd": "-0.000004",
        "saved_nano_usd": -4000,
        "wasted_usd": "0",
        "wasted_nano_usd": 0,
        "repeated_usd": "0.0005",
        "repeated_nano_usd": 500_000,
        "presumed_usd": "0",
        "presumed_nano_usd": 0,
        "held_usd": "0",
        "held_nano_usd": 0,
        "repeats": 1,
        "assumed_calls": 1,
    }
    assert rows[0]["wasted_nano_usd"] == 7


def test_csv_is_what_json_is_and_no_formula(spent: Any) -> None:
    printed = spent("costs", "--by", "agent", "--csv").stdout
    assert printed.count("\r\n") == 3
    rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    as_json = json.loads(spent("costs", "--by", "agent", "--json").stdout)
    assert [list(row) for row in rows] == [list(row) for row in as_json]
    assert [row["agent"] for row in rows] == [f"'{EVIL}", "desk"]
    for row, same in zip(rows, as_json, strict=True):
        assert {name: value for name, value in row.items() if name != "agent"} == {
            name: str(value) for name, value in same.items() if name != "agent"
        }


def test_days_are_of_the_zone_that_is_asked_for(spent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def days(*options: str) -> list[str]:
        return [row["day"] for row in json.loads(spent("costs", "--by", "day", *options, "--json").stdout)]

    assert days() == ["2027-01-15", "2027-01-16"]
    assert days("--timezone", "Pacific/Kiritimati") == ["2027-01-16"]
    monkeypatch.setenv("REMIT_TIMEZONE", "Pacific/Kiritimati")
    assert days() == ["2027-01-16"]
    assert days("--since", "2027-01-17") == []
    assert days("--until", "2027-01-16") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "colour"], "colour"),
        (["--by", "day,day"], "day,day"),
        (["--by", ""], "group"),
        (["--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["--timezone", "../../etc/passwd"], "zone"),
        (["--json", "--csv"], "exclude"),
        (["--until", "soon"], "soon"),
    ],
)
def test_wrong_options_are_refused_with_a_remedy(remit: Any, options: list[str], said: str) -> None:
    done = remit("costs", *options)
    assert done.exit == 2
    assert "usage.invalid" in done.stderr
    assert said in done.stderr
    assert "remedy" in done.stderr
