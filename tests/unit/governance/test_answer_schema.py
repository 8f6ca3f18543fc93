"""`answer_schema`: no answer that does not fit leaves the gate; what cannot be a schema fails the load."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remit.core import actions
from remit.core.actions import Place, Principal
from remit.core.errors import RemitError
from remit.core.messages import Text
from remit.governance.compiler import Surroundings, parse
from remit.governance.describe import describe
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.governance.source import ConfigErrors
from remit.ports.journal import AuditQuery
from remit.runtime.loop import BAD_ANSWERS_MAX
from remit.runtime.runner import Runner, RunResult
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, RecordingTelemetry, ScriptedModel, says
from remit.testing.memory_journal import MemoryJournal

HEAD = """agent:
  name: a
  model: m
  allowed_tools: []
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
INLINE = """  answer_schema:
    type: object
    required: [total]
    additionalProperties: false
    properties:
      total: {type: number, minimum: 0.5}
      note: {type: string, pattern: "^[a-z]+$"}
"""
WHO = Principal(kind="user", id="u")


def schema_error(text: str, files: dict[str, str] | None = None) -> str:
    def read(path: str) -> str:
        if path not in (files or {}):
            raise RemitError("config.missing", f"there is no file at {path}")
        return (files or {})[path]

    with pytest.raises(ConfigErrors) as raised:
        parse(HEAD + text, "f.yaml", (), around=Surroundings(read_file=read))
    (error,) = raised.value.errors
    assert (error.position.line, error.file) == (6, "f.yaml")
    return f"{error.code} {error.message}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  answer_schema: 5\n", "config.wrong_type"),
        ("  answer_schema: []\n", "config.wrong_type"),
        ("  answer_schema: {}\n", "config.wrong_type"),
        ("  answer_schema: {type: string}\n", "type: object"),
        ("  answer_schema: {type: object, required: 5}\n", "5 is not"),
        ("  answer_schema: {type: object, properties: {a: {pattern: '('}}}\n", "regex"),
        ("  answer_schema: {type: object, properties: {a: {$ref: '#/$defs/b'}}}\n", "does not exist"),
        ("  answer_schema: {type: object, properties: {a: {$ref: 'http://127.0.0.1:9/x'}}}\n", "127.0.0.1"),
        (
            "  answer_schema: {type: object, properties: {a: {$ref: 'file:///dev/null'}}}\n",
            "file:///dev/null",
        ),
        ("  answer_schema: nowhere.json\n", "there is no file at nowhere.json"),
        ("  answer_schema: broken.json\n", "it is not JSON"),
        ("  answer_schema: list.json\n", "type: object"),
    ],
)
def test_what_is_no_schema_fails_the_load_at_its_line(text: str, said: str) -> None:
    assert said in schema_error(text, {"broken.json": "{", "list.json": "[]"})


def test_a_path_stands_for_what_the_file_says() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}

    def of(text: str, content: Any) -> Remit:
        return parse(HEAD + text, "f.yaml", (), around=Surroundings(read_file=lambda _: json.dumps(content)))

    named, moved = of("  answer_schema: a.json\n", schema), of("  answer_schema: b/c.json\n", schema)
    inline = parse(HEAD + "  answer_schema: {type: object, properties: {a: {type: number}}}\n", "f.yaml", ())
    assert named.answer_schema == moved.answer_schema == inline.answer_schema == schema
    assert named.digest == moved.digest == inline.digest
    assert of("  answer_schema: a.json\n", {"type": "object"}).digest != named.digest
    option = parse(
        HEAD,
        "f.yaml",
        (),
        changes={"answer_schema": "d/e.json"},
        around=Surroundings(read_file=lambda _: '{"type": "object"}'),
    )
    assert parse(HEAD, "f.yaml", ()).digest != named.digest
    assert option.source("answer_schema") == "e.json"


async def run(*answers: str) -> tuple[RunResult, ScriptedModel, MemoryJournal]:
    clock = FakeClock()
    journal, model = MemoryJournal(clock), ScriptedModel([says(answer) for answer in answers])
    services = GateServices(
        journal=journal, prices=FixedPrices({"m": 1}), clock=clock, telemetry=RecordingTelemetry()
    )
    rules = Rules(parse(HEAD + INLINE, "f.yaml", ()), ())
    gate = Gate(services, Effects(model=model, tools=FunctionTools([])))
    return await Runner(services, gate, rules).run("t", WHO), model, journal


async def test_an_answer_that_does_not_fit_goes_back_and_is_mended() -> None:
    result, model, journal = await run("Sure! 7", '{"total": 7}')
    assert (result.end.status, result.end.answer, result.steps) == ("succeeded", '{"total": 7}', 2)
    (told,) = model.requests[1].messages[-1].parts
    assert isinstance(told, Text)
    assert "the answer is not the text of one JSON value" in told.text
    assert all(request.answer_schema is not None for request in model.requests)
    (record,) = await journal.audit(AuditQuery(kind="refusal"))
    assert json.loads(record.body)["code"] == "answer.invalid"
    assert json.loads(record.body)["source"] == "f.yaml:6"


async def test_a_model_that_does_not_mend_it_fails_the_run() -> None:
    result, model, _ = await run(*['{"total": 0.25}'] * 9)
    assert (result.end.status, result.end.code, result.end.answer) == ("failed", "answer.invalid", "")
    assert "total: the value is less than the minimum of 0.5" in result.end.message
    assert len(model.requests) == BAD_ANSWERS_MAX


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"total": 0.5}', ""),
        ('{"total": 1, "note": "abc"}', ""),
        ("", "not the text of one JSON value"),
        ('```json\n{"total": 1}\n```', "not the text of one JSON value"),
        ('{"total": 1} {"total": 2}', "not the text of one JSON value"),
        ('{"total": NaN}', "not the text of one JSON value"),
        ("[" * 5000, "not the text of one JSON value"),
        ("null", "the whole: "),
        ("{}", '"total" is a required property'),
        ('{"total": "canary"}', "total: the value is not of type"),
        ('{"total": 1, "canary": 2}', "a field that is not declared"),
        ('{"total": 1, "note": "canary 1"}', "note: the value does not match"),
    ],
)
def test_the_gate_s_rules_release_no_answer_that_does_not_fit(answer: str, problem: str) -> None:
    rules = Rules(parse(HEAD + INLINE, "f.yaml", ()), ())
    decision = rules.decide(actions.release(Place(run_id="r", step=1, name="answer", principal=WHO), answer))
    if not problem:
        assert decision.effect == "allow"
        return
    assert (decision.effect, decision.code, decision.rule) == ("deny", "answer.invalid", "answer_schema")
    assert problem in decision.reason
    # the reason is recorded, and a record repeats nothing of an answer
    assert "canary" not in decision.reason


def test_check_says_it_in_words() -> None:
    (said,) = [one for one in describe(parse(HEAD + INLINE, "f.yaml", ()), ()) if one.rule == "answer_schema"]
    assert (said.verdict, said.text) == ("must", "answer with JSON that fits the schema (total, note)")
    assert said.source == "f.yaml:6"
