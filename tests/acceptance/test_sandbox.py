"""The real command calls tools that try to get out: three typed refusals, recorded like any other call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "examples/sandbox/agent-config.yaml"
MAIN = "from remit.cli.main import main; main()"


def remit(home: Path, *command: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "--home", str(home), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_what_a_tool_may_not_do_is_a_typed_refusal(tmp_path: Path) -> None:
    for name, code, said in (
        ("read_passwords", "sandbox.denied", "/etc/shadow"),
        ("call_home", "sandbox.denied", "socket"),
        ("eat_memory", "sandbox.limit", "memory"),
    ):
        exit_code, out, error = remit(tmp_path, "tools", "call", str(CONFIG), name, "--json")
        told = json.loads(out)
        assert (exit_code, told["status"], told["code"]) == (1, "failed", code), error
        assert said in told["message"]
    exit_code, out, error = remit(
        tmp_path, "tools", "call", str(CONFIG), "count_words", "--args", '{"text": "two words"}'
    )
    assert (exit_code, json.loads(out)) == (0, {"words": 2, "letters": 8}), error
    exit_code, out, error = remit(tmp_path, "tools", "test", str(CONFIG))
    assert (exit_code, out.splitlines()) == (0, ["✓ count_words 1", "✓ count_words 2"]), error
    exit_code, out, error = remit(tmp_path, "trace", "--json")
    assert exit_code == 0, error
    assert any(f'"remit.isolation_level": "{level}"' in out for level in ("sandboxed", "namespaced")), out
    exit_code, out, _ = remit(tmp_path, "audit", "search", "--json")
    assert exit_code == 0
    assert out.count('"tool:read_passwords"') == 2  # its intent and its outcome


PRINTS = '''
from remit.tools import tool


@tool(examples=[{"args": {"text": "a"}}])
def count_words(text: str) -> int:
    """Count words."""
    print("counting", text, chr(27) + "[31m")
    raise ValueError("no words")
'''


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_what_a_failed_tool_printed_is_for_its_author_alone(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(PRINTS)
    config = tmp_path / "agent-config.yaml"
    config.write_text(
        "agent:\n  name: a\n  model: claude-sonnet-4-20260514\n  allowed_tools: [count_words]\n"
        "  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}\n"
        "  toolsets: {mine: {kind: python, source: tools.py}}\n"
    )
    command = ("tools", "call", str(config), "count_words", "--args", '{"text": "a-secret"}')
    exit_code, out, error = remit(tmp_path, *command)
    assert (exit_code, out) == (1, ""), error
    assert "tool.failed" in error
    assert "  it printed, at last:\n    counting a-secret �[31m\n    Traceback" in error
    assert "ValueError: no words" in error
    told = json.loads(remit(tmp_path, *command, "--json")[1])
    assert told["output"].startswith("counting a-secret �[31m\nTraceback")
    assert "a-secret" not in told["message"]
    exit_code, out, error = remit(tmp_path, "tools", "test", str(config))
    assert exit_code == 1
    assert "✗ count_words 1  tool.failed: it raised ValueError at tools.py:9\n  it printed, at last:\n" in out
    for record in (("trace", "--json"), ("audit", "search", "--json"), ("runs", "list", "--json")):
        exit_code, out, error = remit(tmp_path, *record)
        assert exit_code == 0, error
        assert "a-secret" not in out
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"a-secret" in path.read_bytes()]
    assert kept == []


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_a_new_tool_is_made_and_its_examples_are_run(tmp_path: Path) -> None:
    assert remit(tmp_path, "init", str(tmp_path / "new"))[0] == 0
    exit_code, out, error = remit(tmp_path, "init", "--tool", str(tmp_path / "new"))
    assert exit_code == 0, error
    section = "".join(f"{line}\n" for line in out.splitlines() if line.startswith(("  toolsets", "    mine")))
    config = tmp_path / "new" / "agent-config.yaml"
    text = config.read_text()
    assert "  toolsets:" not in text
    config.write_text(text.replace("allowed_tools: [", "allowed_tools: [count_words, ", 1) + section)
    exit_code, out, error = remit(tmp_path, "tools", "test", str(config))
    assert (exit_code, out) == (0, "✓ count_words 1\n"), error
    tools = tmp_path / "new" / "tools.py"
    tools.write_text(tools.read_text().replace('"words": len(text.split())', '"words": 3'))
    exit_code, out, _ = remit(tmp_path, "tools", "test", str(config))
    assert (exit_code, out) == (1, "✗ count_words 1  it returned {'words': 3}, and not {'words': 2}\n")
    exit_code, _, error = remit(tmp_path, "init", "--tool", str(tmp_path / "new"))
    assert exit_code == 2
    assert "would be overwritten" in error
