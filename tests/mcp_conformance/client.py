"""The client that the public suite tests: Remit, by a governance file that names the suite's server.

The suite gives the server's URL as the last argument, and the scenario in the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REMIT = Path(sys.executable).with_name("remit")
USED = {"tools_call": ("add_numbers", {"a": 5, "b": 3}), "sse-retry": ("test_reconnection", {})}
"""The tool that is called in a scenario. In any other there is none, and a server without the listed one is refused."""


def config(url: str, tool: str) -> dict[str, object]:
    """A governance file with one tool of the suite's server."""
    suite = {"kind": "mcp", "url": url, "inner_hosts": ["localhost"], "tools": {tool: {}}}
    return {
        "agent": {
            "name": "suite",
            "model": "claude-sonnet-4-20250514",
            "allowed_tools": [tool],
            "cost_controls": {"max_daily_spend_usd": 1, "max_cost_per_run_usd": 1},
            "toolsets": {"suite": suite},
        }
    }


def main(url: str) -> int:
    """The exit code of the last command."""
    tool, args = USED.get(os.environ.get("MCP_CONFORMANCE_SCENARIO", ""), ("nothing", {}))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "agent-config.yaml"
        file.write_text(json.dumps(config(url, tool)))
        remit = [str(REMIT), "--home", str(Path(name) / "home"), "tools"]
        accepted = subprocess.run([*remit, "accept", str(file), "suite", "--yes"], check=False).returncode
        if tool == "nothing":
            return 0 if accepted == 2 else 1
        return subprocess.run(
            [*remit, "call", str(file), tool, "--args", json.dumps(args)], check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))
