"""An agent with two of the tools of somebody else's MCP server, the real one: examples/mcp.

The server's environment is that of `requirements/mcp-servers.lock`, which `make mcp-servers` makes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.peers.environment import made_python
from tests.acceptance.acceptance_cli import ROOT, Cli

EXAMPLE = ROOT / "examples" / "mcp"
SAID = "The gate, before the house"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    python = made_python("mcp-servers")
    if python is None:
        pytest.skip("no environment of MCP servers: make mcp-servers")
    folder = tmp_path / "agent"
    shutil.copytree(EXAMPLE, folder)
    config = folder / "agent-config.yaml"
    config.write_text(config.read_text().replace("./.venv", str(python.parents[1])))
    git = ["git", "-C", str(folder / "documents"), "-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "--quiet", str(folder / "documents")], check=True)
    (folder / "documents" / "plan.md").write_text("A gate.\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", SAID], check=True)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_two_tools_of_a_real_server_are_used_and_the_others_are_not_there(folder: Path) -> None:
    cli = Cli(folder / "home")
    config = folder / "agent-config.yaml"
    # what the example says was accepted is what the pinned server says of itself
    accepted = cli.run("tools", "accept", config, "git", "--json")
    assert (accepted.exit, accepted.json["changed"]) == (0, []), accepted.stderr
    assert accepted.json["server"].startswith("mcp-git ")
    task = f"What was changed last in {folder}/documents?"
    done = cli.run("run", config, "--offline", "--task", task, "--json")
    assert done.exit == 0, done.stderr
    answer = done.json["answer"]
    assert SAID in answer
    assert "A commit of mine: tool.not_granted." in answer
    log = subprocess.run(
        ["git", "-C", str(folder / "documents"), "rev-list", "--count", "--all"],
        capture_output=True,
        check=True,
    )
    assert log.stdout.strip() == b"1"


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_the_server_reaches_no_more_than_the_folder_that_it_was_given(folder: Path) -> None:
    cli = Cli(folder / "home")
    config = folder / "agent-config.yaml"
    other = folder / "other"
    subprocess.run(["git", "clone", "--quiet", str(folder / "documents"), str(other)], check=True)
    config.write_text(config.read_text().replace('--repository "$1"', ""))  # it would take any repository
    seen = cli.run("tools", "call", config, "git_log", "--args", f'{{"repo_path": "{folder}/documents"}}')
    assert (seen.exit, SAID in seen.stdout) == (0, True), seen.stderr
    hidden = cli.run("tools", "call", config, "git_log", "--args", f'{{"repo_path": "{other}"}}')
    assert (hidden.exit, SAID in hidden.stdout) == (1, False)
