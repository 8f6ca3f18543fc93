"""Python functions as tools: declared in the sandbox, called in it, their results checked."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remit.adapters.tools.python.sources import digest_of, settings_of
from remit.adapters.tools.python.specs import declare_python
from remit.adapters.tools.python.toolset import PROGRESS_MAX, PythonTools, open_python
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.core.messages import ToolUse
from remit.core.outcomes import Done, Failed, Refused
from remit.governance import denials
from remit.governance.toolsets import PythonToolset
from remit.ports.effects import CallContext, EffectFailed, EffectPending
from remit.runtime.clock import SystemClock
from remit.runtime.context import tool_result

ROOT = Path(__file__).parents[3]
HEAD = "from remit.tools import Context, tool\n"
CONTEXT = CallContext(
    run_id="r",
    tenant="t",
    agent="a",
    idempotency_key="key",
    constraints=Constraints(timeout_s=20.0, output_bytes_max=10_000),
)


LEAST = "namespaced" if os.getuid() == 0 else "sandboxed"
"""What will do: as root the interpreter may lie where nobody else can read it, but for namespaces."""


def section(**given: Any) -> PythonToolset:
    return PythonToolset.model_validate({"kind": "python", "source": "tools.py", "isolation": LEAST, **given})


async def opened(folder: Path, text: str, **given: Any) -> PythonTools:
    (folder / "tools.py").write_text(HEAD + text)
    one = section(**given)
    declared = declare_python("t", one, folder, SystemClock())
    return await open_python(settings_of("t", one, folder), declared, SystemClock())


async def test_the_example_gives_three_typed_refusals() -> None:
    folder = ROOT / "examples/sandbox"
    one = section(memory_mb=256)
    declared = declare_python("words", one, folder, SystemClock())
    tools = await open_python(settings_of("words", one, folder), declared, SystemClock())
    try:
        assert await tools.call("count_words", {"text": "two words"}, CONTEXT) == {"words": 2, "letters": 8}
        for name, code, said in (
            ("read_passwords", "sandbox.denied", "/etc/shadow"),
            ("call_home", "sandbox.denied", "socket"),
            ("eat_memory", "sandbox.limit", "memory"),
        ):
            with pytest.raises(EffectFailed) as raised:
                await tools.call(name, {}, CONTEXT)
            assert (raised.value.code, said in raised.value.message) == (code, True), raised.value.message
    finally:
        await tools.close()


async def test_the_page_in_the_documentation_does_what_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/sandbox.md").read_text()
    text = page.split("```python\n")[1].split("```")[0]
    tools = await opened(tmp_path, text)
    try:
        assert await tools.call("quote", {"weight_kg": 2.0, "zone": "us"}, CONTEXT) == {"eur": 10.5}
        with pytest.raises(EffectFailed, match="go by freight"):
            await tools.call("quote", {"weight_kg": 31}, CONTEXT)
    finally:
        await tools.close()


def test_the_declaration_is_the_sources_and_the_files_word_is_last(tmp_path: Path) -> None:
    text = '@tool(effect="read", timeout_s=5)\ndef look(a: int) -> int:\n    """Look."""\n    return a\n'
    (tmp_path / "tools.py").write_text(HEAD + text)
    clock = SystemClock()
    (spec,) = declare_python("t", section(), tmp_path, clock).specs
    assert (spec.effect, spec.idempotency, spec.timeout_s) == ("read", "at_most_once", 5.0)
    assert (spec.result_trust, spec.isolation) == ("untrusted", LEAST)
    assert spec.result_schema == {"type": "integer"}
    override = {"look": {"effect": "write", "classes": ["pii"]}}
    (spec,) = declare_python("t", section(tools=override), tmp_path, clock).specs
    assert (spec.effect, spec.classes) == ("write", ("pii",))
    with pytest.raises(RemitError, match="has no tool 'lok'; it has look"):
        declare_python("t", section(tools={"lok": {}}), tmp_path, clock)


def test_what_is_kept_is_found_by_the_sources_alone(tmp_path: Path) -> None:
    clock = SystemClock()
    (tmp_path / "tools.py").write_text(HEAD + '@tool\ndef one() -> int:\n    """One."""\n    return 1\n')
    first = declare_python("t", section(), tmp_path, clock)
    (kept,) = (tmp_path / "__pycache__").glob("remit-*.json")
    assert declare_python("t", section(), tmp_path, clock) == first
    kept.write_text("[]x")
    assert declare_python("t", section(), tmp_path, clock) == first
    (tmp_path / "tools.py").write_text(HEAD + '@tool\ndef two() -> int:\n    """Two."""\n    return 2\n')
    second = declare_python("t", section(), tmp_path, clock)
    assert [spec.name for spec in second.specs] == ["two"]
    assert second.digest != first.digest


async def test_sources_that_changed_since_are_not_run(tmp_path: Path) -> None:
    clock = SystemClock()
    (tmp_path / "tools.py").write_text(HEAD + '@tool\ndef one() -> int:\n    """One."""\n    return 1\n')
    declared = declare_python("t", section(), tmp_path, clock)
    (tmp_path / "tools.py").write_text(HEAD + '@tool\ndef one() -> int:\n    """One."""\n    return 2\n')
    with pytest.raises(RemitError, match="have changed"):
        await open_python(settings_of("t", section(), tmp_path), declared, clock)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def one() -> int:\n    return 1\n", "has no function marked @tool"),
        ("@tool\ndef one(a) -> int:\n    return 1\n", "tools.py:2: one"),
        ("import nothing_like_it\n", "it raised ModuleNotFoundError at tools.py:2"),
        ("def one(:\n", "SyntaxError"),
        ("open('/etc/passwd')\n", "sandbox refused /etc/passwd"),
        ("import socket; socket.socket()\n", "sandbox refused the system call socket"),
        (
            '@tool(effect="destroy")\ndef one() -> int:\n    """One."""\n    return 1\n',
            "0.effect: Input should be",
        ),
        (
            '@tool\ndef one() -> int:\n    """One."""\n    return 1\n'
            "import remit.adapters.sandbox.inside.runner as runner\nold = runner.declare\n"
            "def declare(*given):\n    made = old(*given)\n    made.args_schema['$ref'] = 'http://127.0.0.1/'\n"
            "    return made\nrunner.declare = declare\n",
            "a schema holds no $ref",
        ),
    ],
)
def test_what_is_wrong_with_a_module_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tools.py").write_text(HEAD + text)
    with pytest.raises(RemitError) as raised:
        declare_python("t", section(), tmp_path, SystemClock())
    assert said in f"{raised.value.message} {raised.value.cause}"


async def test_a_folder_of_modules_with_packages_and_files(tmp_path: Path) -> None:
    folder = tmp_path / "crm"
    (folder / "parts").mkdir(parents=True)
    (folder / "customers.py").write_text(
        HEAD
        + "from parts.names import full\n"
        + '@tool\ndef name_of(id: int) -> str:\n    """Name."""\n    import shop\n'
        + "    return full(id) + shop.NAME + open(PLACE).read()\n"
        + f"PLACE = {str(tmp_path / 'data.txt')!r}\n"
    )
    (folder / "parts/__init__.py").write_text("")
    (folder / "parts/names.py").write_text("def full(id: int) -> str:\n    return f'customer {id} of '\n")
    (folder / "_draft.py").write_text("raise SystemExit\n")
    (tmp_path / "data.txt").write_text(", since ever")
    venv = tmp_path / "venv"
    packages = venv / "lib/python3.11/site-packages"
    (packages / "shop-1.dist-info").mkdir(parents=True)
    (packages / "shop-1.dist-info/RECORD").write_text("shop.py,sha256=a,5\n")
    (packages / "shop.py").write_text("NAME = 'the shop'\n")
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to(Path(__import__("sys").executable).resolve())
    one = section(source="crm", venv="venv", reads=["data.txt"])
    declared = declare_python("t", one, tmp_path, SystemClock())
    tools = await open_python(settings_of("t", one, tmp_path), declared, SystemClock())
    try:
        assert await tools.call("name_of", {"id": 5}, CONTEXT) == "customer 5 of the shop, since ever"
    finally:
        await tools.close()
    before = digest_of(settings_of("t", one, tmp_path))
    (packages / "shop-1.dist-info/RECORD").write_text("shop.py,sha256=b,5\n")
    assert digest_of(settings_of("t", one, tmp_path)) != before


async def test_a_result_that_is_not_as_declared_is_refused(tmp_path: Path) -> None:
    tools = await opened(tmp_path, '@tool\ndef one() -> int:\n    """One."""\n    return "1"\n')
    try:
        with pytest.raises(EffectFailed) as raised:
            await tools.call("one", {}, CONTEXT)
        assert raised.value.code == "tool.result_invalid"
    finally:
        await tools.close()


async def test_a_tool_that_requires_more_than_there_is_is_never_run(tmp_path: Path) -> None:
    tools = await opened(tmp_path, '@tool\ndef one() -> int:\n    """One."""\n    return 1\n')
    try:
        assert await tools.call("one", {}, CONTEXT) == 1
        tools.isolation = "process"
        with pytest.raises(EffectFailed) as raised:
            await tools.call("one", {}, CONTEXT)
        assert raised.value.code == "sandbox.unavailable"
        assert f"requires a sandbox that is {LEAST}" in raised.value.message
    finally:
        await tools.close()


async def test_what_a_failed_call_printed_is_never_shown_to_the_model(tmp_path: Path) -> None:
    text = '@tool\ndef one() -> int:\n    """One."""\n    print("alice@example.com")\n    return 1 // 0\n'
    tools = await opened(tmp_path, text)
    try:
        with pytest.raises(EffectFailed) as raised:
            await tools.call("one", {}, CONTEXT)
        error = raised.value
        assert error.output.startswith("alice@example.com\nTraceback")
        failed = Failed(code=error.code, message=error.message, output=error.output)
        shown = tool_result(ToolUse(id="1", name="one", args={}), failed)
        assert "ZeroDivisionError" in shown.content
        assert "alice" not in f"{shown}{failed}"
    finally:
        await tools.close()


async def test_a_deadline_is_the_calls(tmp_path: Path) -> None:
    tools = await opened(
        tmp_path, '@tool\ndef one() -> int:\n    """One."""\n    while True:\n        pass\n'
    )
    try:
        short = CONTEXT._replace(constraints=replace(CONTEXT.constraints, timeout_s=0.3))
        with pytest.raises(EffectFailed) as raised:
            await tools.call("one", {}, short)
        assert raised.value.code == "tool.timeout"
    finally:
        await tools.close()


CALLER = '''
from remit.tools import ToolFailure

@tool(effect="write")
def order(ctx: Context) -> list[str]:
    """Call others."""
    ctx.progress("one\\x1b[31m")
    said = [str(ctx.call("look", id=1)), ",".join(ctx.uses)]
    for name in ("cut", "refused", "failed"):
        try:
            ctx.call(name)
        except ToolFailure as error:
            said.append(f"{error} {error.retryable}")
    return said

@tool
def waits(ctx: Context) -> None:
    """Call what waits."""
    ctx.call("waits")

@tool
def makes_up(ctx: Context) -> str:
    """Ask for what there is not."""
    for kind, request in (("secrets", {}), ("call", {"tool": 1}), ("progress", {"text": []})):
        try:
            return str(ctx.ask(kind, request))
        except ToolFailure as error:
            assert "no such request" in str(error)
    return "refused"
'''


async def test_a_function_calls_other_tools_by_its_context_and_nothing_else(tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []
    told: list[str] = []

    async def inner(tool: str, args: Any) -> Done | Refused | Failed:
        asked.append((tool, args))
        match tool:
            case "look":
                return Done(value={"seen": args["id"]})
            case "cut":
                return Done(value={}, truncated=True)
            case "refused":
                return Refused(decision=denials.of_code("data.denied", "not for you"))
            case "failed":
                return Failed(code="tool.failed", message="broken", retryable=True)
        raise EffectPending("a person decides")

    context = CONTEXT._replace(inner=inner, on_progress=told.append)
    tools = await opened(tmp_path, CALLER, uses=["look", "waits"])
    try:
        said = await tools.call("order", {}, context)
        assert said[:2] == ["{'seen': 1}", "look,waits"]
        assert ["ask for less" in said[2], "not for you" in said[3], said[4]] == [True, True, "broken True"]
        assert [name for name, _ in asked] == ["look", "cut", "refused", "failed"]
        assert len(told) == 1
        with pytest.raises(EffectPending, match="a person decides"):
            await tools.call("waits", {}, context)
        assert await tools.call("makes_up", {}, context) == "refused"
        with pytest.raises(EffectFailed, match="look was not granted"):
            await tools.call("order", {}, CONTEXT)
    finally:
        await tools.close()


def test_a_function_uses_what_it_says_of_what_is_granted(tmp_path: Path) -> None:
    text = '''
@tool(uses=["look"])
def one(ctx: Context) -> None:
    """One."""

@tool
def all_of_them(ctx: Context) -> None:
    """All."""

@tool(uses=[])
def none() -> None:
    """None."""
'''
    (tmp_path / "tools.py").write_text(HEAD + text)
    declared = declare_python("t", section(uses=["look", "pay"]), tmp_path, SystemClock())
    assert {spec.name: spec.uses for spec in declared.specs} == {
        "one": ("look",),
        "all_of_them": ("look", "pay"),
        "none": (),
    }
    with pytest.raises(RemitError, match="one uses look, which is not granted"):
        declare_python("t", section(uses=["pay"]), tmp_path, SystemClock())


async def test_the_page_shows_a_function_that_calls_and_its_test(tmp_path: Path) -> None:
    page = (ROOT / "docs/sandbox.md").read_text()
    text = next(part for part in page.split("```python\n") if part.startswith("# sums.py")).split("```")[0]
    tools = await opened(tmp_path, text, uses=["orders_of"])

    async def inner(tool: str, args: Any) -> Done:
        return Done(value={"rows": [{"eur": 5.0}, {"eur": 2.5}], "asked": [tool, args]})

    try:
        assert await tools.call("owed", {"customer": "C-1"}, CONTEXT._replace(inner=inner)) == {"eur": 7.5}
    finally:
        await tools.close()


FLOOD = '''
import socket

from remit.adapters.sandbox.inside import wire

@tool
def floods(ctx: Context) -> None:
    """Say something without end, and pass over what is answered."""
    while True:
        wire.send(ctx._channel, {"ask": "progress", "request": {"text": "x"}})
        try:
            ctx._channel.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
'''


async def test_a_function_that_asks_without_end_is_ended_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    tools = await opened(tmp_path, FLOOD)
    told: list[str] = []
    try:
        with pytest.raises(EffectFailed) as raised:
            await tools.call("floods", {}, CONTEXT._replace(on_progress=told.append))
        assert (raised.value.code, "asked for more than" in raised.value.message) == ("sandbox.limit", True)
        assert len(told) == PROGRESS_MAX
    finally:
        await tools.close()
