"""The entry point: finds the command, and turns every error into a line that helps and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from remit import __version__
from remit.core.errors import Exit, RemitError

_COMMANDS = {
    "init": ("remit.cli.init", "Make a new agent: configuration, knowledge base, data, a model script."),
    "check": (
        "remit.cli.check",
        "Say in plain words what a governance file permits, or what is wrong with it.",
    ),
    "run": ("remit.cli.run", "Give an agent a task and watch it."),
    "worker": ("remit.cli.worker", "Take runs from the queue: as many workers as wanted on one database."),
    "schedules": (
        "remit.cli.schedules",
        "When a governance file's schedules begin their tasks, and what became of it.",
    ),
    "runs": ("remit.cli.runs", "List runs, show one, wait for one, let one go on, cancel one."),
    "approvals": ("remit.cli.approvals", "What waits for a person: list, show, approve, deny, edit."),
    "effects": ("remit.cli.effects", "Effects whose outcome nobody knows: list, resolve."),
    "agents": ("remit.cli.agents", "What each agent has under way; pause one everywhere, and resume it."),
    "memory": ("remit.cli.memory", "What agents remember: list, show, erase."),
    "trace": ("remit.cli.trace", "Draw a run: its attempts, calls, decisions, times and costs."),
    "costs": ("remit.cli.costs", "Say what was spent, on what, and what of it was wasted."),
    "alerts": (
        "remit.cli.alerts",
        "List the thresholds of spending that were crossed; send what the webhook was not told.",
    ),
    "audit": ("remit.cli.audit", "Read the audit log: tail, search, open intents."),
    "mcp": ("remit.cli.mcp", "Offer an agent's tools to MCP clients, within its remit."),
    "tools": (
        "remit.cli.tools",
        "List the tools there are and what each declares; pause one, and resume it.",
    ),
    "model-server": ("remit.cli.model_server", "Serve a scripted model on this machine."),
    "doctor": ("remit.cli.doctor", "Check this machine and this home, and say what to mend."),
}


class _Commands(click.Group):
    """Imports a command's module when the command is wanted; the list itself imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  remit init my-agent && cd my-agent && remit run agent-config.yaml --offline --task 'hello'\n",
)
@click.version_option(__version__, prog_name="remit", message="%(prog)s %(version)s")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="REMIT_HOME",
    default=Path(".remit"),
    show_default=True,
    help="Where journal, traces and stores are kept (or REMIT_HOME).",
)
@click.pass_context
def command(context: click.Context, home: Path) -> None:
    """Run AI agents in production and keep each of them inside its remit."""
    context.obj = home


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 suspended."""
    try:
        command(prog_name="remit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        print("remit: cancelled", file=sys.stderr)
        sys.exit(Exit.FAILED)
    except BrokenPipeError:
        # whoever read has gone; what is left to write goes nowhere, quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)
    except RemitError as error:
        _tell(error)
        sys.exit(error.kind.exit)


def _tell(error: RemitError) -> None:
    """The error's code, cause and remedy on stderr; a file's errors one a line."""
    lines = getattr(error, "errors", None)
    if lines is not None:
        for line in lines:
            print(line, file=sys.stderr)
        return
    print(f"remit: {error.code}: {error.message}", file=sys.stderr)
    if error.cause:
        print(f"  cause:  {error.cause}", file=sys.stderr)
    print(f"  remedy: {error.remedy}", file=sys.stderr)
