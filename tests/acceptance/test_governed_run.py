"""The double charge: what the remit forbids is refused, and shows in answer, log, trace and audit."""

from __future__ import annotations

import email
from dataclasses import dataclass
from typing import Any

import pytest
from acceptance_cli import EXAMPLE, Cli, Finished, agent_folder, changed

TASK = "Customer C-1042 was charged twice this month. Please sort it out."
RULE = "data_access.allow_pii"


@dataclass(frozen=True)
class Ran:
    cli: Cli
    finished: Finished

    @property
    def result(self) -> Any:
        return self.finished.json


@pytest.fixture(scope="module")
def without_pii(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    cli = Cli(tmp_path_factory.mktemp("without-pii") / "home")
    return Ran(cli, cli.task(TASK))


@pytest.fixture(scope="module")
def with_pii(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("with-pii")
    config = agent_folder(folder / "agent", config=changed(("allow_pii: false", "allow_pii: true")))
    # the shipped script, which also says what record it was given
    script = config.parent / "scripts" / "double-charge.yaml"
    before = script.read_text()
    script.write_text(
        before.replace(
            "Mail to the customer:", "Record: {{ results[1].customer }}\n              Mail to the customer:"
        )
    )
    assert script.read_text() != before
    cli = Cli(folder / "home")
    return Ran(cli, cli.task(TASK, config=config))


def test_a_run_prints_one_json_object_and_nothing_else(without_pii: Ran) -> None:
    result = without_pii.result
    assert without_pii.finished.exit == 0
    assert {"run_id", "status", "answer", "cost_usd", "usage", "steps", "trace_id"} <= result.keys()
    assert result["status"] == "succeeded"
    assert result["steps"] == 3
    assert result["error"] is None
    assert result["cost_usd"] == pytest.approx(result["cost_nano_usd"] / 1e9)
    assert 0 < result["cost_usd"] < 2.0
    assert result["usage"]["input_tokens"] > 0
    assert result["usage"]["output_tokens"] > 0
    assert len(result["trace_id"]) == 32


def test_standard_error_says_that_no_real_model_answers(without_pii: Ran) -> None:
    assert "scripted model server" in without_pii.finished.stderr
    assert "ANTHROPIC_API_KEY" in without_pii.finished.stderr
    assert "Traceback" not in without_pii.finished.stderr


def test_the_answer_says_what_was_refused_and_by_which_line(without_pii: Ran) -> None:
    answer = without_pii.result["answer"]
    assert "PII access is not permitted" in answer
    assert RULE in answer
    assert "agent-config.yaml:15" in answer


def test_the_log_has_a_blocked_line_with_the_trace_id(without_pii: Ran) -> None:
    lines = without_pii.cli.log()
    (blocked,) = [line for line in lines if line["event"] == "BLOCKED"]
    assert blocked["trace_id"] == without_pii.result["trace_id"]
    assert (blocked["tool"], blocked["rule"], blocked["code"]) == ("get_customer", RULE, "data.denied")
    assert {"TOOL_CALL", "LLM_CALL"} <= {line["event"] for line in lines}
    # the log holds what happened, not what was said: a task or an argument may be personal
    text = (without_pii.cli.home / "remit.log").read_text()
    assert "charged twice" not in text
    assert "C-1042" not in text


def test_the_trace_shows_the_refusal(without_pii: Ran) -> None:
    drawn = without_pii.cli.run("trace", without_pii.result["run_id"])
    assert drawn.exit == 0
    assert f"BLOCKED data.denied  rule {RULE}" in drawn.stdout
    assert "agent-config.yaml:15" in drawn.stdout
    assert "\x1b" not in drawn.stdout


def test_the_audit_has_the_refusal_with_rule_and_line(without_pii: Ran) -> None:
    (refusal,) = without_pii.cli.ask("audit", "search", "--kind", "refusal")
    assert refusal["rule"] == RULE
    assert refusal["source"] == "agent-config.yaml:15"
    assert refusal["code"] == "data.denied"
    assert refusal["run"] == without_pii.result["run_id"]


def test_every_effect_has_an_intent_before_its_outcome(without_pii: Ran) -> None:
    records = without_pii.cli.ask("audit", "search", "--run", without_pii.result["run_id"])
    begun: set[str] = set()
    for record in records:
        if record["kind"] == "intent":
            begun.add(record["call"])
        elif record["kind"] == "outcome":
            assert record["call"] in begun
            begun.remove(record["call"])
    assert begun == set()
    assert [records[0]["kind"], records[-1]["kind"]] == ["run.created", "run.ended"]
    assert without_pii.cli.ask("audit", "search", "--open") == []


def test_nothing_was_sent_without_the_record(without_pii: Ran) -> None:
    outbox = without_pii.cli.home / "support" / "outbox"
    assert [path for path in outbox.rglob("*") if path.is_file()] == []


def test_the_lists_agree_on_the_run(without_pii: Ran) -> None:
    cli, result = without_pii.cli, without_pii.result
    (listed,) = cli.ask("runs", "list")
    assert (listed["run_id"], listed["status"]) == (result["run_id"], "succeeded")
    (cost,) = cli.ask("costs")
    assert cost["cost_nano_usd"] == result["cost_nano_usd"] == listed["cost_nano_usd"]
    assert cost["calls"] == 3
    shown = cli.ask("runs", "show", result["run_id"])
    assert sum(call["cost_nano_usd"] for call in shown["calls"]) == result["cost_nano_usd"]
    assert shown["answer"] == result["answer"]
    tree = cli.ask("trace", result["run_id"])
    assert tree["tree"]["cost_inclusive_nano_usd"] == result["cost_nano_usd"]


def test_with_pii_granted_the_record_is_used_and_the_mail_is_in_the_outbox(with_pii: Ran) -> None:
    assert with_pii.finished.exit == 0
    assert "Mail to the customer: sent" in with_pii.result["answer"]
    assert with_pii.cli.ask("audit", "search", "--kind", "refusal") == []
    mails = [path for path in (with_pii.cli.home / "support" / "outbox").rglob("*") if path.is_file()]
    (mail,) = mails
    letter = email.message_from_bytes(mail.read_bytes())
    assert letter["Subject"] == "We are looking into your double charge"
    row = next(line for line in _customers() if line.startswith("C-1042,"))
    assert letter["To"] in row


def test_financial_fields_stay_hidden_where_only_pii_is_granted(with_pii: Ran) -> None:
    answer = with_pii.result["answer"]
    assert '"phone": ' in answer
    assert "@example." in answer
    assert "card_last4" not in answer
    assert "balance_usd" not in answer


def _customers() -> list[str]:
    return (EXAMPLE / "data" / "customers.csv").read_text().splitlines()
