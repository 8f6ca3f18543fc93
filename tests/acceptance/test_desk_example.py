"""The support desk on real parts: CRM over HTTP, knowledge base, PostgreSQL under a reading role, SMTP, a Python tool."""

from __future__ import annotations

import json
import mailbox
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.acceptance_cli import ROOT, Cli

EXAMPLE = ROOT / "examples" / "desk"
CONFIG = EXAMPLE / "agent-config.yaml"
TASK = "Customer C-1004 was charged twice. Please sort it out."


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mail") / "letters"


@pytest.fixture(scope="module")
def parts(letters: Path) -> Iterator[dict[str, str]]:
    command = [sys.executable, str(EXAMPLE / "parts.py"), "--mail", str(letters)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield {name: value for name, value in told.items() if name != "DESK_PARTS_PID"}
        finally:
            process.terminate()


def called(cli: Cli, tool: str, args: Any, *more: str) -> Any:
    return cli.run("tools", "call", CONFIG, tool, "--args", json.dumps(args), "--json", *more)


def test_the_desk_sorts_it_out_on_real_parts(parts: dict[str, str], letters: Path, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home", **parts)
    done = cli.run("run", CONFIG, "--offline", "--json", "--task", TASK)
    assert done.exit == 0, done.stderr
    assert done.json["answer"] == "Customer 4 was told of the 9 EUR; the ticket is T-1."
    (letter,) = mailbox.Maildir(letters, create=False)
    assert (letter["To"], "9 EUR" in str(letter.get_payload())) == ("customer4@example.com", True)
    with urllib.request.urlopen(f"{parts['CRM_URL']}/health") as answer:
        assert json.load(answer)["tickets"] == 1
    # what the Python tool called stands below its own call, and the column of a denied class was refused
    trace = cli.run("trace", done.json["run_id"], "--json").json["tree"]
    (found,) = [one for one in nodes(trace) if one["name"] == "double_charges"]
    assert [one["name"] for one in found["children"]] == ["get_customer_record", "charges_of"]
    assert [one["code"] for one in nodes(trace) if one["name"] == "query_billing"] == ["data.denied"]
    said = cli.run("audit", "search", "--json").stdout
    assert said.count("toolsets.checks.uses") == 2
    for name in ("CRM_KEY", "DESK_DATABASE_URL"):
        assert parts[name] not in said + done.stdout + done.stderr


def nodes(root: Any) -> Iterator[Any]:
    yield root
    for child in root.get("children", []):
        yield from nodes(child)


def test_a_tool_that_works_with_others_is_called_by_hand(parts: dict[str, str], tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home", **parts)
    done = called(cli, "double_charges", {"customer": "C-1010"})
    assert (done.exit, done.json["result"]["email"]) == (0, "customer10@example.com"), done.stderr
    assert "double_charges: looking through the charges of C-1010" in done.stderr
    nothing = called(cli, "double_charges", {"customer": "C-1001"})
    assert (nothing.exit, "charged nothing twice" in nothing.json["message"]) == (1, True)
    # what it calls is held to what is declared, and is not granted beside
    wrong = called(cli, "double_charges", {"customer": "x' OR 1=1"})
    assert (wrong.exit, "get_customer_record: id: the value does not match" in wrong.json["message"]) == (
        1,
        True,
    )
    beside = called(cli, "charges_of", {"customer": "C-1004"})
    assert (beside.exit, beside.json["code"]) == (3, "tool.not_granted")


def test_a_large_refund_waits_for_a_person(parts: dict[str, str], letters: Path, tmp_path: Path) -> None:
    before = len(mailbox.Maildir(letters)) if letters.exists() else 0
    cli = Cli(tmp_path / "home", **parts)
    args = {"to": "customer4@example.com", "name": "Customer 4", "eur": 250, "ticket": "T-1"}
    waits = called(cli, "refund_letter", args)
    assert (waits.exit, waits.json["code"]) == (4, "approval.required")
    assert (len(mailbox.Maildir(letters)) if letters.exists() else 0) == before


def test_the_role_that_may_write_is_not_taken(parts: dict[str, str], tmp_path: Path) -> None:
    owner = parts["DESK_DATABASE_URL"].replace("desk_reader@", "postgres@")
    cli = Cli(tmp_path / "home", **{**parts, "DESK_DATABASE_URL": owner})
    refused = called(cli, "search_handbook", {"query": "refund"})
    assert (refused.exit != 0, "superuser" in refused.stderr) == (True, True), refused.stderr
