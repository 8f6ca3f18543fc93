"""Where things go: spans to a collector, output to pipes and terminals, and a key to no file at all."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import select
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from acceptance_cli import CONFIG, EXAMPLE, Cli, Finished
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CANARY = "sk-ant-canary-7b1f3c9e5a"
SMTP_CANARY = "canary-of-a-mail-password"


class Collector:
    """Takes OTLP spans over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.append(body)
                collector.headers.append(str(self.headers))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True)
class Deployed:
    cli: Cli
    collector: Collector
    finished: Finished
    bill: Any


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A run as in production: with a key, against a server, spans to a collector."""
    folder = tmp_path_factory.mktemp("deployed")
    collector = Collector()
    server = Cli(folder / "server-home")
    try:
        with server.started("model-server", "--port", "0", "--scripts", EXAMPLE / "scripts") as process:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            found = re.search(r"http://\S+", line)
            assert found is not None, line
            cli = Cli(
                folder / "home",
                ANTHROPIC_API_KEY=CANARY,
                ANTHROPIC_BASE_URL=found[0],
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                REMIT_SMTP_PASSWORD=SMTP_CANARY,
            )
            finished = cli.run(
                "run", CONFIG, "--json", "--context", "customer_id=C-1042", "--task", "I was charged twice"
            )
            with urllib.request.urlopen(f"{found[0]}/bill", timeout=5) as response:
                bill = json.load(response)
        yield Deployed(cli, collector, finished, bill)
    finally:
        collector.close()


def test_a_run_against_a_server_says_nothing_of_offline(deployed: Deployed) -> None:
    assert deployed.finished.exit == 0, deployed.finished.stderr
    assert deployed.finished.stderr == ""
    assert "Ticket for C-1042: T-000001" in deployed.finished.json["answer"]


def test_the_server_s_own_bill_is_what_we_say_it_cost(deployed: Deployed) -> None:
    assert deployed.bill["calls"] == 3
    assert deployed.bill["cost_nano_usd"] == deployed.finished.json["cost_nano_usd"] > 0


def test_the_collector_gets_the_run_s_spans(deployed: Deployed) -> None:
    spans = deployed.collector.spans
    names = [span.name for span in spans]
    assert {span.trace_id.hex() for span in spans} == {deployed.finished.json["trace_id"]}
    assert any(name.startswith("invoke_agent") for name in names)
    assert sum(name.startswith("chat") for name in names) == 3
    assert sum(name.startswith("execute_tool") for name in names) == 4
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)
    roots = [span for span in spans if span.parent_span_id not in ids]
    assert len(roots) == 1


def test_a_key_is_in_no_file_no_span_and_no_output(deployed: Deployed) -> None:
    files = [path for path in deployed.cli.home.rglob("*") if path.is_file()]
    assert len(files) > 5
    texts = [path.read_bytes() for path in files]
    texts += deployed.collector.bodies + [header.encode() for header in deployed.collector.headers]
    texts += [deployed.finished.stdout.encode(), deployed.finished.stderr.encode()]
    texts.append(deployed.cli.run("doctor", "--json").stdout.encode())
    for canary in (CANARY, SMTP_CANARY):
        assert [text for text in texts if canary.encode() in text] == []


def test_output_in_a_pipe_has_no_escapes(deployed: Deployed) -> None:
    run_id = deployed.finished.json["run_id"]
    for command in (["trace", run_id], ["runs", "list"], ["audit", "tail"], ["costs"], ["doctor"]):
        done = deployed.cli.run(*command)
        assert done.exit == 0
        assert done.stdout
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("no_colour", [False, True])
def test_colour_on_a_terminal_unless_it_is_not_wanted(deployed: Deployed, no_colour: bool) -> None:
    cli = Cli(deployed.cli.home, TERM="xterm-256color", **({"NO_COLOR": "1"} if no_colour else {}))
    shown = _on_a_terminal(cli, "trace")
    assert "run customer-support-v2" in shown
    assert ("\x1b[" not in shown) is no_colour


def test_a_reader_that_goes_away_is_no_error(deployed: Deployed) -> None:
    with deployed.cli.started("audit", "search", "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=20) in (0, 1)
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_run_for_people_shows_turns_calls_and_what_to_do_next(cli: Cli) -> None:
    done = cli.run(
        "run", CONFIG, "--offline", "--report", "--task", "-", stdin="C-1042 was charged twice, says C-1042"
    )
    assert done.exit == 0
    for words in (
        "1. model claude-sonnet-4-20260514",
        "✗ get_customer",
        "BLOCKED PII access is not permitted",
        "✓ create_ticket",
        "answer\n",
        "cost $0.0",
        "trace\n",
        "audit\n",
        "next\n",
    ):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_init_then_check_run_and_doctor_in_the_new_folder(tmp_path: Path) -> None:
    # the words that `remit init` prints are what is typed here
    cli = Cli(tmp_path / "home")
    made = cli.run("init", "my-agent", cwd=tmp_path)
    assert made.exit == 0
    folder = tmp_path / "my-agent"
    typed = made.stdout.partition("Next:")[2].splitlines()
    assert "cd my-agent && remit check agent-config.yaml" in typed[1]
    assert cli.run("check", "agent-config.yaml", cwd=folder).exit == 0
    task = typed[2].partition("--task '")[2].removesuffix("'")
    ran = cli.run("run", "agent-config.yaml", "--offline", "--json", "--task", task, cwd=folder)
    assert ran.exit == 0
    assert "reset-password.md" in ran.json["answer"]
    doctor = cli.run("doctor", "agent-config.yaml", cwd=folder)
    assert doctor.exit == 0
    assert "✗" not in doctor.stdout


def _on_a_terminal(cli: Cli, *arguments: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    try:
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with subprocess.Popen(
            cli.command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=environment | cli.environment | {"PYTHONUTF8": "1"},
        ) as process:
            os.close(theirs)
            theirs = -1
            shown = b""
            while select.select([ours], [], [], 20)[0]:
                try:
                    read = os.read(ours, 65_536)
                except OSError:  # how Linux says that the other end is closed
                    break
                shown += read
            process.wait(timeout=20)
        return shown.decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
