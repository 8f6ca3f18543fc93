"""`remit check`: everything that is wrong with a file, one line each, with its place and a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import CODES

EXAMPLE = Path(__file__).parents[3] / "examples" / "support" / "agent-config.yaml"
GOOD = """agent:
  name: a
  model: claude-sonnet-4-20260514
  allowed_tools: [search_kb, create_ticket, send_email]
  cost_controls: {max_daily_spend_usd: 50.00, max_cost_per_run_usd: 2.00}
"""
LINE = re.compile(
    r"^(?P<file>\S.*?):(?P<line>\d+):(?P<column>\d+)  (?P<code>[a-z_.]+)  (?P<message>.+)  (?P<remedy>.+)$"
)
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


def with_line(text: str) -> str:
    return GOOD + "  " + text + "\n"


# name: (the file, the place of the error, its code, words that the line must hold)
BAD: dict[str, tuple[str, str, str, str]] = {
    "empty": ("", "1:1", "config.empty", "remit init"),
    "comments only": ("# nothing\n", "1:1", "config.empty", "remit init"),
    "null": ("null\n", "1:1", "config.wrong_type", "the file"),
    "a list": ("- agent\n", "1:1", "config.wrong_type", "the file"),
    "a text": ("hello\n", "1:1", "config.wrong_type", "the file"),
    "not yaml": ("agent: [\n", "2:1", "config.syntax", "not YAML"),
    "a tab": ("agent:\n\tname: a\n", "2:1", "config.syntax", "not YAML"),
    "two documents": (GOOD + "---\n" + GOOD, "6:1", "config.syntax", "not YAML"),
    "a control character": ("agent: {name: \x07}\n", "1:15", "config.syntax", "not YAML"),
    "a bomb": (BOMB, "1:1", "config.too_large", "aliases"),
    "too deep": ("agent: " + "[" * 40 + "]" * 40 + "\n", "1:1", "config.too_large", "levels"),
    "very deep": ("[" * 100_000, "1:1", "config.too_large", "deep"),
    "too long": ("#" + "x" * 300_000, "1:1", "config.too_large", "262144"),
    "a foreign tag": (with_line("owner: !!python/name:os.system x"), "6:10", "config.wrong_type", "tag"),
    "a key of two": (GOOD.replace("agent:", "? [a, b]\n: c\nagent:"), "1:3", "config.wrong_type", "key"),
    "a key twice": (with_line("name: b"), "6:3", "config.duplicate_key", "line 2"),
    "an unknown key": (with_line("max_retrys: 2"), "6:3", "config.unknown_key", "did you mean 'max_retries'?"),
    "an unknown section": (GOOD + "agents: {}\n", "6:1", "config.unknown_key", "did you mean 'agent'?"),
    "a key missing": (GOOD.replace("  name: a\n", ""), "1:1", "config.missing_key", "agent.name"),
    "no caps": (GOOD.replace("{max_daily_spend_usd: 50.00, max_cost_per_run_usd: 2.00}", "{}"), "5:3", "config.missing_key", "max_daily_spend_usd"),
    "a negative number": (with_line("max_retries: -1"), "6:3", "config.out_of_range", "-1"),
    "a number too large": (with_line("max_steps: 99999"), "6:3", "config.out_of_range", "10000"),
    "a text for a number": (with_line("max_retries: three"), "6:3", "config.wrong_type", "'three'"),
    "a quoted number": (with_line('max_retries: "3"'), "6:3", "config.wrong_type", "'3'"),
    "yes for true": (with_line("data_access: {allow_pii: yes}"), "6:17", "config.wrong_type", "allow_pii"),
    "an octal number": (with_line("max_retries: 0o7"), "6:3", "config.wrong_type", "'0o7'"),
    "a number with underscores": (with_line("max_steps: 1_0"), "6:14", "config.wrong_type", "'1_0'"),
    "infinite money": (GOOD.replace("50.00", ".inf"), "5:40", "config.wrong_type", "'.inf'"),
    "negative money": (GOOD.replace("50.00", "-0.01"), "5:19", "config.out_of_range", "-0.01"),
    "an empty value": (GOOD.replace("name: a", "name:"), "2:3", "config.wrong_type", "empty"),
    "a name of newlines": (GOOD.replace("name: a", 'name: "a\\nb"'), "2:3", "config.out_of_range", "pattern"),
    "an unknown tool": (GOOD.replace("send_email", "send_mail"), "4:45", "config.unknown_tool", "did you mean 'send_email'?"),
    "a tool twice": (GOOD.replace("send_email", "search_kb"), "4:45", "config.duplicate_key", "search_kb"),
    "an unknown rate group": (with_line("rate_limits: {max_tickts_per_hour: 5}"), "6:17", "config.unknown_rate_group", "emails, notes, recalls, searches, tickets"),
    "a rate in weeks": (with_line("rate_limits: {max_tickets_per_week: 5}"), "6:17", "config.unknown_key", "second|minute|hour|day"),
    "an approval of a tool not granted": (with_line("approvals: [{tool: run_sql_query}]"), "6:16", "config.rule_never_fires", "allowed_tools"),
    "a condition on no argument": (with_line("approvals: [{tool: send_email, when: {too: {eq: a}}}]"), "6:41", "config.rule_never_fires", "did you mean 'to'?"),
    "a condition that no value meets": (with_line("approvals: [{tool: create_ticket, when: {priority: {eq: huge}}}]"), "6:44", "config.rule_never_fires", "priority"),
}  # fmt: skip


def errors_of(stderr: str) -> list[re.Match[str]]:
    """The lines of standard error, each of which must be an error of the documented form."""
    found = []
    for line in stderr.splitlines():
        match = LINE.match(line)
        assert match is not None, f"not an error line: {line!r}"
        found.append(match)
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_gives_a_line_with_place_code_and_remedy(name: str, remit: Any, tmp_path: Path) -> None:
    text, place, code, words = BAD[name]
    path = tmp_path / "agent.yaml"
    path.write_bytes(text.encode())
    done = remit("check", path)
    assert done.exit == 2
    assert done.stdout == ""
    first = errors_of(done.stderr)[0]
    assert (f"{first['line']}:{first['column']}", first["code"]) == (place, code), done.stderr
    assert first["file"] == str(path)
    assert words in first[0]
    assert first["code"] in CODES
    assert first["remedy"].strip()


def test_all_errors_of_a_file_come_at_once_in_the_order_of_lines(remit: Any, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "agent:\n  name: 1\n  model: m\n  max_retrys: 2\n  allowed_tools: [search_kb]\n"
        "  data_access: {allow_pii: maybe}\n  max_steps: 0\n  cost_controls: {max_daily_spend_usd: -1}\n"
    )
    found = errors_of(remit("check", path).stderr)
    assert [(match["line"], match["code"]) for match in found] == [
        ("2", "config.wrong_type"),
        ("4", "config.unknown_key"),
        ("6", "config.wrong_type"),
        ("7", "config.out_of_range"),
        ("8", "config.missing_key"),
        ("8", "config.out_of_range"),
    ]


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "config.missing"), (b"\x80\xff\x00PNG", "config.syntax"), ("folder", "config.missing")],
)
def test_what_is_no_text_file_is_said_so(
    command: str, content: bytes | str | None, code: str, remit: Any, tmp_path: Path
) -> None:
    path = tmp_path / "agent.yaml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    done = remit(command, path, *(["--offline", "--task", "x"] if command == "run" else []))
    assert done.exit == 2
    assert code in done.stderr
    assert str(path) in done.stderr
    assert "remedy" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_right_file_is_told_in_plain_words_each_with_its_line(remit: Any) -> None:
    done = remit("check", EXAMPLE)
    assert (done.exit, done.stderr) == (0, "")
    for word in ("may not", "must", "agent-config.yaml:15", "Everything that is not named is denied."):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_json_has_the_same_statements(remit: Any) -> None:
    found = json.loads(remit("check", EXAMPLE, "--json").stdout)
    text = remit("check", EXAMPLE).stdout
    assert len(found["digest"]) == 64
    assert all(statement["text"] in text for statement in found["statements"])
    assert {"may", "may not"} <= {statement["verdict"] for statement in found["statements"]}


def test_the_schema_is_json_schema_and_the_one_in_the_docs(remit: Any) -> None:
    done = remit("check", "--schema")
    schema = json.loads(done.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    published = EXAMPLE.parents[2] / "docs" / "agent-config.schema.json"
    assert json.loads(published.read_text()) == schema


def test_no_file_named_is_wrong_use(remit: Any) -> None:
    done = remit("check")
    assert done.exit == 2
    assert "agent-config.yaml" in done.stderr


def test_errors_of_every_stage_of_one_file_are_told_at_once(tmp_path: Path, remit: Any) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "agent:\n"
        "  name: a\n"
        "  model: claude-sonnet-4-20260514\n"
        "  name: b\n"
        "  allowed_tools: [search_kbx, create_ticket]\n"
        "  bogus_key: 1\n"
        "  rate_limits: {max_foo_per_hour: 5, max_tickets_per_hour: -1}\n"
        "  cost_controls: {max_daily_spend_usd: -50.00}\n"
    )
    done = remit("check", path)
    codes = [line.split()[1] for line in done.stderr.splitlines()]
    assert done.exit == 2
    assert codes == [
        "config.duplicate_key",
        "config.unknown_tool",
        "config.unknown_key",
        "config.unknown_rate_group",
        "config.out_of_range",
        "config.missing_key",
        "config.out_of_range",
    ]
