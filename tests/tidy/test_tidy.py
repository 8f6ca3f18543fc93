"""The house's rules as failing tests: size, errors, state, clock and chance, documentation, the tree.

An exception to a rule stands here with its reason, or not at all; one that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "remit"
MODULES = sorted(SOURCE.rglob("*.py"))

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
PARAMETERS_MAX = 6
LOOP_LINES_MAX = 200

BROAD_EXCEPTS = {
    "governance/gate.py": "any error before an effect denies; any error of an effect is failed or unknown",
    "runtime/runner.py": "any error of ours ends the run, recorded",
    "runtime/worker.py": "any error of ours ends its run, and others go on",
    "adapters/journal/writer.py": "any error of an operation rolls its commit back and reaches who asked",
    "adapters/journal/postgres/writer.py": "the same, in batches and one by one",
    "adapters/telemetry/batches.py": "whatever a sink does, its thread lives on; what is lost is counted",
    "adapters/telemetry/fanout.py": "a sink that fails keeps no other sink, and no run, from going on",
    "adapters/sandbox/inside/runner.py": "whatever a tool raises, in its own process, is what became of its call",
    "testing/gate_machine.py": "the state machine maps every error of a scripted part to an observation",
}
CLOCKS_AND_CHANCE = {
    "runtime/clock.py": "the clock itself",
    "adapters/sandbox/probes/attempts.py": "what tries to outlive its deadline, in the sandbox, has no clock of ours",
}
TEXT_SUFFIXES = {
    ".py", ".md", ".toml", ".yaml", ".yml", ".lock", ".in", ".txt", ".cfg", ".json", ".mako", ".csv", ".sh", "",
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def check(findings: list[str]) -> None:
    assert not findings, "\n".join(findings)


def with_exceptions(findings: dict[str, list[str]], allowed: dict[str, str]) -> None:
    """No finding but in the files that are allowed, and none of those without a finding."""
    check([line for name, lines in findings.items() if name not in allowed for line in lines])
    unused = [name for name in allowed if not findings.get(name) and (SOURCE / name).exists()]
    assert not unused, f"no longer needed: {unused}"


def by_file(find: Callable[[Path], Iterator[tuple[int, str]]]) -> dict[str, list[str]]:
    return {
        name_of(path): [f"{name_of(path)}:{line}: {what}" for line, what in find(path)] for path in MODULES
    }


def test_functions_are_short_and_take_few_parameters() -> None:
    findings = []
    for path in MODULES:
        for function in functions(path):
            where = f"{name_of(path)}:{function.lineno}: {function.name}"
            first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
            length = (function.end_lineno or first) - first + 1
            if length > FUNCTION_LINES_MAX:
                findings.append(f"{where} has {length} lines")
            arguments = function.args
            names = [one.arg for one in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > PARAMETERS_MAX:
                findings.append(f"{where} has {count} parameters")
    check(findings)


def test_modules_are_short_and_the_loop_shorter() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    check([f"{name} has {count} lines" for name, count in lengths.items() if count > MODULE_LINES_MAX])
    assert lengths["runtime/loop.py"] <= LOOP_LINES_MAX


def test_every_module_says_what_it_promises() -> None:
    findings = []
    for path in MODULES:
        tree = tree_of(path)
        if tree.body and not ast.get_docstring(tree):
            findings.append(f"{name_of(path)} has no docstring")
    check(findings)


def test_no_error_is_swallowed() -> None:
    def find(path: Path) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            if node.type is None:
                yield node.lineno, "a bare except"
            elif any(isinstance(one, ast.Pass) for one in node.body):
                yield node.lineno, "an error is passed over"

    check([line for lines in by_file(find).values() for line in lines])


def test_any_error_is_caught_only_where_it_becomes_a_refusal_or_a_failure() -> None:
    def find(path: Path) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                last = node.body[-1]
                if isinstance(last, ast.Raise) and last.exc is None:
                    continue  # cleans up and lets the error go on
                names = {one.id for one in ast.walk(node.type) if isinstance(one, ast.Name)}
                if names & {"Exception", "BaseException"}:
                    yield node.lineno, f"catches {ast.unparse(node.type)}"

    with_exceptions(by_file(find), BROAD_EXCEPTS)


def test_no_module_has_state() -> None:
    """Constants are in capitals and are not changed; anything else at the top of a module is state."""

    def find(path: Path) -> Iterator[tuple[int, str]]:
        changed = _changed_names(tree_of(path))
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign):
                targets, value = [node.target], node.value
            else:
                continue
            for target in targets:
                if not isinstance(target, ast.Name) or target.id == "__all__" or not _is_mutable(value):
                    continue
                if target.id != target.id.upper():
                    yield node.lineno, f"{target.id} can change"
                elif target.id in changed:
                    yield node.lineno, f"{target.id} is changed"
        for function in functions(path):
            for inner in ast.walk(function):
                if isinstance(inner, ast.Global):
                    yield inner.lineno, f"global {', '.join(inner.names)}"

    check([line for lines in by_file(find).values() for line in lines])


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp):
        return True
    made = {"dict", "list", "set", "defaultdict", "deque", "Counter", "OrderedDict", "bytearray"}
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in made


def _changed_names(tree: ast.Module) -> set[str]:
    """Names whose items are set or deleted, or on which a method that changes is called."""
    methods = {
        "append",
        "add",
        "update",
        "pop",
        "popitem",
        "clear",
        "extend",
        "insert",
        "remove",
        "setdefault",
    }
    changed = set()
    for node in ast.walk(tree):
        is_item = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
        is_method = isinstance(node, ast.Attribute) and node.attr in methods
        inner = node.value if isinstance(node, ast.Subscript | ast.Attribute) else None
        if (is_item or is_method) and isinstance(inner, ast.Name):
            changed.add(inner.id)
    return changed


def test_time_and_chance_come_through_the_clock() -> None:
    sources = {
        "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"},
        "datetime": {"now", "utcnow", "today"},
        "date": {"today"},
        "os": {"urandom", "getrandom"},
    }

    def find(path: Path) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module]
                for module in modules:
                    if module in ("random", "secrets", "uuid"):
                        yield node.lineno, f"imports {module}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                if node.attr in sources.get(owner, ()):
                    yield node.lineno, f"uses {owner}.{node.attr}"

    with_exceptions(by_file(find), CLOCKS_AND_CHANCE)


def test_imports_inside_functions_have_a_reason() -> None:
    findings = []
    for path in MODULES:
        lines = path.read_text().splitlines()
        for function in functions(path):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom) and "PLC0415" not in lines[node.lineno - 1]:
                    findings.append(f"{name_of(path)}:{node.lineno}: an import without a reason")
    check(sorted(set(findings)))


def test_dataclasses_are_frozen_slotted_and_keyword_only_inside() -> None:
    findings = []
    inside = ("core/", "ports/", "governance/")
    for path in MODULES:
        if not name_of(path).startswith(inside):
            continue
        for node in ast.walk(tree_of(path)):
            for decorator in getattr(node, "decorator_list", []):
                text = ast.unparse(decorator)
                if text.startswith("dataclass") and not {"frozen=True", "slots=True", "kw_only=True"} <= set(
                    re.findall(r"\w+=True", text)
                ):
                    findings.append(f"{name_of(path)}:{node.lineno}: {text}")
    check(findings)


def test_names_say_what_a_thing_is() -> None:
    vague = re.compile(r"(manager|helper|utils?|(?<!Knowledge)base)$", re.IGNORECASE)
    findings = [name_of(path) for path in MODULES if vague.search(path.stem)]
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and vague.search(node.name):
                findings.append(f"{name_of(path)}:{node.lineno}: {node.name}")
    check(findings)


def test_tests_replace_no_part_by_a_mock() -> None:
    forbidden = re.compile(r"^\s*(?:from unittest(?:\.mock)? import .*mock|import unittest\.mock|import mock)", re.MULTILINE | re.IGNORECASE)  # fmt: skip
    check([str(path) for path in (ROOT / "tests").rglob("*.py") if forbidden.search(path.read_text())])


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: the files of the tree are not known")
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file()]


def test_nothing_in_the_tree_names_somebody_s_machine_or_index() -> None:
    # written so that this file does not find itself
    private = re.compile(
        r"(?<![\w.])/(?:work|home|Users)/[a-z]|--(?:extra-)?index-url|--trusted-host|"
        r"https?://[^\s\"')>]*(?:pypi\.|/simple/|artifactory|nexus)"
    )
    findings = []
    for path in _tracked():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if private.search(line):
                findings.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    check(findings)


def test_nothing_is_left_to_do_in_the_tree() -> None:
    words = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    findings = []
    for path in _tracked():
        if path.suffix in (".py", ".md", ".toml", ".yaml", ""):
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if words.search(line):
                    findings.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    check(findings)


def test_the_import_contracts_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "8 kept, 0 broken" in done.stdout
