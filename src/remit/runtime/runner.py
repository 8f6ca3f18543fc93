"""Takes a task to its end: a run is journaled, waits for a slot, is attempted, and always ends recorded.

A retried attempt goes on where the failed one stopped; the waits between attempts are 1, 2, 4 ... s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from remit.core import audit
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.memory import Seen
from remit.core.messages import Attachment, Usage
from remit.core.runs import Ceiling, Run, RunEnd
from remit.governance import records
from remit.governance.gate import Gate, GateServices, GovernedRun
from remit.governance.history import History, history_of
from remit.governance.rules import Rules
from remit.ports.runs import RunEnding
from remit.ports.services import AttemptEnded, RunStarted, RunStopped, Stream
from remit.runtime import intake
from remit.runtime.context import Conversation
from remit.runtime.endings import AttemptFailed
from remit.runtime.health import Health
from remit.runtime.loop import AgentLoop
from remit.runtime.retries import Retries, Retry
from remit.runtime.sessions import Session
from remit.runtime.slots import Slots, left_s
from remit.runtime.stops import POLL_S as STOP_POLL_S
from remit.runtime.stops import Stops
from remit.runtime.streaming import Streaming

_ROUNDS_TO_LOOK, _LEASE_WAIT_S = 10, 0.2
_CANCELLED = RunEnd(status="cancelled", code="run.cancelled", message="whoever started it cancelled it")
_HANDED_OVER = RunEnd(status="suspended", code="run.handed_over", message="its process was asked to end")
_TAKEN = RunEnd(status="suspended", code="run.handed_over", message="another worker has it by now")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run that ended or waits. `cost_nano_usd` is what its calls are known to have cost."""

    run: Run
    end: RunEnd
    steps: int
    attempts: int
    usage: Usage
    cost_nano_usd: int
    duration_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a run is given beside its own row; `history` where it goes on."""

    stream: Stream | None = None
    attachments: Sequence[Attachment] = ()
    history: History | None = None
    callers: tuple[Ceiling, ...] = ()


class Runner:
    """Runs one agent's tasks, as many side by side as its remit allows."""

    def __init__(self, services: GateServices, gate: Gate, rules: Rules) -> None:
        self._journal = services.journal
        self._clock = services.clock
        self._telemetry = services.telemetry
        self._gate = gate
        self._rules = rules
        self._health = Health(services.clock)
        self._retries = Retries(rules.remit, self._health, services.clock)
        self._has_lease = services.has_lease
        self._stops = Stops(services.journal, services.clock)
        self._slots = Slots(services.journal, services.clock, rules.remit.max_concurrent_runs)
        self._attended: set[str] = set()

    async def announce(self) -> bool:
        """Record the remit where it is another than the agent had before; whether it was."""
        remit = self._rules.remit
        at_us = self._clock.now_us()
        record = audit.record("remit", at_us, {"agent": remit.agent, "remit": remit.digest})
        return await self._journal.register_remit(remit.agent, remit.digest, at_us, record)

    async def run(
        self,
        text: str,
        principal: Principal,
        stream: Stream | None = None,
        attachments: Sequence[Attachment] = (),
        session: str = "",
    ) -> RunResult:
        """Give the agent a task; its replies are shown to `stream` while they are made.

        `session`: the conversation that it goes on with.
        Raises: RemitError `value.invalid`, `value.too_large`, `memory.not_granted` (nothing was begun),
        `journal.unavailable`.
        """
        run = intake.new_run(self._rules.remit, text, principal, self._clock, session)
        try:
            with self._attending(run.id):
                if not await self._journal.create_run(intake.start_of(run, attachments)):
                    raise RemitError("internal", f"there is a run {run.id} already")
                end = await self._take_slot(run)
                if end is not None:
                    await self._end(run, end)
                    return _unbegun(run, await self._recorded(run, end))
                try:
                    return await self._attend(run, _Task(stream=stream, attachments=attachments))
                finally:
                    self._slots.release()
        except asyncio.CancelledError:
            with suppress(RemitError):  # a dead journal ends it at the next start; cancelled it is either way
                await self._end(run, _CANCELLED)
            raise

    async def resume(
        self,
        run_id: str,
        stream: Stream | None = None,
        callers: tuple[Ceiling, ...] = (),
        patience_s: float | None = None,
    ) -> RunResult:
        """Begin a run that no process attends, or go on with one where it stopped.

        What is on record is neither decided nor done again. `callers`: the runs above it, nearest first; a run that
        another has started goes on under all of them alone. `patience_s`: how long it may wait for a slot, by default as
        long as a run may last.

        Raises: RemitError `run.unknown`, `run.not_running`, `remit.changed`, `run.no_slot`, `journal.unavailable`.
        """
        run = await self._waiting(run_id, callers)
        # it has the time that it had left when it stopped, once it is begun; until then it waits for a slot
        wait_s = self._rules.remit.run_timeout_s if patience_s is None else patience_s
        until_us = self._clock.now_us() + int(wait_s * 1_000_000)
        with self._attending(run_id):
            end = await self._take_slot(replace(run, deadline_us=until_us))
            if end is not None:
                raise RemitError(end.code, end.message)
            try:
                return await self._go_on(run, _Task(stream=stream, callers=callers))
            except RemitError as error:
                await self._leave(
                    run, _HANDED_OVER if error.kind.retryable else _broken(error.code, str(error))
                )
                raise
            except asyncio.CancelledError:
                await self._leave(run, _HANDED_OVER)
                raise
            except Exception as error:  # of ours: who tried again would break as well
                await self._leave(run, _broken("internal", f"it broke with {type(error).__name__}"))
                raise
            finally:
                self._slots.release()

    async def _go_on(self, run: Run, task: _Task) -> RunResult:
        """From here on as its record says: nothing of it is decided or done again."""
        record = await self._journal.run(run.id)
        calls, refusals = await self._journal.calls(run.id), await self._journal.refusals(run.id)
        attached = await self._journal.attachments(run.id)
        task = replace(task, attachments=attached, history=history_of(calls, refusals))
        return await self._attend(run if record is None else record.run, task)

    async def _leave(self, run: Run, end: RunEnd) -> None:
        with suppress(RemitError):  # the journal is away: `watch` leaves the run once it is back
            await self._end(run, end)

    async def watch(self) -> None:
        """End the runs that somebody ends in another process, and leave none behind, until this is cancelled."""
        rounds = 0
        while True:
            with suppress(RemitError):  # the journal is away: the gate lets nothing happen either
                await self._stops.poll()
                if rounds % _ROUNDS_TO_LOOK == 0:
                    await self._return_unattended()
            rounds += 1
            await self._clock.sleep(STOP_POLL_S)

    def idle_s(self) -> float:
        """How long it would be of no use to begin a run: no model can be asked, or this worker has no lease."""
        models = (self._rules.remit.model, *self._rules.remit.fallback_models)
        return min(map(self._health.blocked_s, models)) if self._has_lease() else _LEASE_WAIT_S

    def hand_over(self) -> None:
        """End all runs where they are; each waits in the journal, to go on in another process."""
        self._stops.hand_over()

    def lose_runs(self) -> None:
        """End all runs where they are, because they may be another's; what begins from now on is this process's."""
        self._stops.lose_all()

    async def _return_unattended(self) -> None:
        """Leave to others what the journal takes for this process's, and is not: its end could not be recorded."""
        held = await self._journal.held_runs()
        for run_id in set(held) - self._attended:
            record = await self._journal.run(run_id)
            # the runs of other agents of this process are their own runners'
            remit = self._rules.remit
            ours = record is not None and (record.run.agent, record.run.remit_digest) == (
                remit.agent,
                remit.digest,
            )
            if record is not None and ours and run_id not in self._attended:
                await self._end(record.run, _HANDED_OVER)

    async def _waiting(self, run_id: str, callers: tuple[Ceiling, ...]) -> Run:
        record = await self._journal.run(run_id)
        remit = self._rules.remit
        if record is None:
            raise RemitError("run.unknown", f"there is no run {run_id}")
        run = record.run
        if record.status not in ("suspended", "queued"):
            raise RemitError("run.not_running", f"the run is {record.status}, it does not wait")
        if run.caller_id != (callers[0].run_id if callers else None):
            remedy = f"resume the run that started it: {run.caller_id}"
            raise RemitError("run.not_running", "the run goes on with the one that started it", remedy=remedy)
        if (run.agent, run.remit_digest) != (remit.agent, remit.digest):
            began, now = f"{run.agent} {run.remit_digest[:12]}", f"{remit.agent} {remit.digest[:12]}"
            raise RemitError(
                "remit.changed", f"the run began under another remit: {began}, and this is {now}"
            )
        return run

    async def _take_slot(self, run: Run) -> RunEnd | None:
        """None once the run is running; how it ends where it did not come to that."""
        try:
            with self._stops.of(run.id):
                return None if await self._slots.take(run) else self._no_slot()
        except TimeoutError:
            return self._stopped(run)
        except RemitError as error:
            if error.code != "run.not_running":
                raise
            return RunEnd(status="cancelled", code=error.code, message=error.message)

    def _no_slot(self) -> RunEnd:
        message = f"no slot of {self._rules.remit.max_concurrent_runs} became free in time"
        return RunEnd(status="timed_out", code="run.no_slot", message=message)

    def _stopped(self, run: Run) -> RunEnd:
        return _HANDED_OVER if self._stops.hands_over(run.id) else _CANCELLED

    @contextmanager
    def _attending(self, run_id: str) -> Iterator[None]:
        """While a run is this process's. Raises: RemitError `run.not_running` where it is so already."""
        if run_id in self._attended:
            raise RemitError("run.not_running", "the run is under way in this process")
        self._attended.add(run_id)
        try:
            yield
        finally:
            self._attended.discard(run_id)
            self._stops.forget(run_id)

    async def _attend(self, run: Run, task: _Task) -> RunResult:
        started_us, began_ns = self._clock.now_us(), self._clock.monotonic_ns()
        self._telemetry.emit(RunStarted(run=run))
        history = task.history
        replies = {} if history is None else history.replies
        conversation = Conversation(run, self._rules, task.attachments, replies)
        streaming = Streaming(run, task.stream, self._clock, self._telemetry)
        loop = AgentLoop(self._gate, conversation, self._health, streaming)
        loop.session = Session(self._gate, run, self._rules) if run.session else None
        governed = GovernedRun(
            run=run,
            rules=self._rules,
            attempt=1 if history is None else history.attempt,
            history=history,
            seen=await self._seen(run, task.callers),
            callers=task.callers,
        )
        attempts = 0
        end = _CANCELLED
        try:
            end, attempts = await self._attempts(governed, loop)
            if end.status != "succeeded" or history is not None:
                await self._end(run, end)  # else the commit of its answer did
            end = await self._recorded(run, end)
        finally:
            duration_us = (self._clock.monotonic_ns() - began_ns) // 1000
            self._telemetry.emit(
                RunStopped(
                    run=run,
                    end=end,
                    started_us=started_us,
                    duration_us=duration_us,
                    usage=loop.usage,
                    cost_nano_usd=loop.cost_nano_usd,
                )
            )
        return RunResult(
            run=run,
            end=end,
            steps=conversation.step,
            attempts=attempts,
            usage=loop.usage,
            cost_nano_usd=loop.cost_nano_usd,
            duration_us=duration_us,
        )

    async def _seen(self, run: Run, callers: tuple[Ceiling, ...]) -> Seen | None:
        """What stands in the task: of a run that another has started, anything that those above have read."""
        if self._rules.remit.memory is None:
            return None
        read = [name for above in callers for name in await self._journal.classes(above.run_id)]
        return Seen(classes=read, is_exposed=run.is_strangers)

    async def _attempts(self, governed: GovernedRun, loop: AgentLoop) -> tuple[RunEnd, int]:
        """How the run ended, and after how many attempts."""
        run = governed.run
        stop = None
        try:
            with self._stops.of(run.id) as stop:
                async with asyncio.timeout(left_s(run, self._clock)):
                    while True:
                        governed = replace(governed, on_text=loop.streaming.text_sink(governed.attempt))
                        ended = await self._attempt(governed, loop)
                        if isinstance(ended, RunEnd):
                            return ended, governed.attempt
                        loop.streaming.void(governed.attempt)
                        await self._clock.sleep(ended.wait_s)
                        governed = replace(governed, attempt=governed.attempt + 1)
        except TimeoutError:
            if stop is not None and stop.expired:
                return self._stopped(run), governed.attempt
            message = f"the run took longer than {self._rules.remit.run_timeout_s:g} s"
            return RunEnd(status="timed_out", code="run.timed_out", message=message), governed.attempt
        except Exception as error:
            # an error of ours: the run fails with its type, and every effect it began is on record
            message = f"the run broke with {type(error).__name__}"
            return RunEnd(status="failed", code="internal", message=message), governed.attempt

    async def _attempt(self, governed: GovernedRun, loop: AgentLoop) -> RunEnd | Retry:
        started_us, began_ns = self._clock.now_us(), self._clock.monotonic_ns()
        error, retry_in_s = "cancelled", None
        try:
            ended = await loop.attempt(governed)
            error = ended.code
            if not isinstance(ended, AttemptFailed):
                return ended
            decided = self._retries.after(ended, governed, loop)
            if isinstance(decided, Retry):
                retry_in_s = decided.wait_s
            return decided
        finally:
            self._telemetry.emit(
                AttemptEnded(
                    run=governed.run,
                    attempt=governed.attempt,
                    started_us=started_us,
                    duration_us=(self._clock.monotonic_ns() - began_ns) // 1000,
                    error=error,
                    retry_in_s=retry_in_s,
                )
            )

    async def _end(self, run: Run, end: RunEnd) -> None:
        """Record how the run ended, if it has not ended and is this worker's."""
        at_us = self._clock.now_us()
        ending = RunEnding(end=end, audit=records.run_ended(run, end, at_us))
        await self._journal.end_run(run.id, ending, at_us)

    async def _recorded(self, run: Run, end: RunEnd) -> RunEnd:
        """The end on record: who cancelled a run from outside has said why; and who lost a run has not ended it."""
        if end.status != "cancelled":
            return end
        record = await self._journal.run(run.id)
        if record is None or record.status == "cancelled":
            return end if record is None or record.end is None else record.end
        return _TAKEN


def _broken(code: str, message: str) -> RunEnd:
    return RunEnd(status="failed", code=code, message=message)


def _unbegun(run: Run, end: RunEnd) -> RunResult:
    return RunResult(run=run, end=end, steps=0, attempts=0, usage=Usage(), cost_nano_usd=0, duration_us=0)
