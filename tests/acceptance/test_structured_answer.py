"""An answer of a given shape, by the command line, from the models of both protocols."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acceptance_cli import Cli, agent_folder

SCHEMA = {
    "type": "object",
    "properties": {"customer": {"type": "string"}, "charges": {"type": "integer", "minimum": 1}},
    "required": ["customer", "charges"],
    "additionalProperties": False,
}
MENDS = """name: mends
default: true
turns:
  - {say: "Two charges, I think.", sent_back: true}
  - say: '{"customer": "C-1042", "charges": 2}'
"""
NEVER = """name: never
default: true
turns:
  - {say_json: {customer: C-1042, charges: 0}, sent_back: true}
  - {say_json: {customer: C-1042}, sent_back: true}
  - {say_json: [1]}
"""


@pytest.mark.parametrize("model", ["claude-sonnet-4-20260514", "gpt-5.2"])
def test_the_answer_is_an_object_once_the_model_has_mended_it(cli: Cli, tmp_path: Path, model: str) -> None:
    config = agent_folder(tmp_path / "agent", scripts={"mends": MENDS})
    schema = tmp_path / "answer.json"
    schema.write_text(json.dumps(SCHEMA))
    done = cli.task("How many?", "--model", model, "--answer-schema", schema, config=config)
    assert done.exit == 0, done.stderr
    assert done.json["answer_object"] == {"customer": "C-1042", "charges": 2}
    assert json.loads(done.json["answer"]) == done.json["answer_object"]
    assert done.json["steps"] == 2
    (refusal,) = cli.ask("audit", "search", "--kind", "refusal")
    assert (refusal["code"], refusal["source"]) == ("answer.invalid", "answer.json")


def test_a_run_whose_answers_never_fit_fails_and_hands_none_out(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", scripts={"never": NEVER})
    (config.parent / "answer.json").write_text(json.dumps(SCHEMA))
    config.write_text(config.read_text() + "\n  answer_schema: answer.json\n")
    done = cli.task("How many?", config=config)
    assert done.exit == 1
    assert done.json["error"]["code"] == "answer.invalid"
    assert (done.json["answer"], done.json["answer_object"]) == ("", None)
    words = cli.run("check", config).stdout
    assert "answer with JSON that fits the schema (customer, charges)" in words


def test_a_schema_that_is_none_is_told_before_anything_is_begun(cli: Cli, tmp_path: Path) -> None:
    schema = tmp_path / "answer.json"
    schema.write_text('{"type": "objct"}')
    done = cli.task("How many?", "--answer-schema", schema)
    assert done.exit == 2
    assert "config.invalid" in done.stderr
    assert "answer.json" in done.stderr
    assert not list(cli.home.glob("*.db"))
