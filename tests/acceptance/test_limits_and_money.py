"""Rates and money: what is over a limit is refused, over restarts too; an alert comes once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acceptance_cli import Cli, agent_folder, changed

FLOOD = "Please open six tickets for C-1042 and then one for C-1043."
ONE_MORE = {
    "one-more": "name: one-more\ndefault: true\nturns:\n"
    "  - call:\n"
    "      - {tool: create_ticket, args: {customer_id: C-1042, issue: one more, priority: low}}\n"
    "      - {tool: create_ticket, args: {customer_id: C-1043, issue: another's, priority: low}}\n"
    "  - say: |-\n"
    "      C-1042: {{ results[0].ticket_id or results[0].error.code }}\n"
    "      C-1043: {{ results[1].ticket_id or results[1].error.code }}\n"
}
TALK = {"talk": "name: talk\ndefault: true\nturns:\n  - say: " + "well " * 200 + "\n"}
NO_TOOLS = changed(
    (
        "  allowed_tools:\n    - search_kb\n    - get_customer\n    - create_ticket\n    - send_email\n    - run_sql_query\n",
        "  allowed_tools: []\n  max_output_tokens: 300\n",
    ),
    ("max_tickets_per_hour: 5   # for each customer", "max_tickets_per_hour: 5"),
)


def test_the_sixth_ticket_of_a_customer_is_refused_also_after_a_restart(cli: Cli, tmp_path: Path) -> None:
    flood = cli.task(FLOOD)
    assert flood.exit == 0
    lines = dict(line.split(": ", 1) for line in flood.json["answer"].splitlines()[1:])
    # the six calls of one turn run side by side, so which of them comes last is not fixed
    opened = [number for number in "123456" if lines[number].startswith("T-")]
    assert len(opened) == 5
    (refused,) = set("123456") - set(opened)
    assert "rate_limits.max_tickets_per_hour, agent-config.yaml:20" in lines[refused]
    assert lines["For C-1043"].startswith("T-")

    # another process, the same home: the window is in the journal and nowhere else
    later = cli.task("go on", config=agent_folder(tmp_path / "agent", scripts=ONE_MORE))
    assert later.exit == 0
    first, second = later.json["answer"].splitlines()
    assert first == "C-1042: rate.limited"
    assert second.startswith("C-1043: T-")
    refusals = cli.ask("audit", "search", "--kind", "refusal")
    assert [refusal["code"] for refusal in refusals] == ["rate.limited"] * 2
    assert {refusal["rule"] for refusal in refusals} == {"rate_limits.max_tickets_per_hour"}
    # what is keyed by a customer does not show which customer
    assert "C-1042" not in cli.run("audit", "tail", "-n", "1000", "--json").stdout


def test_a_run_whose_cap_has_no_room_for_a_call_asks_no_model(cli: Cli, tmp_path: Path) -> None:
    config = changed(("max_cost_per_run_usd: 2.00", "max_cost_per_run_usd: 0.001"))
    done = cli.task("hello", config=agent_folder(tmp_path / "agent", config=config))
    assert done.exit == 3
    result = done.json
    assert (result["status"], result["error"]["code"]) == ("refused", "budget.exhausted")
    assert result["cost_nano_usd"] == 0
    assert result["usage"]["input_tokens"] == 0
    (refusal,) = cli.ask("audit", "search", "--kind", "refusal")
    assert refusal["rule"] == "cost_controls.max_cost_per_run_usd"
    assert cli.ask("audit", "search", "--kind", "intent") == []
    assert cli.ask("costs") == []


def test_a_model_without_a_price_is_refused(cli: Cli) -> None:
    done = cli.task("hello", "--model", "claude-of-no-known-price")
    assert done.exit == 3
    assert done.json["error"]["code"] == "price.unknown"
    assert "price" in done.json["error"]["remedy"]
    assert cli.ask("audit", "search", "--kind", "intent") == []


def test_the_day_s_cap_holds_over_processes_and_its_alert_comes_once(cli: Cli, tmp_path: Path) -> None:
    cap_nano_usd = 22_000_000
    config = NO_TOOLS.replace("max_daily_spend_usd: 50.00", "max_daily_spend_usd: 0.022").replace(
        "alert_on_threshold: 0.8", "alert_on_threshold: 0.3"
    )
    agent = agent_folder(tmp_path / "agent", config=config, scripts=TALK)
    results: list[Any] = []
    while not results or results[-1].exit == 0:
        assert len(results) < 12, "the cap never held"
        results.append(cli.task("talk", config=agent))
    assert len(results) > 3, "it takes some runs to use the cap up: the alert's, one before, one after"
    last = results[-1].json
    assert results[-1].exit == 3
    assert (last["error"]["code"], last["cost_nano_usd"]) == ("budget.exhausted", 0)
    assert "max_daily_spend_usd" in last["error"]["message"]
    spent = sum(done.json["cost_nano_usd"] for done in results)
    assert cap_nano_usd * 0.3 < spent <= cap_nano_usd
    (alert,) = cli.ask("audit", "search", "--kind", "alert")
    assert alert["threshold_percent"] == 30
    assert cap_nano_usd * 0.3 <= alert["spent_nano_usd"] <= spent
    assert [line["event"] for line in cli.log()].count("ALERT") == 1
