"""The CRM example: a service in a process of its own, its document imported in one command, an agent that uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.acceptance.acceptance_cli import ROOT, Cli

EXAMPLE = ROOT / "examples" / "crm"
KEY = "canary-key-93"


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    command = [sys.executable, str(EXAMPLE / "service.py"), "--port", "0", "--key", KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def test_the_example_runs_as_its_file_says(service: str, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home", CRM_URL=service, CRM_KEY=KEY)
    task = "Customer C-1004 cannot log in: open a ticket"
    done = cli.run("run", EXAMPLE / "agent-config.yaml", "--offline", "--json", "--task", task)
    assert done.exit == 0, done.stderr
    assert done.json["answer"].endswith("for Customer 4.")
    with urllib.request.urlopen(f"{service}/health") as answer:
        assert json.load(answer)["tickets"] == 1
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert KEY not in done.stdout + done.stderr


def test_a_document_is_imported_in_one_command_and_used(service: str, tmp_path: Path) -> None:
    config = tmp_path / "clerk.yaml"
    config.write_text(
        "agent:\n  name: clerk\n  model: claude-sonnet-4-20250514\n  allowed_tools: [health]\n"
        "  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}\n"
    )
    cli = Cli(tmp_path / "home", CRM_KEY=KEY)
    # what is granted is not there yet, so nothing is written
    before = config.read_text().replace("[health]", "[helth]")
    config.write_text(before)
    imported = ("tools", "import", "openapi", f"{service}/openapi.json", "--name", "crm", "--config", config)
    refused = cli.run(*imported, "--url", service)
    assert refused.exit == 2
    assert config.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["clerk.yaml"]
    assert "helth" in refused.stderr
    assert f"{config} (as it would be):" in refused.stderr
    config.write_text(before.replace("[helth]", "[health]"))
    done = cli.run(*imported, "--url", service)
    assert done.exit == 0, done.stderr
    assert "open_ticket" in done.stdout
    section = yaml.safe_load(config.read_text())["agent"]["toolsets"]["crm"]
    assert section["openapi"] == "crm.openapi.json"
    assert section["auth"] == {"header": "X-Api-Key", "header_env": "CRM_KEY"}
    assert section["operations"]["open_ticket"] == {"idempotency_header": "Idempotency-Key"}
    assert "set CRM_KEY in the environment" in done.stdout
    called = cli.run("tools", "call", config, "health", "--json")
    assert (called.exit, called.json["result"]["body"]["status"]) == (0, "ok")
    named = cli.run(*imported[:-4], "--name", "../crm")
    assert (named.exit, "a toolset's name" in named.stderr) == (2, True)
    # the document is part of the remit: another one is another remit
    first = cli.ask("check", config)["digest"]
    document = tmp_path / "crm.openapi.json"
    document.write_text(document.read_text().replace("well", "fine"))
    assert cli.ask("check", config)["digest"] != first


def test_import_prints_the_section_where_there_is_no_file(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "openapi.json", tmp_path / "api.json")
    cli = Cli(tmp_path / "home")
    done = cli.run(
        "tools", "import", "openapi", "api.json", "--name", "crm", "--only", "health", cwd=tmp_path
    )
    assert done.exit == 0
    printed = yaml.safe_load(done.stdout.partition("\ntoolsets:\n")[2])
    assert printed["crm"]["operations"] == {"health": {}}
    assert printed["crm"]["inner_hosts"] == ["127.0.0.1"]
