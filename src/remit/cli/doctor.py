"""`remit doctor`: whether this machine and this home are fit to run agents, and what to mend."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import clean, json_option, paint, print_json
from remit.core.errors import Exit, RemitError
from remit.core.tools import ISOLATION_LEVELS
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment
from remit.wiring.memories import MEMORY_URL, held
from remit.wiring.outbox import has_webhook
from remit.wiring.probes import as_worker, commits_a_second, database_state, journal_state
from remit.wiring.quota import MeasuredQuota, read_quotas
from remit.wiring.remits import load_remit
from remit.wiring.sandbox import given_sandbox

_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "fail": ("✗", "red")}
_FREE_BYTES_MIN = 200 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. `fail` means that a run would not work; `note`, that something is not used or not set."""

    name: str
    status: Literal["ok", "note", "fail"]
    detail: str
    remedy: str = ""


@click.command(
    epilog="\b\nExamples:\n  remit doctor\n  remit doctor agent-config.yaml --json\n  remit doctor --sandbox\n"
)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--sandbox", is_flag=True, help="Try to get out of the sandbox of Python tools, in over 100 ways."
)
@json_option
@click.pass_obj
def command(home: Path, config: Path | None, sandbox: bool, as_json: bool) -> None:
    """Check this machine, the home folder and (if named) the governance file CONFIG. Exit 1 if a check fails.

    With --sandbox, attempts to get out of the sandbox are really made inside it: exit 1 if one succeeds.
    """
    if sandbox:
        from remit.cli.doctor_sandbox import report  # noqa: PLC0415 - much that the other checks do without

        if report(as_json=as_json):
            return
        sys.exit(Exit.FAILED)
    deployment = Deployment(home=home, environment=os.environ)
    findings = [*(check(deployment) for check in _CHECKS), *_quotas(deployment)]
    if config is not None:
        findings.append(_config(config))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark, colour = _MARKS[finding.status]
            print(f"{paint(mark, colour)} {finding.name:<14}{clean(finding.detail)}")
            if finding.remedy:
                print(f"    {finding.remedy}")
    if any(finding.status == "fail" for finding in findings):
        sys.exit(Exit.FAILED)


def _python(_: Deployment) -> Finding:
    return Finding(name="python", status="ok", detail=f"{platform.python_version()} on {platform.platform()}")


def _sqlite(_: Deployment) -> Finding:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE page USING fts5 (text)")
        connection.execute("CREATE TABLE strict (a INTEGER) STRICT")
    except sqlite3.OperationalError as error:
        remedy = "use a Python built with SQLite 3.37 or later and FTS5"
        return Finding(
            name="sqlite", status="fail", detail=f"{sqlite3.sqlite_version}: {error}", remedy=remedy
        )
    finally:
        connection.close()
    return Finding(name="sqlite", status="ok", detail=f"{sqlite3.sqlite_version} with FTS5 and strict tables")


def _disk(deployment: Deployment) -> Finding:
    """Durable commits a second, measured in the home folder (or where it would be made)."""
    folder = next(path for path in (deployment.home, *deployment.home.absolute().parents) if path.is_dir())
    try:
        rate = commits_a_second(folder, SystemClock())
    except (OSError, sqlite3.Error) as error:
        remedy = f"make {folder} writable, or choose another --home"
        return Finding(name="disk", status="fail", detail=f"{folder}: {error}", remedy=remedy)
    free = shutil.disk_usage(folder).free
    detail = f"{folder}: {rate:,.0f} synced commits/s, {free / 1e9:,.1f} GB free"
    if free < _FREE_BYTES_MIN:
        return Finding(
            name="disk", status="fail", detail=detail, remedy="free some space: nothing runs unrecorded"
        )
    return Finding(name="disk", status="ok", detail=detail)


def _database(deployment: Deployment) -> Finding:
    try:
        state, is_readable = database_state(deployment)
    except RemitError as error:
        detail = f"PostgreSQL: {error.message}: {error.cause}"
        remedy = "start the database, or mend REMIT_DATABASE_URL"
        return Finding(name="journal", status="fail", detail=detail, remedy=remedy)
    detail = f"PostgreSQL {state.server}, schema {state.version or 'none yet; the first run makes it'}"
    if not is_readable:
        remedy = "start a run to bring it up to date, or use the version of remit that made it"
        return Finding(name="journal", status="fail", detail=detail, remedy=remedy)
    if not state.is_durable:
        remedy = "a power cut loses what was recorded: set fsync = on"
        return Finding(name="journal", status="note", detail=f"{detail}, fsync is off", remedy=remedy)
    return Finding(name="journal", status="ok", detail=detail)


def _journal(deployment: Deployment) -> Finding:
    if deployment.postgres is not None:
        return _database(deployment)
    path = deployment.journal
    if not path.exists():
        return Finding(name="journal", status="note", detail=f"none yet at {path}; the first run makes it")
    try:
        state = journal_state(deployment)
    except sqlite3.Error as error:
        return Finding(
            name="journal", status="fail", detail=f"{path}: {error}", remedy="restore it from a backup"
        )
    if not state.is_sound:
        remedy = "run the version of remit that made it, or restore it from a backup"
        detail = f"schema {state.version}, check: {state.check}"
        return Finding(name="journal", status="fail", detail=detail, remedy=remedy)
    return Finding(name="journal", status="ok", detail=f"{path}, schema {state.version}, sound")


