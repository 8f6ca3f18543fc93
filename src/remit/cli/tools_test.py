"""`remit tools test`: the examples that the authors of Python tools give, run as they would be for a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, paint, print_json, print_output
from remit.cli.people import person
from remit.core.errors import Exit, RemitError
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended
from remit.core.runs import RunEnd
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment
from remit.wiring.remits import load_remit
from remit.wiring.toolsets import Example, examples_of


class Tried(NamedTuple):
    """An example, and what is wrong with it, which is nothing where it is well."""

    tool: str
    number: int
    problem: str
    output: str = ""


@click.command("test", epilog="\b\nExamples:\n  remit tools test agent-config.yaml\n")
@click.argument("config", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def test(home: Path, /, config: Path, as_json: bool) -> None:
    """Run the examples of the Python tools that CONFIG grants: in the sandbox, through the gate, without a model.

    An example is what `@tool(examples=[{"args": ..., "result": ...}])` says; without a result it has to end well. Exit 1
    if one does not.
    """
    os.umask(0o077)  # what is kept of a run is for whoever runs it
    examples = examples_of(load_remit(config), config.parent)
    if not examples:
        remedy = 'write @tool(examples=[{"args": {...}, "result": ...}]), and grant the tool in allowed_tools'
        raise RemitError("usage.invalid", f"no granted Python tool of {config} has an example", remedy=remedy)
    tried = run_async(_try(Deployment(home=home, environment=os.environ), config, examples))
    if as_json:
        print_json([one._asdict() for one in tried])
    else:
        for one in tried:
            mark = paint("✗", "red") if one.problem else paint("✓", "green")
            print(f"{mark} {one.tool} {one.number}" + (f"  {one.problem}" if one.problem else ""))
            print_output(one.output, sys.stdout)
    if any(one.problem for one in tried):
        sys.exit(Exit.FAILED)


async def _try(deployment: Deployment, config: Path, examples: list[Example]) -> list[Tried]:
    tried: list[Tried] = []
    async with open_agent(deployment, AgentOptions(config=config, asks_models=False)) as agent:
        run = await agent.direct.begin(person(), "remit tools test")
        try:
            for example in examples:
                number = 1 + sum(one.tool == example.tool for one in tried)
                outcome = await run.call(example.tool, example.args)
                output = outcome.output if isinstance(outcome, Failed) else ""
                tried.append(Tried(example.tool, number, _problem(example, outcome), output))
        finally:
            await run.end(RunEnd(status="succeeded"))
    return tried


def _problem(example: Example, outcome: Outcome) -> str:
    match outcome:
        case Done(value=value):
            if example.has_result and value != example.result:
                return f"it returned {str(value)[:200]}, and not {str(example.result)[:200]}"
            return ""
        case Refused(decision=decision) | Suspended(decision=decision):
            return f"{decision.code}: {decision.explain()}"
        case Failed(code=code, message=message):
            return f"{code}: {message}"
    return "nobody knows whether it was done"
