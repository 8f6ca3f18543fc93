"""Every error has a stable code, a cause and a remedy; one table says how each is answered.

The codes are public: they never change meaning and are never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Exit:
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    SUSPENDED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorKind:
    """How one code is answered: HTTP status, exit code, whether a retry can help, what to do."""

    http: int
    exit: int
    retryable: bool
    remedy: str


def _kind(http: int, exit_code: int, remedy: str, *, retryable: bool = False) -> ErrorKind:
    return ErrorKind(http=http, exit=exit_code, retryable=retryable, remedy=remedy)


CODES: Mapping[str, ErrorKind] = MappingProxyType(
    {
        # governance refuses
        "policy.denied": _kind(403, Exit.REFUSED, "ask the owner of the remit to grant it"),
        "policy.error": _kind(403, Exit.REFUSED, "mend the rule that failed; until then it denies"),
        "policy.timeout": _kind(403, Exit.REFUSED, "make the policy answer within its deadline"),
        "tool.not_granted": _kind(403, Exit.REFUSED, "add the tool to allowed_tools"),
        "tool.unknown": _kind(403, Exit.REFUSED, "use one of the tools that `remit tools list` shows"),
        "data.denied": _kind(
            403, Exit.REFUSED, "allow the data class in data_access, or do without the data"
        ),
        "mcp.unpinned": _kind(
            409, Exit.USAGE, "look at it, and accept it: remit tools accept CONFIG TOOLSET"
        ),
        "mcp.changed": _kind(
            409, Exit.REFUSED, "look at what has changed: remit tools accept CONFIG TOOLSET"
        ),
        "egress.denied": _kind(
            403, Exit.REFUSED, "list the host in the toolset; an inner address needs inner_hosts too"
        ),
        "args.invalid": _kind(422, Exit.REFUSED, "send arguments that fit the tool's schema"),
        "action.conflict": _kind(409, Exit.REFUSED, "an action id stands for one action: use a new id"),
        "action.in_flight": _kind(409, Exit.REFUSED, "wait for the first performance of this action to end"),
        "rate.limited": _kind(429, Exit.REFUSED, "wait until the window has room again", retryable=True),
        "budget.exhausted": _kind(
            402, Exit.REFUSED, "raise the cap in cost_controls, or wait for the next day"
        ),
        "price.unknown": _kind(402, Exit.REFUSED, "add the model to the price override file"),
        "steps.exhausted": _kind(403, Exit.REFUSED, "raise max_steps, or split the task"),
        "agent.paused": _kind(403, Exit.REFUSED, "resume the agent or the tool when it is safe"),
        "run.not_running": _kind(409, Exit.REFUSED, "start a new run"),
        "approval.required": _kind(403, Exit.SUSPENDED, "have a person decide it: `remit approvals list`"),
        "approval.denied": _kind(403, Exit.REFUSED, "do without the action; a person has denied it"),
        "approval.unknown": _kind(404, Exit.USAGE, "list what waits with `remit approvals list`"),
        "approval.not_permitted": _kind(403, Exit.REFUSED, "have somebody decide who may"),
        "approval.invalid": _kind(403, Exit.REFUSED, "request a new approval for exactly this action"),
        "memory.not_granted": _kind(
            403, Exit.REFUSED, "grant it under `memory:` in the governance file, or do without"
        ),
        # effects
        "memory.full": _kind(413, Exit.FAILED, "erase what is not needed, or raise the limit that is named"),
        "memory.unavailable": _kind(
            503, Exit.FAILED, "look at the store that REMIT_MEMORY_URL names", retryable=True
        ),
        "memory.changed": _kind(409, Exit.FAILED, "start a new run: it begins with what is kept now"),
        "tool.failed": _kind(502, Exit.FAILED, "look at the tool's own error"),
        "tool.timeout": _kind(
            504, Exit.FAILED, "raise the tool's timeout, or make it faster", retryable=True
        ),
        "tool.result_invalid": _kind(502, Exit.FAILED, "make the tool return plain JSON"),
        "sandbox.denied": _kind(
            502, Exit.FAILED, "make the tool do without it, or ask for it through its context"
        ),
        "sandbox.limit": _kind(502, Exit.FAILED, "make the tool need less, or raise its toolset's limit"),
        "sandbox.unavailable": _kind(
            503,
            Exit.USAGE,
            "look at `remit doctor --sandbox`, or use a machine that gives the isolation required",
        ),
        "model.failed": _kind(502, Exit.FAILED, "look at the provider's error"),
        "queue.full": _kind(429, Exit.FAILED, "try again later, or start more workers", retryable=True),
        "dispatch.unavailable": _kind(
            503, Exit.FAILED, "look whether the queue's database is up, then try again", retryable=True
        ),
        "model.unavailable": _kind(503, Exit.FAILED, "try again later", retryable=True),
        "model.timeout": _kind(504, Exit.FAILED, "try again, or raise timeouts.model_call_s", retryable=True),
        "model.bad_calls": _kind(502, Exit.FAILED, "use a model that keeps to the tools' schemas"),
        "model.truncated": _kind(502, Exit.FAILED, "raise max_output_tokens"),
        "model.no_key": _kind(500, Exit.USAGE, "set the key of the model's provider, or run with --offline"),
        "model.no_provider": _kind(500, Exit.USAGE, "name a model of a provider that this version speaks"),
        "answer.invalid": _kind(502, Exit.FAILED, "use a model that keeps to answer_schema, or simplify it"),
        "effect.unknown": _kind(
            500, Exit.SUSPENDED, "find out whether it happened, and say so: `remit effects list`"
        ),
        "effect.happened": _kind(409, Exit.FAILED, "do not repeat it: it took effect"),
        "effect.not_happened": _kind(
            500, Exit.FAILED, "make the call again if it is still wanted", retryable=True
        ),
        "effect.settled": _kind(409, Exit.USAGE, "list what nobody knows with `remit effects list`"),
        "effect.cancelled": _kind(499, Exit.FAILED, "start the run again if it is still wanted"),
        # runs
        "run.unknown": _kind(404, Exit.USAGE, "list the runs with `remit runs list`"),
        "run.interrupted": _kind(
            500,
            Exit.FAILED,
            "a `remit worker` goes on with it, or `remit runs resume`; open intents: `remit audit search --open`",
        ),
        "run.timed_out": _kind(504, Exit.FAILED, "raise timeouts.run_s, or split the task", retryable=True),
        "run.cancelled": _kind(499, Exit.FAILED, "start the run again if it is still wanted"),
        "run.failed": _kind(500, Exit.FAILED, "look at the trace: `remit trace RUN`"),
        "run.no_slot": _kind(
            429, Exit.FAILED, "wait for a run to end, or raise max_concurrent_runs", retryable=True
        ),
        "worker.fenced": _kind(503, Exit.FAILED, "look why the worker stood still", retryable=True),
        "run.not_ended": _kind(
            504, Exit.FAILED, "wait longer; look whether a `remit worker` is on", retryable=True
        ),
        "run.waits": _kind(
            409, Exit.SUSPENDED, "look at the run that it waits for: `remit runs show`", retryable=True
        ),
        "run.too_deep": _kind(403, Exit.REFUSED, "ask for less at one remove, or raise max_agent_depth"),
        "run.handed_over": _kind(503, Exit.SUSPENDED, "let it go on: `remit runs resume`", retryable=True),
        "remit.changed": _kind(
            409, Exit.USAGE, "restore the governance file that the run began under, or cancel it"
        ),
        # the record
        "journal.unavailable": _kind(
            503,
            Exit.FAILED,
            "make the journal's disk writable; nothing is done without a record",
            retryable=True,
        ),
        "journal.unconfirmed": _kind(
            503,
            Exit.FAILED,
            "ask again: an action that was recorded is found, and not done twice",
            retryable=True,
        ),
        "journal.locked": _kind(
            409,
            Exit.USAGE,
            "stop the other worker, or use another --home; many workers share a PostgreSQL, each with a --home of its own",
        ),
        "journal.schema": _kind(500, Exit.USAGE, "use a version of remit at least as new as the journal"),
        # configuration and use
        "config.invalid": _kind(422, Exit.USAGE, "mend the line that is named"),
        "config.missing": _kind(
            404, Exit.USAGE, "give the path of a governance file, or make one with `remit init`"
        ),
        "config.unknown_key": _kind(422, Exit.USAGE, "remove the key, or use the one that is suggested"),
        "config.duplicate_key": _kind(422, Exit.USAGE, "keep one of the two"),
        "config.wrong_type": _kind(422, Exit.USAGE, "give a value of the type that is named"),
        "config.out_of_range": _kind(422, Exit.USAGE, "give a value within the range that is named"),
        "config.missing_key": _kind(422, Exit.USAGE, "add the key"),
        "config.empty": _kind(422, Exit.USAGE, "start from `remit init`"),
        "config.too_large": _kind(422, Exit.USAGE, "write the file without aliases, deep nesting or bulk"),
        "config.syntax": _kind(422, Exit.USAGE, "mend the YAML"),
        "config.unknown_tool": _kind(422, Exit.USAGE, "use one of the tools that `remit tools list` shows"),
        "config.unknown_rate_group": _kind(422, Exit.USAGE, "use one of the rate groups that are listed"),
        "config.circular": _kind(422, Exit.USAGE, "let no agent be asked, by whatever way, by itself"),
        "config.rule_never_fires": _kind(422, Exit.USAGE, "mend the condition so that some call can meet it"),
        "export.invalid": _kind(
            422, Exit.USAGE, "export costs as CSV with a day, a model and an amount in USD on each line"
        ),
        "usage.invalid": _kind(422, Exit.USAGE, "see --help"),
        "webhook.invalid": _kind(
            401,
            Exit.FAILED,
            "refuse the message: it is forged, changed, too old, or signed by another secret",
        ),
        "webhook.unknown": _kind(404, Exit.USAGE, "send it to a webhook of the worker's governance file"),
        "value.invalid": _kind(422, Exit.USAGE, "send plain JSON: no NaN, no lone surrogates, no cycles"),
        "value.too_large": _kind(413, Exit.USAGE, "send less"),
        "toolset.unavailable": _kind(500, Exit.USAGE, "mend the toolset's configuration"),
        "script.invalid": _kind(422, Exit.USAGE, "mend the model script"),
        "internal": _kind(500, Exit.FAILED, "report it with the trace id"),
    }
)


class RemitError(Exception):
    """An error that says what happened, why, and what to do about it.

    `code` must stand in `CODES`; `remedy` defaults to the table's.
    """

    def __init__(self, code: str, message: str, *, cause: str = "", remedy: str = "") -> None:
        if code not in CODES:
            raise KeyError(f"error code {code!r} is not in the table")
        super().__init__(message)
        self.code = code
        self.message = message
        self.cause = cause
        self.remedy = remedy or CODES[code].remedy

    @property
    def kind(self) -> ErrorKind:
        """The table's row for this code."""
        return CODES[self.code]

    def __str__(self) -> str:
        cause = f" ({self.cause})" if self.cause else ""
        return f"{self.code}: {self.message}{cause}; {self.remedy}"
