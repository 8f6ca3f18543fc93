"""One cap over many workers: what the provider bills never passes it, and little of it is left unused.

More seeds and kills: `python -m benchmarks --only cap`.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from benchmarks import killed
from benchmarks.cap import CAP, UTILISATION_MIN, spend


@pytest.mark.parametrize("seed", range(4))
async def test_the_bill_never_passes_the_cap_and_fills_it(tmp_path: Path, seed: int) -> None:
    found = await spend(tmp_path, seed, faults=False)
    assert (found.held, found.billed) == (0, found.spent)
    assert UTILISATION_MIN * CAP <= found.billed <= CAP, f"seed {seed}: {found.billed / CAP:.2%} of the cap"


@pytest.mark.parametrize("seed", range(4, 8))
async def test_with_bills_that_nobody_hears_of_the_ledger_is_above_the_bill_and_below_the_cap(
    tmp_path: Path, seed: int
) -> None:
    found = await spend(tmp_path, seed, faults=True)
    assert found.held == 0
    assert found.billed <= found.spent <= CAP, f"seed {seed}"


@pytest.mark.parametrize("seed", range(2))
async def test_processes_killed_amid_cuts_and_hangs_leave_the_bill_below_the_ledger_below_the_cap(
    tmp_path: Path, seed: int
) -> None:
    trial = await killed.endure(tmp_path, seed, chaos=killed.stormy(seed), kills=2, cap_usd=Decimal("0.80"))
    print(f"seed {seed}: {trial.describe()}")
    assert 0 < trial.bill <= trial.spent <= trial.cap


async def test_the_model_server_s_own_bill_fills_the_cap_and_never_passes_it(tmp_path: Path) -> None:
    trial = await killed.endure(tmp_path, 0, chaos=killed.QUIET, kills=0)
    print(trial.describe())
    assert trial.bill == trial.spent
    assert UTILISATION_MIN <= trial.bill_share <= 1
