"""A governed call of a model through the provider's real client, beside the client alone.

Both ask the scripted model server over the loopback, in turn. It runs in a process of its own, so the CPU is
that of the client alone; the difference is what governing the call costs.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Measure, Options, Samples
from benchmarks.parts import PRINCIPAL, Parts, PartsOptions, no_op, open_parts, tool
from remit.adapters.models import AnthropicModel
from remit.core import actions
from remit.core.actions import Place
from remit.core.messages import Message, ModelRequest, Text
from remit.core.outcomes import Done
from remit.governance.gate import GovernedRun

if TYPE_CHECKING:
    import anthropic

MODEL = "claude-sonnet-4-20260514"
QUESTION = "How do I change the address on my invoice?"
MAX_TOKENS = 256
REQUEST = ModelRequest(
    model=MODEL,
    system="",
    messages=(Message(role="user", parts=(Text(text=QUESTION),)),),
    tools=(),
    max_output_tokens=MAX_TOKENS,
)


def measure(options: Options) -> list[Measure]:
    """CPU and wall time of one call, governed and plain, in turn."""
    found = asyncio.run(_measure(options))
    plain = found.median("plain_cpu")
    added = tuple(
        governed - alone
        for governed, alone in zip(found.of("governed_cpu"), found.of("plain_cpu"), strict=True)
    )
    client = "the provider's client"
    rows = (
        ("plain SDK, CPU a call", found.of("plain_cpu"), None, None, client),
        ("our adapter without the gate, CPU a call", found.of("adapter_cpu"), plain, None, client),
        ("governed, CPU a call", found.of("governed_cpu"), plain, None, client),
        (
            "added by governing, CPU a call",
            added,
            None,
            500.0,
            "gate, two commits, span, log line; body building",
        ),
        ("plain SDK, wall time a call", found.of("plain_wall"), None, None, client),
        (
            "governed, wall time a call",
            found.of("governed_wall"),
            found.median("plain_wall"),
            None,
            "two commits",
        ),
    )
    return [
        Measure(
            topic="model-call",
            name=name,
            unit="us",
            samples=samples,
            floor=floor,
            target=target,
            limited_by=limited_by,
        )
        for name, samples, floor, target, limited_by in rows
    ]


async def _measure(options: Options) -> Samples:
    # imported here: the client takes a second or two, which topics that do not need it need not pay
    import anthropic

    found = Samples()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, _model_server() as base_url:
        model = AnthropicModel("offline", base_url=base_url)
        parts_options = PartsOptions(tools=[(tool("noop"), no_op)], model=model, model_name=MODEL)
        async with (
            anthropic.AsyncAnthropic(api_key="offline", base_url=base_url, max_retries=0) as client,
            open_parts(Path(folder), parts_options) as parts,
        ):
            calls = {
                "plain": _plain(client),
                "adapter": _ungoverned(model),
                "governed": _governed(parts, await parts.begin()),
            }
            number = 0
            for repetition in range(options.pick(3, 7)):
                for key, call in calls.items():
                    count = 60
                    figures = await _taken_us(call, number, count)
                    number += count
                    if repetition:  # the first warms connections and caches
                        found.add(**{f"{key}_{name}": figure for name, figure in figures.items()})
        await model.aclose()
    return found


@contextmanager
def _model_server() -> Iterator[str]:
    """The address of a scripted model server, as users start one."""
    start = "from remit.cli.main import main; main()"
    command = [sys.executable, "-c", start, "model-server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[3]
        finally:
            process.terminate()


async def _taken_us(call: Callable[[int], Awaitable[None]], first: int, count: int) -> dict[str, float]:
    gc.collect()
    began, cpu_began = time.perf_counter_ns(), time.process_time_ns()
    for number in range(first, first + count):
        await call(number)
    wall_ns, cpu_ns = time.perf_counter_ns() - began, time.process_time_ns() - cpu_began
    return {"wall": wall_ns / 1e3 / count, "cpu": cpu_ns / 1e3 / count}


def _plain(client: anthropic.AsyncAnthropic) -> Callable[[int], Awaitable[None]]:
    async def call(number: int) -> None:
        message = await client.messages.create(
            model=MODEL, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": QUESTION}]
        )
        assert message.usage.output_tokens > 0

    return call


def _ungoverned(model: AnthropicModel) -> Callable[[int], Awaitable[None]]:
    async def call(number: int) -> None:
        reply = await model.complete(REQUEST)
        assert reply.usage.output_tokens > 0

    return call


def _governed(parts: Parts, governed: GovernedRun) -> Callable[[int], Awaitable[None]]:
    digests = tuple(actions.message_digest(message) for message in REQUEST.messages)

    async def call(number: int) -> None:
        place = Place(run_id=governed.run.id, step=1, name=f"m{number}", principal=PRINCIPAL)
        outcome = await parts.gate.perform(actions.model_call(place, REQUEST, digests), governed)
        assert isinstance(outcome, Done), outcome

    return call
