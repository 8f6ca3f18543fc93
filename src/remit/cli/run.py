"""`remit run`: give an agent a task and watch it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson

from remit.cli.agent_options import agent_options, changes_of
from remit.cli.asynchronous import Drain, grace_option, run_async
from remit.cli.audit import audit_lines
from remit.cli.family import cost_of, cost_text, runs_below
from remit.cli.output import bold, clean_text, dim, json_option, paint, print_json
from remit.cli.people import person
from remit.cli.trace import draw
from remit.cli.watch import Watch
from remit.core import uploads
from remit.core.errors import CODES, Exit, RemitError
from remit.core.messages import Attachment
from remit.core.money import usd_text
from remit.core.runs import RunRecord
from remit.ports.journal import AuditEntry, AuditQuery
from remit.ports.services import Stream
from remit.runtime import intake
from remit.runtime.clock import SystemClock
from remit.runtime.runner import RunResult
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment, make_home
from remit.wiring.journals import open_journal
from remit.wiring.remits import load_remit

_EXITS = {"succeeded": Exit.DONE, "refused": Exit.REFUSED, "suspended": Exit.SUSPENDED}


@click.command(
    epilog="\b\nExamples:\n"
    "  remit run agent-config.yaml --offline --task 'I was charged twice'\n"
    "  remit run agent-config.yaml --task @task.txt --context customer_id=C-1042 --json\n"
    "  remit run agent-config.yaml --task 'What is wrong with this bill?' --attach bill.pdf\n"
    "  remit run agent-config.yaml --session SUPPORT-77 --task 'And the second charge?'\n"
    "  remit run agent-config.yaml --task 'I was charged twice' --detach      # a `remit worker` takes it\n"
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--task", required=True, help="What to do; @FILE reads it from a file, - from standard input.")
@click.option(
    "--context",
    "contexts",
    multiple=True,
    help="What the caller knows: KEY=VALUE (may be repeated), a JSON object, or @FILE with one.",
)
@click.option(
    "--attach",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An image (PNG, JPEG, GIF, WebP) or a PDF that the model is shown with the task (may be repeated).",
)
@click.option(
    "--session", default="", help="Go on with the conversation of this name, in which earlier runs were."
)
@agent_options
@click.option("--stream", is_flag=True, help="Show the model's words as they come.")
@click.option(
    "--report", is_flag=True, help="Afterwards show the trace, the audit records and what to try next."
)
@click.option("--detach", is_flag=True, help="Leave it to a `remit worker`, print the run's id and return.")
@click.option(
    "--urgency",
    type=click.IntRange(0, 1_000),
    default=500,
    show_default=True,
    help="With --detach: of a tenant's queued runs the lower is taken first.",
)
@grace_option
@json_option
@click.pass_obj
def command(home: Path, /, as_json: bool, report: bool, **given: Any) -> None:
    """Give the agent of CONFIG a task.

    Exit codes: 0 answered, 1 failed, 2 wrong use or configuration, 3 refused by governance, 4 waits for a
    person.
    """
    os.umask(0o077)  # what is kept of a run is for whoever runs it
    environment: Mapping[str, str] = os.environ
    if as_json and environment.get("REMIT_LOG") == "stdout":
        environment = {**environment, "REMIT_LOG": "stderr"}  # standard output is one JSON object
    deployment = Deployment(home=home, environment=environment)
    task = _task_of(given)
    watch = None if as_json else Watch()
    changes = changes_of(given)
    options = AgentOptions(config=given["config"], changes=changes, offline=given["offline"], watch=watch)
    if given["detach"]:
        if given["stream"] or report:
            raise RemitError(
                "usage.invalid", "a detached run shows nothing", remedy="leave out --stream and --report"
            )
        run_async(_detach(deployment, options, task, given["urgency"], as_json))
        return
    show = _Show(as_json=as_json, report=report, stream=watch if given["stream"] else None)
    drain = Drain(given["grace_s"])
    sys.exit(run_async(_run(deployment, options, task, show, drain), drain))


class _Task(NamedTuple):
    """What is to be done, what is attached to it, and the conversation that it goes on with."""

    text: str
    attachments: Sequence[Attachment]
    session: str


class _Show:
    """How the result is shown."""

    def __init__(self, *, as_json: bool, report: bool, stream: Stream | None) -> None:
        self.as_json = as_json
        self.report = report
        self.stream = stream


async def _run(deployment: Deployment, options: AgentOptions, task: _Task, show: _Show, drain: Drain) -> int:
    if options.offline:
        _say("offline: the scripted model server answers, not a real model (set ANTHROPIC_API_KEY for one)")
    async with open_agent(deployment, options) as agent:
        for notice in agent.notices:
            _say(notice)
        if agent.interrupted:
            _say(
                f"{len(agent.interrupted)} run(s) of a process that died wait to go on: remit runs resume --all-ready"
            )
        drain.opened(agent.runner.hand_over)
        result = await agent.runner.run(task.text, person(), show.stream, task.attachments, task.session)
        if result.end.status == "succeeded" and result.end.message:
            _say(result.end.message)
        record = await agent.journal.run(result.run.id)
        if record is None:
            raise RemitError("journal.unavailable", "the run is not in the journal")
        below = await runs_below(agent.journal, record)
        if show.as_json:
            has_schema = agent.remit.answer_schema is not None
            shown = _as_json(result, record, has_schema=has_schema)
            print_json(shown | {"cost_below_nano_usd": cost_of(below)})
        else:
            _print_result(result, record, below)
        entries: Sequence[AuditEntry] = ()
        if show.report and not show.as_json:
            entries = await agent.journal.audit(AuditQuery(run_id=result.run.id, limit=1000))
    if entries:  # the traces are complete once the agent is closed
        await _print_report(deployment, options.config, result, [entry.body for entry in entries])
    return _EXITS.get(result.end.status, CODES[result.end.code].exit if result.end.code else Exit.FAILED)


async def _detach(
    deployment: Deployment, options: AgentOptions, task: _Task, urgency: int, as_json: bool
) -> None:
    """Leave a run in the journal, where the workers of its agent find it."""
    remit = load_remit(options.config, options.changes)
    clock = SystemClock()
    run = intake.new_run(remit, task.text, person(), clock, task.session)
    make_home(deployment.home)
    journal = open_journal(deployment, clock)
    try:
        await intake.enqueue(journal, remit, run, task.attachments, urgency)
    finally:
        await journal.close()
    if as_json:
        print_json({"run_id": run.id, "status": "queued", "agent": remit.agent, "remit_digest": remit.digest})
    else:
        print(run.id)


def _as_json(result: RunResult, record: RunRecord, *, has_schema: bool) -> dict[str, Any]:
    end, usage = result.end, record.usage
    return {
        "run_id": result.run.id,
        "status": end.status,
        "answer": end.answer,
        "answer_object": orjson.loads(end.answer) if has_schema and end.status == "succeeded" else None,
        "cost_usd": float(usd_text(record.cost_nano_usd)),
        "cost_nano_usd": record.cost_nano_usd,
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "steps": result.steps,
        "attempts": result.attempts,
        "trace_id": result.run.trace_id,
        "agent": result.run.agent,
        "remit_digest": result.run.remit_digest,
        "duration_ms": result.duration_us // 1000,
        "error": {"code": end.code, "message": end.message, "remedy": CODES[end.code].remedy}
        if end.code
        else None,
    }


def _print_result(result: RunResult, record: RunRecord, below: Sequence[RunRecord]) -> None:
    end = result.end
    print()
    if end.status == "succeeded":
        print(bold("answer"))
        print("\n".join(f"  {line}" for line in clean_text(end.answer).splitlines()))
    else:
        colour = "yellow" if end.status == "suspended" else "red"
        print(paint(f"{end.status}: {end.code}", colour) + f"  {clean_text(end.message)}")
        print(f"  {CODES[end.code].remedy}")
    usage = record.usage
    print(
        f"\n{bold('cost')} {cost_text(record, below)}  "
        + dim(
            f"{usage.prompt_tokens} tokens in, {usage.output_tokens} out, {result.steps} steps, "
            f"{result.attempts} attempt(s), {result.duration_us / 1_000_000:.2f} s"
        )
    )


async def _print_report(
    deployment: Deployment, config: Path, result: RunResult, records: list[bytes]
) -> None:
    print(f"\n{bold('trace')}")
    print(await draw(deployment, result.run.id), end="")
    print(f"\n{bold('audit')}")
    for line in audit_lines(records):
        print(f"  {line}")
    print(f"\n{bold('next')}")
    program = _program()
    at_home = program if deployment.home == Path(".remit") else f"{program} --home {deployment.home}"
    steps = [
        (f"{at_home} runs show {result.run.id}", "this run again"),
        (f"{at_home} audit search --kind refusal", "what was refused, by which rule"),
        (f"{at_home} costs", "what was spent"),
        (f"{program} check {config}", "what the agent may do; then change a line of it"),
    ]
    width = max(len(line) for line, _ in steps)
    for line, what in steps:
        print(f"  {line:<{width}}  {dim(what)}")


def _program() -> str:
    """What was typed to start this program, so that what is printed can be typed again."""
    return os.path.relpath(sys.argv[0]) if os.sep in sys.argv[0] else "remit"


def _task_of(given: Mapping[str, Any]) -> _Task:
    return _Task(
        _task(given["task"]) + _context(given["contexts"]),
        [_attachment(path) for path in given["files"][: uploads.COUNT_MAX + 1]],
        given["session"],
    )


def _task(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    return _file(text[1:]) if text.startswith("@") else text


def _context(contexts: tuple[str, ...]) -> str:
    """The caller's context as the block that follows the task; empty where there is none."""
    merged: dict[str, Any] = {}
    for text in contexts:
        key, equals, value = text.partition("=")
        if equals and not text.lstrip().startswith(("{", "@")):
            merged[key] = value
            continue
        source = _file(text[1:]) if text.startswith("@") else text
        try:
            found = orjson.loads(source)
        except orjson.JSONDecodeError as error:
            remedy = 'write --context customer_id=C-1042 or --context \'{"customer_id": "C-1042"}\''
            raise RemitError(
                "usage.invalid", "the context is not JSON", cause=str(error), remedy=remedy
            ) from error
        if not isinstance(found, dict):
            raise RemitError("usage.invalid", "the context is not a JSON object")
        merged |= found
    if not merged:
        return ""
    try:
        return "\n\nContext (JSON):\n" + orjson.dumps(merged, option=orjson.OPT_INDENT_2).decode()
    except TypeError as error:
        raise RemitError("value.invalid", "the context is not plain JSON", cause=str(error)) from error


def _attachment(path: Path) -> Attachment:
    try:
        with path.open("rb") as file:
            # one byte more than may be, so that what is too large is refused and not cut
            data = file.read(uploads.TOTAL_BYTES_MAX + 1)
    except OSError as error:
        raise RemitError("usage.invalid", f"{path} cannot be read", cause=error.strerror or "") from error
    return uploads.attachment_of(path.name, data)


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RemitError("usage.invalid", f"{path} cannot be read", cause=str(error)) from error


def _say(text: str) -> None:
    print(f"remit: {text}", file=sys.stderr)
