"""Bad governance files: every error at its line and column, all of a stage at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core.errors import RemitError
from remit.governance.compiler import parse
from remit.governance.source import ConfigErrors
from remit.testing.gate_world import TOOLS

GOOD = """agent:
  name: a
  model: m
  allowed_tools: [lookup, pay]
  rate_limits: {max_lookups_per_minute: 3}
  cost_controls: {max_daily_spend_usd: 5.00, max_cost_per_run_usd: 0.50}
"""


def errors_of(text: str) -> list[tuple[str, int, int]]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, "f.yaml", TOOLS)
    return [(one.code, one.position.line, one.position.column) for one in caught.value.errors]


def test_the_good_file_is_good() -> None:
    remit = parse(GOOD, "f.yaml", TOOLS)
    assert (remit.cap_run_nano_usd, remit.rate_limits[0].limit) == (500_000_000, 3)
    assert remit.source("rate_limits.max_lookups_per_minute") == "f.yaml:5"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  name: a", "  nmae: a", [("config.missing_key", 1, 1), ("config.unknown_key", 2, 3)]),
        ("  model: m", "  model: 3", [("config.wrong_type", 3, 3)]),
        ("[lookup, pay]", "[lookup, payy]", [("config.unknown_tool", 4, 27)]),
        ("[lookup, pay]", "[lookup, lookup]", [("config.duplicate_key", 4, 27)]),
        ("max_lookups_per_minute: 3", "max_lookups_per_minute: -3", [("config.out_of_range", 5, 17)]),
        ("max_lookups_per_minute: 3", "max_lookups_per_minute: yes", [("config.wrong_type", 5, 17)]),
        ("max_lookups_per_minute", "max_looks_per_minute", [("config.unknown_rate_group", 5, 17)]),
        ("max_lookups_per_minute", "max_lookups_per_week", [("config.unknown_key", 5, 17)]),
        ("5.00", "-5.00", [("config.out_of_range", 6, 19)]),
        ("5.00", "'5.00'", [("config.wrong_type", 6, 19)]),
        ("5.00", "5e0", [("config.wrong_type", 6, 19)]),
        ("  model: m", "  model: m\n  model: n", [("config.duplicate_key", 4, 3)]),
        ("  model: m", "  model: !!python/name:os.system m", [("config.wrong_type", 3, 10)]),
        ("  model: m", "  model: [", None),
        ("  model: m", "  model: m\n\t- x", None),
    ],
)
def test_an_error_stands_at_its_place(
    old: str, new: str, expected: list[tuple[str, int, int]] | None
) -> None:
    found = errors_of(GOOD.replace(old, new))
    if expected is None:
        assert {code for code, _, _ in found} == {"config.syntax"}
        assert found[0][1] >= 3
    else:
        assert [(code, line) for code, line, _ in found] == [(code, line) for code, line, _ in expected]


def test_all_errors_come_at_once() -> None:
    text = GOOD.replace("name: a", "nmae: a").replace("3}", "x}").replace("5.00", "true")
    assert {code for code, _, _ in errors_of(text)} == {
        "config.unknown_key",
        "config.missing_key",
        "config.wrong_type",
    }
    assert len(errors_of(text)) == 4


def test_the_nearest_known_key_is_named() -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(GOOD.replace("name: a", "name: a\n  max_retrys: 2"), "f.yaml", TOOLS)
    assert "max_retries" in caught.value.errors[0].remedy


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "config.empty"),
        ("# nothing\n", "config.empty"),
        ("- a\n", "config.wrong_type"),
        ("agent:\n", "config.wrong_type"),
        (BOMB, "config.too_large"),
        ("a: &a [*a]\n", "config.too_large"),
        ("[" * 3000, "config.too_large"),
        ("agent: " + "{a: " * 200 + "1" + "}" * 200, "config.too_large"),
        ("x" * 300_000, "config.too_large"),
        ("\x00\x01\x7fELF", "config.syntax"),
        ("a: 1\n---\nb: 2\n", "config.syntax"),
    ],
    ids=["empty", "comment", "list", "null", "bomb", "cycle", "unclosed", "deep", "huge", "binary", "two"],
)
def test_hostile_files_are_refused(text: str, code: str) -> None:
    assert {found for found, _, _ in errors_of(text)} == {code}


def test_junk_is_found_at_its_line() -> None:
    assert errors_of("agent:\n  name: a\n  model: \x07\n") == [("config.syntax", 3, 10)]


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_text_gives_config_errors_and_nothing_else(text: str) -> None:
    with pytest.raises(ConfigErrors):
        parse(text, "f.yaml", TOOLS)


@pytest.mark.parametrize("operand", ["99999999999999999999", '"\\ud800"'])
def test_what_has_no_canonical_form_is_an_error_of_the_file(operand: str) -> None:
    text = (
        GOOD
        + f"  approvals: [{{tool: pay, when: {{{'amount' if operand[0] == '9' else 'to'}: {{eq: {operand}}}}}}}]\n"
    )
    with pytest.raises(RemitError) as caught:
        parse(text, "f.yaml", TOOLS)
    assert isinstance(caught.value, ConfigErrors)


def test_a_file_keeps_its_digest_from_version_to_version() -> None:
    # runs go on under the remit they began under: where this changes, those in flight would be left lying
    text = "agent: {name: a, model: m, allowed_tools: [], cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}}"
    plain_file = parse(text, "f.yaml", ()).digest
    said = parse(text.replace("model: m", "model: m, max_retries: 3, max_queued_runs: 1000"), "f.yaml", ())
    assert plain_file == said.digest
    assert plain_file != parse(text.replace("model: m", "model: m, max_retries: 4"), "f.yaml", ()).digest
    assert plain_file == "0f596c6df9569a6c5bdf136abb23858ff103bfc520da34a8fe1b0b216226f570"
