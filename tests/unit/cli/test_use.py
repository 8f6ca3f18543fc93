"""Wrong use is answered with a code, a cause and a remedy; reading an empty home is no error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remit import __version__
from remit.cli.main import _COMMANDS
from remit.core.errors import CODES

EXAMPLE = Path(__file__).parents[3] / "examples" / "support" / "agent-config.yaml"
LISTS = {
    "runs list": [],
    "audit tail": [],
    "audit search": [],
    "audit search --open": [],
    "audit search --kind refusal --since 2h": [],
    "alerts list": [],
    "costs": [],
    "costs --since 7d": [],
}


@pytest.mark.parametrize("command", LISTS)
def test_a_list_of_nothing_is_an_empty_array(command: str, remit: Any, tmp_path: Path) -> None:
    done = remit(*command.split(), "--json")
    assert (done.exit, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []
    # reading makes nothing
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", LISTS)
def test_a_list_of_nothing_says_so_to_people(command: str, remit: Any) -> None:
    done = remit(*command.split())
    assert done.exit == 0
    assert done.stdout.startswith(("no ", "nothing "))


def test_tools_and_findings_are_arrays(remit: Any) -> None:
    tools = json.loads(remit("tools", "list", "--json").stdout)
    assert [tool["name"] for tool in tools] == [
        "search_kb",
        "get_customer",
        "create_ticket",
        "send_email",
        "run_sql_query",
        "remember",
        "recall",
    ]
    assert all({"effect", "idempotency", "args_schema", "rate_group"} <= tool.keys() for tool in tools)
    findings = json.loads(remit("doctor", "--json").stdout)
    assert {finding["status"] for finding in findings} <= {"ok", "note"}
    assert {"python", "sqlite", "disk", "journal"} <= {finding["name"] for finding in findings}


@pytest.mark.parametrize(
    ("variables", "failed"),
    [
        ({"REMIT_MEMORY_URL": "redis://127.0.0.1:1/0"}, "memory"),
        ({"REMIT_WEBHOOK_URL": "http://example.com/"}, "webhook"),
        ({"REMIT_WEBHOOK_URL": "https://example.com/"}, "webhook"),
    ],
)
def test_doctor_finds_a_store_that_is_away_and_a_webhook_that_is_none(
    remit: Any, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], failed: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = remit("doctor", "--json")
    assert done.exit == 1
    assert [one["name"] for one in json.loads(done.stdout) if one["status"] == "fail"] == [failed]


@pytest.mark.parametrize("command", ["trace", "runs show", "trace nothing", "runs show nothing"])
def test_a_run_that_is_not_there_is_said_so(command: str, remit: Any) -> None:
    done = remit(*command.split(), "--json")
    assert (done.exit, done.stdout) == (2, "")
    assert "run.unknown" in done.stderr
    assert CODES["run.unknown"].remedy in done.stderr


WRONG = {
    "no key": (["run", EXAMPLE, "--task", "x"], "model.no_key", ["ANTHROPIC_API_KEY", "--offline"]),
    "no provider": (
        ["run", EXAMPLE, "--offline", "--task", "x", "--model", "gemini-1"],
        "model.no_provider",
        ["'gemini-1'", "claude-*"],
    ),
    "context of broken JSON": (
        ["run", EXAMPLE, "--offline", "--task", "x", "--context", '{"a":'],
        "usage.invalid",
        ["customer_id=C-1042"],
    ),
    "context that is a list": (
        ["run", EXAMPLE, "--offline", "--task", "x", "--context", "[1]"],
        "usage.invalid",
        ["not a JSON object"],
    ),
    "context of a file that is not there": (
        ["run", EXAMPLE, "--offline", "--task", "x", "--context", "@/no/such/file"],
        "usage.invalid",
        ["/no/such/file"],
    ),
    "task of a file that is not there": (
        ["run", EXAMPLE, "--offline", "--task", "@/no/such/file"],
        "usage.invalid",
        ["/no/such/file"],
    ),
    "empty task": (["run", EXAMPLE, "--offline", "--task", ""], "usage.invalid", ["the task is empty"]),
    "blank task": (["run", EXAMPLE, "--offline", "--task", " \n\t"], "usage.invalid", ["the task is empty"]),
    "task too long": (
        ["run", EXAMPLE, "--offline", "--task", "x" * 300_000],
        "value.too_large",
        ["262144 bytes"],
    ),
    "task that is no Unicode": (
        ["run", EXAMPLE, "--offline", "--task", "a\udcff"],
        "value.invalid",
        ["surrogate"],
    ),
    "since of no form": (["costs", "--since", "yesterday"], "usage.invalid", ["yesterday"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_told_with_code_and_remedy(name: str, remit: Any) -> None:
    arguments, code, words = WRONG[name]
    done = remit(*arguments)
    assert (done.exit, done.stdout) == (2, "")
    assert f"remit: {code}: " in done.stderr
    assert "  remedy: " in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["--no-such-option"],
        ["run"],
        ["run", EXAMPLE],
        ["run", EXAMPLE, "--task"],
        ["audit", "search", "--kind", "nonsense"],
        ["audit", "tail", "-n", "0"],
        ["runs", "list", "--status", "nonsense"],
        ["model-server", "--port", "70000"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:1] + arguments[2:])),
)
def test_unknown_commands_and_options_are_wrong_use(arguments: list[str], remit: Any) -> None:
    done = remit(*arguments)
    assert (done.exit, done.stdout) == (2, "")
    assert done.stderr.startswith(("Usage: remit ", "Error: "))
    assert "Error: " in done.stderr


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_help_has_an_example(command: str, remit: Any) -> None:
    done = remit(command, "--help")
    assert (done.exit, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: remit {command}")
    assert "Example" in done.stdout
    assert f"remit {command}" in done.stdout.partition("Example")[2]
    assert len(max(done.stdout.splitlines(), key=len)) <= 120


def test_the_readme_names_every_command_and_no_other(remit: Any) -> None:
    readme = (EXAMPLE.parents[2] / "README.md").read_text()
    named = set(re.findall(r"^\| `remit ([a-z-]+)", readme, re.MULTILINE))
    assert named == set(_COMMANDS)
    listed = remit("--help").stdout
    for name, (_, summary) in _COMMANDS.items():
        assert name in listed
        assert " ".join(summary.split()) in " ".join(listed.split())


def test_the_version_is_told_without_loading_the_program() -> None:
    code = (
        "import sys\nsys.argv = ['remit', '--version']\n"
        "from remit.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'anthropic', 'pydantic', 'sqlite3', 'asyncio', 'starlette', 'opentelemetry', 'yaml'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"remit {__version__}\n[]\n"


def test_init_makes_an_agent_once(remit: Any, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    made = remit("init", folder)
    assert made.exit == 0
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert folder / "agent-config.yaml" in files
    assert all(str(path) in made.stdout for path in files)
    (folder / "agent-config.yaml").write_text("mine")
    (folder / "kb" / "double-charge.md").unlink()
    again = remit("init", folder)
    assert again.exit == 2
    assert "would be overwritten" in again.stderr
    # nothing was changed, and nothing was written beside it either
    assert (folder / "agent-config.yaml").read_text() == "mine"
    assert not (folder / "kb" / "double-charge.md").exists()


def test_init_where_nothing_can_be_written_is_said_so(remit: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = remit("init", tmp_path / "file" / "folder")
    assert done.exit == 2
    assert "cannot be written" in done.stderr


def test_init_checks_out(remit: Any, tmp_path: Path) -> None:
    remit("init", tmp_path / "new")
    assert remit("check", tmp_path / "new" / "agent-config.yaml").exit == 0
    found = json.loads(remit("doctor", tmp_path / "new" / "agent-config.yaml", "--json").stdout)
    assert found[-1]["name"] == "configuration"
    assert found[-1]["status"] == "ok"


def test_doctor_finds_a_wrong_configuration_and_a_foreign_journal(remit: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "remit.db").write_bytes(b"this is no database, whatever its name says" * 50)
    (tmp_path / "bad.yaml").write_text("agent: {}\n")
    done = remit("doctor", tmp_path / "bad.yaml", "--json")
    assert done.exit == 1
    failed = {finding["name"] for finding in json.loads(done.stdout) if finding["status"] == "fail"}
    assert failed == {"journal", "configuration"}
    for command in (["runs", "list"], ["audit", "tail"], ["costs"]):
        read = remit(*command)
        assert read.exit == 1
        assert "journal.unavailable" in read.stderr
    run = remit("run", EXAMPLE, "--offline", "--task", "x")
    assert run.exit == 1
    assert "journal.unavailable" in run.stderr


def test_a_journal_in_the_making_reads_as_none(remit: Any, tmp_path: Path) -> None:
    # regression: a reader beside the very first start of a worker failed with `no such table`
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "remit.db").touch()
    for command in (["runs", "list"], ["audit", "tail"], ["costs"]):
        done = remit(*command, "--json")
        assert (done.exit, json.loads(done.stdout)) == (0, [])


def test_a_journal_of_another_version_is_said_so(remit: Any, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    (tmp_path / "home").mkdir()
    with closing(sqlite3.connect(tmp_path / "home" / "remit.db")) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    done = remit("runs", "list", "--json")
    assert (done.exit, done.stdout) == (2, "")
    assert "journal.schema" in done.stderr
    assert "9999" in done.stderr
