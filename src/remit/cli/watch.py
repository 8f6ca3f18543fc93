"""Shows a run as it goes: the model's turns, each tool call with its decision, what it cost."""

from __future__ import annotations

import orjson

from remit.cli.output import bold, clean, clean_stream, dim, paint
from remit.core.actions import ModelCall, ToolCall
from remit.core.messages import ModelReply
from remit.core.money import format_usd
from remit.core.outcomes import Done, Failed, Refused, Suspended, Unknown
from remit.ports.services import (
    AttemptEnded,
    EffectEnded,
    FirstText,
    RunStarted,
    TelemetryEvent,
    ThresholdCrossed,
    ToolProgress,
)

_ARGS_CHARS_MAX = 90
_INDENT = "    "


class Watch:
    """A telemetry sink, and a stream, for the person who started the run; it shows what they may see anyway."""

    def __init__(self) -> None:
        self._in_text = False
        self._indent = ""

    def text(self, attempt: int, text: str) -> None:
        """Print the next piece of a reply."""
        if not self._in_text:
            print(dim("  │ "), end="")
            self._in_text = True
        print(clean_stream(text).replace("\n", "\n" + dim("  │ ")), end="", flush=True)

    def reset(self, attempt: int) -> None:
        """Say that what was printed of this attempt does not count."""
        self._end_text()
        print(paint(f"  ↻ what attempt {attempt} said above does not count", "yellow"))

    def _end_text(self) -> None:
        if self._in_text:
            print()
            self._in_text = False

    def emit(self, event: TelemetryEvent) -> None:
        """Print the line (or lines) of `event`."""
        if isinstance(event, FirstText):
            return  # it comes with the text itself
        self._end_text()
        run = event.run
        self._indent = _INDENT * (
            0 if run is None else run.depth
        )  # runs of agents that were asked stand further in
        if isinstance(event, EffectEnded):
            self._effect(event)
        elif isinstance(event, ToolProgress):
            self._say(dim(f"  … {clean(event.action.resource, 40)}: {clean(event.text, 300)}"))
        elif isinstance(event, RunStarted):
            self._say(
                dim(f"run {event.run.id}  agent {event.run.agent}  remit {event.run.remit_digest[:12]}")
            )
        elif isinstance(event, AttemptEnded) and event.retry_in_s is not None:
            self._say(
                paint(
                    f"  ↻ attempt {event.attempt} failed ({event.error}), next in {event.retry_in_s:g} s",
                    "yellow",
                )
            )
        elif isinstance(event, ThresholdCrossed):
            alert = event.alert
            spent, cap = format_usd(alert.spent_nano_usd, 2), format_usd(alert.cap_nano_usd, 2)
            self._say(
                paint(
                    f"  ! {alert.threshold_percent} % of {alert.scope} is spent: {spent} of {cap}", "yellow"
                )
            )

    def _say(self, text: str) -> None:
        print(self._indent + text.replace("\n", f"\n{self._indent}"))

    def _effect(self, event: EffectEnded) -> None:
        took = dim(f"{event.duration_us / 1000:8.1f} ms")
        if isinstance(event.action, ModelCall):
            self._model(event, took)
        elif isinstance(event.action, ToolCall):
            mark, text = _verdict(event)
            args = clean(event.action.args.decode(), _ARGS_CHARS_MAX)
            within = event.action.place.within
            by = dim(f"{clean(within, 40)} > ") if within else ""
            self._say(f"  {mark} {by}{bold(clean(event.action.resource, 40))} {dim(args)}  {took}")
            self._say(f"      {text}")
        elif not isinstance(event.outcome, Done):
            self._say(f"  {' '.join(_verdict(event))}  {took}")

    def _model(self, event: EffectEnded, took: str) -> None:
        outcome = event.outcome
        if not isinstance(outcome, Done) or not isinstance(outcome.value, ModelReply):
            mark, text = _verdict(event)
            self._say(f"{event.action.place.step}. {mark} model {text}  {took}")
            return
        reply = outcome.value
        tokens = f"{reply.usage.prompt_tokens}+{reply.usage.output_tokens} tokens"
        cost = format_usd(outcome.cost_nano_usd)
        self._say(
            f"{event.action.place.step}. {bold('model')} {dim(f'{reply.model}  {tokens}  {cost}')}  {took}"
        )
        if reply.text and reply.tool_uses:
            self._say(f"      {clean(reply.text, 300)}")


def _verdict(event: EffectEnded) -> tuple[str, str]:
    """A mark, and what became of the call."""
    outcome = event.outcome
    source = f"{event.decision.rule}, {event.decision.source}"
    match outcome:
        case Done():
            return paint("✓", "green"), f"{_summary(outcome)}  {dim(f'allowed by {source}')}"
        case Refused(decision=decision):
            return paint("✗", "red"), paint("BLOCKED ", "red") + clean(decision.explain(), 300)
        case Suspended(approval_id=approval_id, decision=decision):
            text = clean(decision.reason, 300)
            if approval_id:
                text = f"waits for a person: approval {approval_id} ({source})"
            return paint("⏸", "yellow"), paint(text, "yellow")
        case Failed(code=code, message=message):
            return paint("✗", "red"), paint(f"{code}: {clean(message, 300)}", "red")
        case Unknown(reason=reason):
            return paint("?", "magenta"), paint(
                f"UNKNOWN whether it happened: {clean(reason, 300)}", "magenta"
            )


def _summary(outcome: Done) -> str:
    """A result in a few words: how many records, or its beginning."""
    value = outcome.value
    cut = ", cut" if outcome.truncated else ""
    if isinstance(value, dict):
        for name in ("results", "rows"):
            if isinstance(value.get(name), list):
                return f"{len(value[name])} {name}{cut}"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return clean(text, _ARGS_CHARS_MAX) + cut
