"""A process that is killed within a tool that makes calls: what was done is found, and nothing is done twice."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.acceptance_cli import Cli
from tests.acceptance.silent_server import SilentServer

CONFIG = """agent:
  name: clerk
  model: claude-sonnet-4-20250514
  allowed_tools: [remind]
  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}
  toolsets:
    kept:
      kind: mail
      maildir: outbox
      sender: shop@example.com
      recipients: ['*@example.com']
      templates:
        note: {description: Notes it., subject: Note, body: Noted.}
        close: {description: Closes it., subject: Closed, body: Closed.}
    sent:
      kind: mail
      url_env: SMTP_URL
      sender: shop@example.com
      recipients: ['*@example.com']
      templates:
        reminder: {description: Sends it., subject: Reminder, body: Remember.}
    mine: {kind: python, source: tools.py, uses: [note, reminder, close]}
"""
TOOLS = '''
from remit.tools import Context, ToolFailure, tool

@tool(timeout_s=60)
def remind(to: str, ctx: Context) -> list[str]:
    """Remind a customer, and keep a note before and after."""
    said = []
    for step in ("note", "reminder", "close"):
        try:
            ctx.call(step, to=to)
            said.append(step)
        except ToolFailure as error:
            said.append(f"{step}: {error}")
    return said
'''
SCRIPT = """name: remind
default: true
turns:
  - call: [{tool: remind, args: {to: ada@example.com}}]
  - say: "{{ results[0] }}"
"""


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


def test_nothing_that_a_killed_tool_did_is_done_twice(tmp_path: Path, silent: SilentServer) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "remind.yaml").write_text(SCRIPT)
    (tmp_path / "tools.py").write_text(TOOLS)
    config = tmp_path / "clerk.yaml"
    config.write_text(CONFIG)
    cli = Cli(tmp_path / "home", SMTP_URL=silent.url)
    with cli.started("run", config, "--offline", "--json", "--task", "remind Ada") as process:
        cli.begun("1.t0-2@remind", process)
        process.kill()

    def subjects() -> list[str]:
        return sorted(str(one["Subject"]) for one in mailbox.Maildir(tmp_path / "outbox", create=False))

    assert subjects() == ["Note"]
    (run,) = cli.ask("runs", "list")
    # it goes on: what the tool did is found, and of the letter that was under way nobody knows
    waits = cli.run("runs", "resume", run["run_id"], "--config", config, "--offline", "--json")
    assert (waits.exit, waits.json[0]["error"]["code"]) == (4, "effect.unknown"), waits.stderr
    (unknown,) = cli.ask("effects", "list")
    assert (unknown["call_id"], unknown["tool"]) == (f"{run['run_id']}.1.t0-2@remind", "reminder")
    said = ("--did-not-happen", "--reason", "the server never saw it")
    assert cli.run("effects", "resolve", unknown["call_id"], *said).exit == 0
    done = cli.run("runs", "resume", run["run_id"], "--config", config, "--offline", "--json")
    assert done.exit == 0, done.stderr
    assert "a person has found that the call did not take effect" in done.json[0]["answer"]
    assert subjects() == ["Closed", "Note"]
    trace = cli.run("trace", run["run_id"])
    assert "reminder" in trace.stdout
