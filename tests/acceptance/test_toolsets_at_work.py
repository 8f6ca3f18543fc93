"""Toolsets of the governance file by the command line: declared, granted, called by a model and by hand."""

from __future__ import annotations

import json
import mailbox
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.acceptance_cli import Cli

CONFIG = """agent:
  name: clerk
  model: claude-sonnet-4-20250514
  allowed_tools: [search_handbook, orders_of, query_shop, receipt]
  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}
  approvals: [{tool: receipt, when: {total: {gt: 500}}}]
  toolsets:
    handbook:
      kind: knowledge
      folders: {handbook: public}
      description: Search the handbook.
    shop:
      kind: sql
      file: shop.db
      tables: {orders: {id: public, customer: pii, total: public}}
      free: true
      queries:
        orders_of:
          description: The orders of one customer.
          sql: SELECT id, total FROM orders WHERE customer = :customer
          args: {customer: {type: string}}
    letters:
      kind: mail
      maildir: outbox
      sender: shop@example.com
      recipients: ['*@example.com']
      templates:
        receipt:
          description: Sends a receipt.
          subject: Your receipt
          body: 'You have paid {{ total }}.'
          args: {total: {type: integer}}
"""
SCRIPT = """name: receipt
match: 'receipt'
turns:
  - call:
      - tool: search_handbook
        args: {query: receipts}
      - tool: orders_of
        args: {customer: Ada}
      - tool: query_shop
        args: {sql: 'SELECT customer FROM orders'}
  - call:
      - tool: receipt
        args: {to: ada@example.com, total: "{{ results[1].rows[0].total }}"}
  - say: "{{ results[3].sent }}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "receipts.md").write_text("# Receipts\nReceipts go by mail.\n")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "receipt.yaml").write_text(SCRIPT)
    (tmp_path / "clerk.yaml").write_text(CONFIG)
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        "CREATE TABLE orders (id INTEGER, customer TEXT, total INTEGER); INSERT INTO orders VALUES (1, 'Ada', 7);"
    )
    connection.close()
    return tmp_path


def test_a_model_works_with_pages_a_database_and_mail(folder: Path) -> None:
    cli = Cli(folder / "home")
    assert cli.run("check", "clerk.yaml", cwd=folder).exit == 0
    ran = cli.run("run", "clerk.yaml", "--offline", "--json", "--task", "send Ada her receipt", cwd=folder)
    assert ran.exit == 0, ran.stderr
    (letter,) = mailbox.Maildir(folder / "outbox", create=False)
    assert letter["To"] == "ada@example.com"
    assert "You have paid 7." in str(letter.get_payload())
    shown = json.loads(cli.run("trace", ran.json["run_id"], "--json", cwd=folder).stdout)
    assert "data.denied" in json.dumps(shown)  # the model asked for a column that it may not see


def call(cli: Cli, folder: Path, tool: str, args: Any) -> Any:
    return cli.run("tools", "call", "clerk.yaml", tool, "--args", json.dumps(args), "--json", cwd=folder)


def test_tools_are_called_by_hand_within_the_same_remit(folder: Path) -> None:
    cli = Cli(folder / "home")
    listed = json.loads(cli.run("tools", "list", "clerk.yaml", "--json", cwd=folder).stdout)
    assert {"search_handbook", "orders_of", "query_shop", "receipt"} <= {one["name"] for one in listed}
    done = call(cli, folder, "orders_of", {"customer": "Ada"})
    assert (done.exit, done.json["result"]["rows"]) == (0, [{"id": 1, "total": 7}])
    refused = call(cli, folder, "send_email", {})
    assert (refused.exit, refused.json["code"]) == (3, "tool.not_granted")
    invalid = call(cli, folder, "orders_of", {"id": 1})
    assert (invalid.exit, invalid.json["code"]) == (3, "args.invalid")
    waits = call(cli, folder, "receipt", {"to": "ada@example.com", "total": 1000})
    assert (waits.exit, waits.json["code"]) == (4, "approval.required")
    assert not list((folder / "outbox" / "new").iterdir())
    runs = json.loads(cli.run("runs", "list", "--json", cwd=folder).stdout)
    assert sorted(run["status"] for run in runs) == ["cancelled", "refused", "refused", "succeeded"]


def test_a_call_that_waits_goes_on_once_a_person_has_approved(folder: Path) -> None:
    cli = Cli(folder / "home")
    args = json.dumps({"to": "ada@example.com", "total": 1000})
    command = ("tools", "call", folder / "clerk.yaml", "receipt", "--args", args, "--wait", "60")
    with cli.started(*command) as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert "it waits for the approval" in said
        approval = said.split()[-1]
        assert cli.run("approvals", "approve", approval, "--as", "boss", cwd=folder).exit == 0
        assert process.wait(60) == 0
    assert len(list((folder / "outbox" / "new").iterdir())) == 1