def _worker(deployment: Deployment) -> Finding:
    if not deployment.home.is_dir():
        return Finding(name="worker", status="note", detail="no home yet, so no worker")
    try:
        with as_worker(deployment):
            return Finding(name="worker", status="ok", detail="no worker is using this home")
    except RemitError as error:
        return Finding(name="worker", status="note", detail=f"{error.message}: {error.cause}")
    except OSError as error:
        remedy = f"make {deployment.home} writable, or choose another --home"
        return Finding(name="worker", status="fail", detail=str(error), remedy=remedy)


def _memory(deployment: Deployment) -> Finding:
    try:
        entries = run_async(held(deployment))
    except RemitError as error:
        remedy = f"start the store, or mend {MEMORY_URL}"
        return Finding(name="memory", status="fail", detail=f"{error.message}: {error.cause}", remedy=remedy)
    if entries is None:
        return Finding(name="memory", status="ok", detail="nothing is remembered yet")
    return Finding(name="memory", status="ok", detail=f"{entries:,} messages and notes are kept")


def _webhook(deployment: Deployment) -> Finding:
    try:
        is_set = has_webhook(deployment)
    except RemitError as error:
        return Finding(name="webhook", status="fail", detail=error.message, remedy=error.remedy)
    detail = (
        "alerts and approvals are posted" if is_set else "none: alerts and approvals are shown here alone"
    )
    return Finding(name="webhook", status="ok", detail=detail)


def _model(deployment: Deployment) -> Finding:
    if deployment.has_model_key:
        return Finding(name="model key", status="ok", detail="a key of a provider is set")
    detail = "neither ANTHROPIC_API_KEY nor OPENAI_API_KEY is set: only --offline works"
    return Finding(name="model key", status="note", detail=detail)


def _telemetry(deployment: Deployment) -> Finding:
    endpoint = deployment.environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    metrics = deployment.environment.get("REMIT_METRICS_ADDRESS", "")
    detail = f"traces in {deployment.traces}; OTLP: {endpoint or 'off'}; metrics: {metrics or 'off'}"
    return Finding(name="telemetry", status="ok", detail=detail)


def _quotas(deployment: Deployment) -> list[Finding]:
    """What each model's provider still allows; as old as the last call, because there is no way to ask."""
    by_model: dict[str, list[MeasuredQuota]] = {}
    for one in read_quotas(deployment.quota):
        by_model.setdefault(f"{one.quota.provider} {one.quota.model}", []).append(one)
    if not by_model:
        return [
            Finding(name="quota", status="note", detail="not known: no provider was asked from this home")
        ]
    now_us = SystemClock().now_us()
    return [_quota(model, measured, now_us) for model, measured in sorted(by_model.items())]


def _quota(model: str, measured: list[MeasuredQuota], now_us: int) -> Finding:
    shares = []
    is_low = False
    for quota in (one.quota for one in measured):
        is_whole = quota.resets_at_us is not None and quota.resets_at_us <= now_us
        is_low = is_low or (not is_whole and quota.remaining * 10 < quota.limit)
        since = ", reset since" if is_whole else ""
        kind = quota.kind.replace("_", " ")
        shares.append(f"{quota.remaining:,} of {quota.limit:,} {kind}{since}")
    age_s = max(now_us - max(one.at_us for one in measured), 0) // 1_000_000
    detail = f"{model}: {'; '.join(shares)} (left {_age(age_s)} ago)"
    remedy = "less than a tenth is left: expect 429, or ask the provider for more" if is_low else ""
    return Finding(name="quota", status="note" if is_low else "ok", detail=detail, remedy=remedy)


def _age(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _config(config: Path) -> Finding:
    try:
        remit = load_remit(config)
    except RemitError as error:
        detail = f"{error.message}: {error.cause}"
        return Finding(name="configuration", status="fail", detail=detail, remedy=f"remit check {config}")
    return Finding(
        name="configuration", status="ok", detail=f"{config}: {remit.agent}, remit {remit.digest[:12]}"
    )


def _sandbox(_: Deployment) -> Finding:
    try:
        given = run_async(given_sandbox(SystemClock()))
    except RemitError as error:
        return Finding(
            name="sandbox", status="note", detail=f"none: {error.cause}", remedy="no Python tool can run"
        )
    detail = f"Python tools run at the isolation level {given.isolation}"
    if given.isolation == ISOLATION_LEVELS[-1]:
        return Finding(name="sandbox", status="ok", detail=detail)
    return Finding(
        name="sandbox", status="note", detail=f"{detail}; {given.causes}", remedy=REMEDIES[given.isolation]
    )


REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "sandboxed": "tools have no work folder and can learn which files there are: permit user namespaces",
        "process": "tools are not shut in: use Linux 5.13 or later, with Landlock and seccomp",
    }
)

_CHECKS: tuple[Callable[[Deployment], Finding], ...] = (
    _python,
    _sqlite,
    _disk,
    _journal,
    _worker,
    _memory,
    _webhook,
    _model,
    _telemetry,
    _sandbox,
)
