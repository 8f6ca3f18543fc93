"""The part of the `Journal` port's conformance suite that is about money."""

from __future__ import annotations

import asyncio

from remit.ports.journal import Admitted, Alert, AuditQuery, Misfit
from remit.testing.journal_values import (
    JournalPlace,
    admission_of,
    completion_of,
    hold_of,
    kind_of,
    started,
)


class JournalMoneySuite:
    """What every journal promises of money; `JournalSuite` holds these tests too."""

    async def test_64_at_once_never_pass_the_cap_and_nearly_fill_it(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock

        async def call(index: int) -> int:
            action_id = f"r.1.{index}"
            verdict = await journal.admit(
                admission_of(action_id, clock, holds=(hold_of(1000),), amount_nano_usd=70)
            )
            (balance,) = await journal.balances("day:")
            assert balance.spent_nano_usd + balance.held_nano_usd <= 1000
            if kind_of(verdict) != "Admitted":
                return 0
            await journal.complete(completion_of(action_id, clock, cost_nano_usd=50))
            return 1

        assert sum(await asyncio.gather(*(call(index) for index in range(64)))) >= 14
        (balance,) = await journal.balances("day:")
        assert balance.held_nano_usd == 0
        await journal.close()

    async def test_presumed_costs_count_the_whole_hold(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        await journal.admit(admission_of("r.1.t", clock, holds=(hold_of(100),), amount_nano_usd=60))
        await journal.complete(completion_of("r.1.t", clock, presumed=True, state="failed"))
        (balance,) = await journal.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd, balance.presumed_nano_usd) == (60, 0, 60)
        (call,) = await journal.calls("r")
        assert (call.state, call.cost_nano_usd, call.held_nano_usd) == ("failed", 60, 0)
        await journal.close()

    async def test_an_expired_hold_counts_as_spent_and_a_late_settlement_gives_the_rest_back(
        self, place: JournalPlace
    ) -> None:
        journal, clock = await started(place), place.clock
        lease_us = clock.now_us() + 5
        hold = hold_of(100, percent=50)
        await journal.admit(
            admission_of("r.1.t", clock, holds=(hold,), amount_nano_usd=60, expires_at_us=lease_us)
        )
        assert (await journal.expire_holds(lease_us - 1)).alerts == ()
        (balance,) = await journal.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd, balance.presumed_nano_usd) == (0, 60, 0)
        (alert,) = (await journal.expire_holds(lease_us)).alerts
        assert (alert.threshold_percent, alert.spent_nano_usd) == (50, 60)
        assert (await journal.expire_holds(lease_us)).alerts == ()
        (balance,) = await journal.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd, balance.presumed_nano_usd) == (60, 0, 60)
        assert len(await journal.audit(AuditQuery(open_only=True))) == 1
        room = admission_of("r.1.u", clock, holds=(hold,), amount_nano_usd=41)
        refused = await journal.admit(room)
        assert isinstance(refused, Misfit)
        assert refused.left_nano_usd == 40
        assert (await journal.complete(completion_of("r.1.t", clock, cost_nano_usd=7))).alerts == ()
        (balance,) = await journal.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd, balance.presumed_nano_usd) == (7, 0, 0)
        assert isinstance(await journal.admit(room), Admitted)
        await journal.close()

    async def test_a_threshold_alerts_once_over_two_journals(self, place: JournalPlace) -> None:
        journal, other = await started(place), place.open()
        alerts: list[Alert] = []
        for index in range(10):
            action_id, one = f"r.1.{index}", (journal, other)[index % 2]
            hold = hold_of(1000, percent=80)
            await one.admit(admission_of(action_id, place.clock, holds=(hold,), amount_nano_usd=100))
            settled = await one.complete(completion_of(action_id, place.clock, cost_nano_usd=100))
            alerts += settled.alerts
        assert [(one.threshold_percent, one.spent_nano_usd, one.cap_nano_usd) for one in alerts] == [
            (80, 800, 1000)
        ]
        assert len(await journal.audit(AuditQuery(kind="alert"))) == 1
        await journal.close()
        await other.close()
