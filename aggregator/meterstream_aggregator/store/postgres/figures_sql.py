"""The SQL of `figures`: statements that read usage, its late rows, and items.

Usage is found by the blocks and the series that are asked for, both as arrays: one walk of the
table's key that jumps from each place to the next.
"""

from __future__ import annotations

from typing import Final

BLOCKS: Final = """
    WITH RECURSIVE found (block) AS (
        SELECT (SELECT min(block) FROM usage WHERE block >= %(first)s)
        UNION ALL
        SELECT (SELECT min(usage.block) FROM usage WHERE usage.block > found.block)
        FROM found WHERE found.block < %(end)s
    )
    SELECT block FROM found WHERE block < %(end)s
"""
"""From one block that has usage to the next."""
_WITHIN: Final = """
    usage.start >= %(low)s AND usage.start < %(high)s AND usage.scale < %(scales)s
"""
OF_SERIES: Final = f"""
    FROM usage
    WHERE usage.block = ANY(%(blocks)s::integer[]) AND usage.series = ANY(%(series)s::bigint[])
      AND {_WITHIN}
"""
OF_ALL: Final = f"""
    FROM usage JOIN series ON series.id = usage.series
    WHERE series.version = %(version)s
      AND usage.block >= %(first)s AND usage.block < %(end)s AND {_WITHIN}
"""
_COLUMNS: Final = (
    "usage.series, usage.start, usage.events, usage.quantity, usage.scale, usage.arrival"
)
ROWS: Final = f"SELECT {_COLUMNS}"
SUMS: Final = (
    "SELECT usage.series, usage.scale, usage.arrival, min(usage.start), max(usage.start),"
    " sum(usage.events)::bigint, sum(usage.quantity)"
)
BY_PERIOD: Final = (
    " GROUP BY usage.series, usage.scale, usage.arrival,"
    " width_bucket(usage.start::bigint, %(bounds)s::bigint[])"
)
BY_ONE: Final = " GROUP BY usage.series, usage.scale, usage.arrival"
SERIES: Final = (
    "SELECT id, tenant, groups FROM series WHERE version = %s AND tenant = ANY(%s::text[])"
)
ALL_SERIES: Final = "SELECT id, tenant, groups FROM series WHERE version = %s"
LATE: Final = f"""
    SELECT {_COLUMNS}
    FROM series JOIN late ON late.series = series.id
         JOIN usage USING (block, series, start, arrival, scale)
    WHERE series.version = %(version)s
      AND late.arrival >= %(arrived_from)s AND late.arrival < %(arrived_until)s
      AND late.start >= %(low)s AND late.start < %(high)s
"""  # noqa: S608 - names of our own
OF_TENANTS: Final = " AND series.tenant = ANY(%(tenants)s::text[])"
ITEM: Final = """
    item.series, item.start, item.arrival, item.item, item."time", item.sequence, item.producer,
    item."offset", item.quantity, item.scale
"""
ITEMS: Final = f"""
    SELECT {ITEM} FROM item
    WHERE series = ANY(%(series)s::bigint[]) AND start >= %(low)s AND start < %(high)s
"""  # noqa: S608 - names of our own
LEVELS: Final = f"""
    SELECT {ITEM}
    FROM unnest(%(series)s::bigint[]) AS wanted (series)
         LEFT JOIN LATERAL (
             SELECT in_time.start, in_time.item FROM item AS in_time
             WHERE in_time.series = wanted.series AND in_time.start >= 0
               AND in_time.start < %(high)s AND in_time.arrival = 0
             ORDER BY in_time.start DESC, in_time.item DESC LIMIT 1
         ) AS base ON true
         JOIN item ON item.series = wanted.series AND item.start < %(high)s
           AND (item.start, item.item) >= (coalesce(base.start, 0), coalesce(base.item, ''::bytea))
    ORDER BY item.series, item.start DESC, item.item DESC, item.sequence DESC, item.producer DESC,
             item."offset" DESC
"""  # noqa: S608 - names of our own
"""Of each series the samples from the latest that came in time on, the latest first."""
OVERFLOWING: Final = (
    "SELECT id, meter, tenant, groups FROM series"
    """ WHERE substr(groups, 1, 13) = '["(overflow)"'"""
)
OVERFLOWED: Final = """
    WITH RECURSIVE found (block) AS (
        SELECT min(block) FROM usage
        UNION ALL
        SELECT (SELECT min(usage.block) FROM usage WHERE usage.block > found.block)
        FROM found WHERE found.block IS NOT NULL
    )
    SELECT usage.series, sum(usage.events)::bigint FROM usage
    WHERE usage.block = ANY(ARRAY(SELECT block FROM found WHERE block IS NOT NULL))
      AND usage.series = ANY(%s::bigint[])
    GROUP BY usage.series
"""
