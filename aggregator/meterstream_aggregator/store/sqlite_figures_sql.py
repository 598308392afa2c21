"""The SQL of `sqlite_figures`: statements that read usage, its late rows, and items."""

from __future__ import annotations

from typing import Final

HALF_BITS: Final = 31

PIECES: Final = """
    WITH RECURSIVE period (n, low, high) AS (
        SELECT key, value ->> 0, value ->> 1 FROM json_each(:periods)
    ), piece (n, block, low, high) AS (
        SELECT n, (SELECT min(block) FROM usage WHERE block >= low / :minutes), low, high
        FROM period
        UNION ALL
        SELECT n, (SELECT min(usage.block) FROM usage WHERE usage.block > piece.block), low, high
        FROM piece WHERE block * :minutes < high
    )
"""
_WITHIN: Final = """
    usage.block = piece.block AND usage.start >= piece.low AND usage.start < piece.high
    AND usage.scale < :scales
"""
OF_SERIES: Final = f"""
    FROM json_each(:series) AS wanted CROSS JOIN piece CROSS JOIN usage
    WHERE usage.series = wanted.value AND {_WITHIN}
"""
OF_ALL: Final = f"""
    FROM piece CROSS JOIN usage CROSS JOIN series
    WHERE {_WITHIN} AND series.id = usage.series AND series.version = :version
"""
ROWS: Final = (
    PIECES + "SELECT usage.series, usage.start, usage.events, usage.quantity_high,"
    " usage.quantity_low, usage.scale, usage.arrival"
)
_SUM: Final = (
    "min(usage.start), max(usage.start), sum(usage.events), sum(usage.quantity_high),"
    f" sum(usage.quantity_low >> {HALF_BITS}),"
    f" sum(usage.quantity_low & {(1 << HALF_BITS) - 1})"
)
SUMS: Final = PIECES + f"SELECT usage.series, usage.scale, usage.arrival, {_SUM}"
BY_PERIOD: Final = " GROUP BY usage.series, piece.n, usage.scale, usage.arrival"
MIXED: Final = SUMS + OF_SERIES + "AND usage.arrival = 0" + BY_PERIOD
IN_TIME: Final = f"""
    WITH period (low, high, blocks) AS MATERIALIZED (
        SELECT value ->> 0, value ->> 1, value -> 2 FROM json_each(:spans)
    )
    SELECT wanted.value, period.low, period.high, (
        SELECT CASE WHEN min(usage.scale) NOT NULL
            THEN json_array(min(usage.scale), max(usage.scale), {_SUM}) END
        FROM json_each(period.blocks) AS block CROSS JOIN usage
        WHERE usage.block = block.value AND usage.series = wanted.value AND usage.arrival = 0
          AND usage.start >= period.low AND usage.start < period.high {{and_scale}}
    )
    FROM json_each(:series) AS wanted CROSS JOIN period
"""  # noqa: S608 - names of our own
BLOCKS: Final = """
    WITH RECURSIVE found (block) AS (
        SELECT (SELECT min(block) FROM usage WHERE block >= :first)
        UNION ALL
        SELECT (SELECT min(usage.block) FROM usage WHERE usage.block > found.block)
        FROM found WHERE block < :end
    )
    SELECT block FROM found WHERE block < :end
"""
SERIES: Final = (
    "SELECT id, tenant, groups FROM series"
    " WHERE version = ? AND tenant IN (SELECT value FROM json_each(?))"
)
_IS_LATE: Final = """
    late.start >= :low AND late.start < :high
    AND (usage.block, usage.series, usage.start, usage.arrival, usage.scale)
      = (late.block, late.series, late.start, late.arrival, late.scale)
"""
LATE: Final = f"""
    SELECT usage.series, usage.start, usage.events, usage.quantity_high, usage.quantity_low,
           usage.scale, usage.arrival
    FROM series CROSS JOIN late CROSS JOIN usage
    WHERE series.version = :version AND {{whose}} AND late.series = series.id
      AND late.arrival >= :arrived_from AND late.arrival < :arrived_until AND {_IS_LATE}
"""  # noqa: S608 - names of our own
LATE_SUMS: Final = f"""
    SELECT usage.series, usage.scale, usage.arrival, {_SUM}
    FROM json_each(:series) AS wanted CROSS JOIN late CROSS JOIN usage
    WHERE late.series = wanted.value AND late.scale < :scales AND {_IS_LATE}
    GROUP BY usage.series, {{apart}} usage.scale, usage.arrival
"""  # noqa: S608 - names of our own
ITEMS: Final = """
    SELECT series, start, arrival, item, time, sequence, producer, "offset", quantity, scale
    FROM item WHERE series = ? AND start >= ? AND start < ?
"""
LEVELS: Final = (
    ITEMS + 'ORDER BY start DESC, item DESC, sequence DESC, producer DESC, "offset" DESC'
)
OVERFLOWING: Final = (
    "SELECT id, meter, tenant, version, groups FROM series"
    """ WHERE substr(groups, 1, 13) = '["(overflow)"'"""
)
