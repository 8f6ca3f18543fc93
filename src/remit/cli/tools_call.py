"""`remit tools call`: one call of a tool, within an agent's remit and without a model."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from remit.cli.asynchronous import run_async
from remit.cli.output import clean, clean_text, json_option, paint, print_json, print_output
from remit.cli.people import as_option, person
from remit.core.actions import Principal
from remit.core.errors import Exit, RemitError
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended
from remit.core.runs import RunEnd
from remit.ports.services import TelemetryEvent, ToolProgress
from remit.runtime.direct import DirectRun
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment

POLL_S = 0.25


@click.command(
    "call",
    epilog="\b\nExamples:\n"
    '  remit tools call agent-config.yaml search_kb --args \'{"query": "refunds"}\'\n'
    "  remit tools call agent-config.yaml send_email --args @letter.json --wait 600\n",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--args", "args", default="{}", help="The arguments, as JSON; @FILE reads them from a file.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
    default=0.0,
    help="Seconds to wait for a person, where the call needs one.",
)
@as_option
@json_option
@click.pass_obj
def call(home: Path, /, config: Path, name: str, **given: Any) -> None:
    """Call the tool NAME as the agent of CONFIG might: decided, limited and recorded, without a model.

    Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 refused by governance, 4 waits for a person.
    """
    os.umask(0o077)  # what is kept of a run is for whoever runs it
    deployment = Deployment(home=home, environment=os.environ)
    args = _arguments(given["args"])
    who = person(given["as_name"])
    outcome, run_id = run_async(_call(deployment, config, who, (name, args), given["wait_s"]))
    sys.exit(_show(outcome, run_id, as_json=given["as_json"]))


async def _call(
    deployment: Deployment, config: Path, who: Principal, asked: tuple[str, Any], wait_s: float
) -> tuple[Outcome, str]:
    name, args = asked
    options = AgentOptions(config=config, asks_models=False, watch=_Progress())
    async with open_agent(deployment, options) as agent:
        run = await agent.direct.begin(who, f"remit tools call {name}")
        end = RunEnd(status="failed", code="internal", message="the command broke")
        try:
            outcome = await _decided(run, name, args, wait_s)
            end = _end_of(outcome)
            return outcome, run.run.id
        except asyncio.CancelledError:
            end = RunEnd(status="cancelled", code="run.cancelled", message="the command was ended")
            raise
        finally:
            await run.end(end)


class _Progress:
    """Tells what the tool says of how far it is."""

    def emit(self, event: TelemetryEvent) -> None:
        """Print the line of `event`, where it has one."""
        if isinstance(event, ToolProgress):
            print(f"remit: {event.action.resource}: {clean(event.text, 300)}", file=sys.stderr)


async def _decided(run: DirectRun, name: str, args: Any, wait_s: float) -> Outcome:
    """The outcome of the call, asked for again while it waits for a person."""
    outcome = await run.call(name, args)
    if not isinstance(outcome, Suspended) or wait_s == 0:
        return outcome
    print(f"remit: it waits for the approval {outcome.approval_id}", file=sys.stderr)
    try:
        async with asyncio.timeout(wait_s):
            while isinstance(outcome, Suspended):
                await asyncio.sleep(POLL_S)
                outcome = await run.call(name, args)
    except TimeoutError:
        print(f"remit: nobody has decided within {wait_s:g} s", file=sys.stderr)
    return outcome


def _end_of(outcome: Outcome) -> RunEnd:
    match outcome:
        case Done():
            return RunEnd(status="succeeded")
        case Refused(decision=decision):
            return RunEnd(status="refused", code=decision.code, message=decision.explain())
        case Suspended(decision=decision):
            return RunEnd(status="cancelled", code=decision.code, message="nobody waited for the approval")
        case Failed(code=code, message=message):
            return RunEnd(status="failed", code=code, message=message)
    return RunEnd(status="failed", code="effect.unknown", message=outcome.reason)


def _show(outcome: Outcome, run_id: str, *, as_json: bool) -> int:
    end = _end_of(outcome)
    exits = {"succeeded": Exit.DONE, "refused": Exit.REFUSED, "cancelled": Exit.SUSPENDED}
    value = outcome.value if isinstance(outcome, Done) else None
    if as_json:
        told: dict[str, Any] = {
            "run_id": run_id,
            "status": end.status,
            "code": end.code,
            "message": end.message,
            "output": outcome.output if isinstance(outcome, Failed) else "",
        }
        print_json(told | {"result": value})
    elif isinstance(outcome, Done):
        print(clean_text(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))
    else:
        print(f"{paint(end.code, 'red')}: {clean_text(end.message)}", file=sys.stderr)
        if isinstance(outcome, Failed):
            print_output(outcome.output)
        if isinstance(outcome, Suspended):
            print(
                "  start it again with --wait, and approve it meanwhile: remit approvals list",
                file=sys.stderr,
            )
    return exits.get(end.status, Exit.FAILED)


def _arguments(text: str) -> Any:
    """The arguments that a person has typed, or written into a file. Raises: RemitError `usage.invalid`."""
    try:
        read = Path(text[1:]).read_text() if text.startswith("@") else text
        args = orjson.loads(read)
    except (OSError, ValueError) as error:
        raise RemitError("usage.invalid", "the arguments are no JSON", cause=str(error)) from error
    if not isinstance(args, dict):
        raise RemitError(
            "usage.invalid", "the arguments are no JSON object", remedy='write --args \'{"name": "value"}\''
        )
    return args
