"""Every mutant of the gate is found out by the very machine that the gate passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from remit.governance.gate import Effects, Gate, GateServices
from remit.ports.journal import Journal
from remit.testing.gate_machine import GateMachine
from remit.testing.mutants import GATE_MUTANTS, JOURNAL_MUTANTS

# the examples of the machine's own test in memory: the real gate passes all of them
SAME = settings(
    max_examples=80,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def must_die(machine: type[GateMachine]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=SAME)


@pytest.mark.parametrize("mutant", GATE_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_machine_kills_the_gate_that(mutant: type[Gate]) -> None:
    class Machine(GateMachine):
        def make_gate(self, services: GateServices, effects: Effects) -> Gate:
            return mutant(services, effects)

    must_die(Machine)


@pytest.mark.parametrize("mutant", JOURNAL_MUTANTS)
def test_the_machine_kills_the_journal_that(mutant: str) -> None:
    class Machine(GateMachine):
        def wrap_journal(self, journal: Journal) -> Any:
            return JOURNAL_MUTANTS[mutant](journal)

    must_die(Machine)
