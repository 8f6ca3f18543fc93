"""What calls cost, added up by the database: one statement, whatever it is grouped by.

A call counts once it has an outcome or is presumed spent: every model call, and a tool call that costs
something. What is still held is told beside it, and is no cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from remit.adapters.journal.runs import FOREVER
from remit.adapters.journal.sql import Sql
from remit.core.messages import Usage
from remit.core.runs import WITHOUT_ANSWER
from remit.ports.journal import CostDimension, CostQuery, CostRow

_GROUPS: Mapping[CostDimension, str] = MappingProxyType(
    {
        "day": "local_day(at, ?3)",
        "tenant": "run.tenant",
        "agent": "run.agent",
        "run": "run_id",
        "model": "CASE kind WHEN 'model' THEN resource END",
        "tool": "CASE kind WHEN 'tool' THEN resource END",
    }
)
# A repeat is the second and every later call of one content in one run; calls from before there was a digest of
# the content repeat nothing. A call without an outcome has no tokens; one that is presumed spent has a cost.
_COSTS = """
WITH counted AS (
    SELECT call.seq, substr(call.id, 1, instr(call.id, '.') - 1) AS run_id, kind, resource, call.at,
           state, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, saved, assumed,
           coalesce(cost, inflight.presumed) AS cost, coalesce(done.presumed, inflight.presumed) AS presumed,
           coalesce(inflight.held, 0) AS held,
           done.seq IS NOT NULL OR inflight.presumed > 0 AS ended,
           CASE WHEN length(content) > 0 AND (done.seq IS NOT NULL OR inflight.presumed > 0) THEN content END AS content
    FROM call LEFT JOIN done USING (seq) LEFT JOIN inflight USING (seq)
    WHERE call.at >= ?1 AND call.at < ?2 AND coalesce(state, '') != 'cancelled'
          AND (kind = 'model' OR coalesce(cost, inflight.presumed + inflight.held) > 0)
), repeated AS (
    SELECT seq FROM (
        SELECT seq, row_number() OVER (PARTITION BY run_id, content, resource ORDER BY seq) AS place
        FROM counted WHERE content IS NOT NULL
    ) AS placed WHERE place > 1
)
SELECT count(*) FILTER (WHERE ended), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens),
       sum(cost), sum(saved),
       sum(CASE WHEN state = 'done' AND status NOT IN ({without_answer})
           THEN 0 ELSE cost END),
       sum(presumed), sum(held), count(*) FILTER (WHERE counted.seq IN (SELECT seq FROM repeated)),
       sum(CASE WHEN counted.seq IN (SELECT seq FROM repeated) THEN cost END),
       count(*) FILTER (WHERE assumed){groups}
FROM counted JOIN run ON run.id = run_id
{group_by}
"""


def cost_rows(connection: Sql, query: CostQuery) -> Sequence[CostRow]:
    """One row for each group in which there is a cost or something is held, in the order of the groups."""
    groups = "".join(f", {_GROUPS[dimension]}" for dimension in query.by)
    # by number: a group may have the name of a column
    places = [str(14 + index) for index in range(len(query.by))]
    order = ", ".join(f"{place} NULLS FIRST" for place in places)
    group_by = f"GROUP BY {', '.join(places)} ORDER BY {order}" if places else ""
    without_answer = ", ".join(f"'{status}'" for status in sorted(WITHOUT_ANSWER))
    statement = _COSTS.format(groups=groups, group_by=group_by, without_answer=without_answer)
    values: list[object] = [query.since_us, FOREVER if query.until_us is None else query.until_us]
    if "day" in query.by:
        values.append(query.timezone)
    rows = connection.execute(statement, values)
    found = [_row(row) for row in rows]
    return [row for row in found if row.calls or row.held_nano_usd]


def _row(row: tuple[object, ...]) -> CostRow:
    counts: list[int] = [count or 0 for count in row[:13]]  # type: ignore[misc]
    calls, read, written, cache_read, cache_write, *rest = counts
    cost, saved, wasted, presumed, held, repeats, repeated, assumed = rest
    return CostRow(
        group=tuple(None if value is None else str(value) for value in row[13:]),
        calls=calls,
        usage=Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
        ),
        cost_nano_usd=cost,
        saved_nano_usd=saved,
        wasted_nano_usd=wasted,
        presumed_nano_usd=presumed,
        held_nano_usd=held,
        repeats=repeats,
        repeated_nano_usd=repeated,
        assumed_calls=assumed,
    )
