"""Commits batches on PostgreSQL, and never leaves open what became of one.

One thread has the one writing connection, and one batch on the way. What fits is one statement (`commit_batch`);
what does not is decided as on SQLite, under locks. Where the connection is lost in between, the next connection
deletes the lost one's row in `writer`: that waits for what the server is still doing for it, says which batch was
the last to be committed, and keeps anything of it from being committed later. A batch that was not is done again;
only where the database does not come back is it told `journal.unconfirmed`: it may stand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from remit.adapters.journal.operations import Handler
from remit.adapters.journal.postgres.connection import Address, PostgresSql
from remit.adapters.journal.postgres.dialect import COMMIT_BATCH, MARK
from remit.adapters.journal.postgres.plan import Plan, plan_of
from remit.adapters.journal.writer import CommitQueue, Job, unavailable
from remit.core.errors import RemitError
from remit.ports.journal import Admitted, Completion, Settled

# what `commit_batch` raises, or an action that was begun before
_MISFITS = frozenset({"RM001", "23505"})
# deadlocks, and rows that somebody else has inserted since: once more sees what they did
_AGAIN = frozenset({"40001", "40P01", "23505"})
# somebody holds a lock for too long: each by itself would wait as long
_TOO_SLOW = frozenset({"55P03", "57014"})
# the server or the connection goes away; an error without a state is the client's own
_GIVEN_UP = "RM002"
_GONE = ("08", "57P0", "25P03", _GIVEN_UP)
# left by those who could not say good-bye
_FORGET_WRITERS = "DELETE FROM writer WHERE at < now() - interval '30 days'"
# The plans are made once, when the tables may still be empty: by index, as is right when they are large.
_PLANS = """
SET jit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off
"""
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6, 1.6, 1.6)


@dataclass(slots=True)
class _Session:
    """A writing connection and its row in `writer`."""

    connection: psycopg.Connection[Any]
    sql: PostgresSql
    id: int
    batch: int = 0


class _ConnectionLost(Exception):
    """The connection went away during a batch. `results`: what it comes to if it was committed after all.

    `asked`: whether the server may have been told to commit.
    """

    def __init__(self, error: Exception, results: list[Any] | None, *, asked: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.results = results
        self.asked = asked


class _Unreached(RemitError):
    """The database was not reached, or not again."""


class PostgresWriter(CommitQueue):
    """Runs operations on one PostgreSQL database.

    In a batch the handlers have their turn in the order of `handlers`: completions come first, admissions last.
    `worker`: whose runs they are of.
    `told_us`: the time by which windows are counted, None for the database's own.
    """

    def __init__(
        self, address: Address, handlers: Sequence[Handler], worker: str, told_us: Callable[[], int | None]
    ) -> None:
        self._address = address
        self._handlers = handlers
        self._told_us = told_us
        self._complete_all, self._admit_all = handlers[0], handlers[-1]
        self._worker = worker
        self._ending = threading.Event()
        self._is_down = False
        self._session: _Session | None = self._opened()
        self._session.connection.execute(_FORGET_WRITERS)
        super().__init__()

    def _release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.connection.execute("DELETE FROM writer WHERE id = %s", (session.id,))
            except psycopg.Error:
                self._is_down = True  # the row is removed by whoever opens the journal in a month
            session.connection.close()

    def _commit(self, batch: list[Job]) -> list[Any]:
        results: list[Any] = [None] * len(batch)
        for places in self._parts(batch):
            for place, result in zip(places, self._done([batch[place] for place in places]), strict=True):
                results[place] = result
        return results

    def _parts(self, batch: list[Job]) -> list[list[int]]:
        """The places that are committed together: completions and admissions where there is nothing else."""
        by_handler = [
            [place for place, job in enumerate(batch) if job[0] is handler] for handler in self._handlers
        ]
        completions, *others, admissions = by_handler
        if not any(others):
            return [completions + admissions]
        return [places for places in by_handler if places]

    def _done(self, jobs: list[Job], *, again: bool = True) -> list[Any]:
        """The results of jobs that are committed together; where one fails, each by itself."""
        try:
            return self._tried(jobs)
        except _Unreached as error:
            return [error] * len(jobs)
        except Exception as error:  # of one of them, and nothing was written
            state = error.sqlstate if isinstance(error, psycopg.Error) else None
            if state in _TOO_SLOW:
                return [self._failed(error)] * len(jobs)
            if len(jobs) > 1:
                return [result for job in jobs for result in self._done([job])]
            if again and state in _AGAIN:
                return self._done(jobs, again=False)
            return [self._failed(error)]

    def _failed(self, error: Exception) -> RemitError:
        if not isinstance(error, psycopg.Error):
            return unavailable(error)
        message = "the journal could not be written"
        return RemitError("journal.unavailable", message, cause=self._address.told(error))

    def _tried(self, jobs: list[Job]) -> list[Any]:
        """The results of jobs that were committed together, in one statement where they fit one."""
        completions = [job[1] for job in jobs if job[0] is self._complete_all]
        admissions = [job[1] for job in jobs if job[0] is self._admit_all]
        if len(completions) + len(admissions) == len(jobs):
            plan = plan_of(completions, admissions, self._worker)
            if plan is not None:
                ended = self._durably(lambda session: self._at_once(session, plan))
                if ended is not None:
                    return [*_settled(completions, ended), *(Admitted() for _ in admissions)]
            if completions and admissions:
                count = len(completions)
                return [*self._done(jobs[:count]), *self._done(jobs[count:])]
        handler, operations = jobs[0][0], [job[1] for job in jobs]
        results: list[Any] = self._durably(lambda session: self._in_turn(session, handler, operations))
        return results

    def _at_once(self, session: _Session, plan: Plan) -> list[int] | None:
        """Commit what fits, in one statement: the endings that ended their run. None where something does not fit."""
        values = (session.id, session.batch, self._told_us(), plan.text.decode(), *plan[1:])
        try:
            cursor = psycopg.RawCursor(session.connection)
            row = cursor.execute(COMMIT_BATCH, values, prepare=True).fetchone()
        except psycopg.Error as error:
            if error.sqlstate in _MISFITS:
                return None
            if _is_lost(session, error):
                raise _ConnectionLost(error, None, asked=error.sqlstate != _GIVEN_UP) from error
            raise
        return list(row[0]) if row is not None else []

    def _in_turn(self, session: _Session, handler: Handler, operations: list[Any]) -> list[Any]:
        """Commit operations in a transaction in which each sees what those before it have done."""
        results: list[Any] | None = None
        asked = False
        try:
            with session.connection.transaction():
                results = handler(session.sql, operations)
                session.sql.execute(MARK, (session.id, session.batch))
                asked = True
        except psycopg.Error as error:
            if _is_lost(session, error):
                raise _ConnectionLost(error, results, asked=asked) from error
            raise
        return results

    def _durably(self, work: Callable[[_Session], Any]) -> Any:
        """What `work` comes to, on another connection where one is lost. Raises: RemitError, psycopg.Error."""
        for _ in range(3):
            session = self._session or self._reopened()
            session.batch += 1
            try:
                return work(session)
            except _ConnectionLost as lost:
                self._session = None
                session.connection.close()
                stands, ended = self._became(session, lost)
                if stands:
                    return ended if lost.results is None else lost.results
        raise _Unreached("journal.unavailable", "the connection to the database was lost again and again")

    def _became(self, lost: _Session, cause: _ConnectionLost) -> tuple[bool, list[int]]:
        """Whether the last batch of a lost connection stands, and its answer. Nothing of it can follow later."""
        try:
            session = self._reopened()
            row = session.connection.execute(
                "DELETE FROM writer WHERE id = %s RETURNING batch, ended", (lost.id,)
            ).fetchone()
        except (RemitError, psycopg.Error) as error:
            raise self._unknown(cause) from error
        if not cause.asked:
            return False, []
        if row is None:
            raise self._unknown(cause)
        return row[0] == lost.batch, row[1]

    def _unknown(self, lost: _ConnectionLost) -> RemitError:
        cause = self._address.told(lost.error)
        if not lost.asked:
            return _Unreached("journal.unavailable", "the connection to the database was lost", cause=cause)
        message = "the connection to the database was lost before it answered: what was asked may stand"
        return _Unreached("journal.unconfirmed", message, cause=cause)

    def _opened(self) -> _Session:
        connection = self._address.connect()
        try:
            connection.execute(_PLANS)
            row = connection.execute("INSERT INTO writer DEFAULT VALUES RETURNING id").fetchone()
        except psycopg.Error:
            connection.close()
            raise
        assert row is not None
        return _Session(connection, PostgresSql(connection), row[0])

    def _reopened(self) -> _Session:
        """A new connection. Waits for the database to come back, unless it did not the last time."""
        failure: psycopg.Error | None = None
        for pause_s in (0.0,) if self._is_down else _PAUSES_S:
            self._ending.wait(pause_s)
            try:
                self._session = self._opened()
            except psycopg.Error as error:
                failure = error
            else:
                self._is_down = False
                return self._session
        self._is_down = True
        cause = "" if failure is None else self._address.told(failure)
        raise _Unreached("journal.unavailable", "the database cannot be reached", cause=cause) from failure


def _is_lost(session: _Session, error: psycopg.Error) -> bool:
    return (
        session.connection.closed
        or (error.sqlstate is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError))
        or (error.sqlstate or "").startswith(_GONE)
    )


def _settled(completions: list[Completion], ended: list[int]) -> list[Settled]:
    """No threshold was crossed, or it would not have fitted; `ended` counts the completions that end a run."""
    place, found = 0, []
    for completion in completions:
        place += completion.ending is not None
        found.append(Settled(run_ended=completion.ending is not None and place in ended))
    return found
