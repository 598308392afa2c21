"""Thresholds in the catalogue file: what they may say, and a sentence for what they may not."""

from __future__ import annotations

import pytest

from meterstream_aggregator.catalogue import Threshold
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.errors import CatalogueError

THRESHOLDS = """
meters:
- {name: a, aggregate: sum, window: 1h}
- {name: high, aggregate: max}
- {name: level, aggregate: time_weighted}
- {name: b, aggregate: sum}
- {name: b, aggregate: max, from: 2026-01-01T00:00:00Z}
thresholds:
"""
OF_THRESHOLD = [
    ("name: u", "name: ", "two thresholds are called 'u'", "rename one"),
    ("meter: x", "meter: ", "no meter is called 'x'", "mend it"),
    ("meter: level", "meter: ", "is time_weighted", "count, sum, max or session"),
    ("meter: b", "meter: ", "max at times", "name another"),
    ("scope: world", "scope 'world': ", "is not known", "'tenant' or 'account'"),
    ("zone: Europe/Berln", "zone 'Europe/Berln': ", "no IANA time zone", "Europe/Berlin"),
    ("zone: X", "zone 'X': ", "no IANA time zone", "write Europe/Berlin"),
    ("zone: Asia/Kathmandu", "every: ", "not on a boundary of the 60-minute windows", "nearest"),
    ("every: soon", "every 'soon': ", "no length of time", "1mo"),
    ("every: total", "every 'total': ", "no first period", "1mo"),
    ("every: 2w", "every '2w': ", "no first period", "1w"),
    ("every: 5h", "every '5h': ", "no first period", "6h"),
    ("every: 15m", "every: ", "not on a boundary", "nearest"),
    ("anchor: 2", "anchor: ", "only months", "remove it"),
    ("anchor: 32", "anchor 32: ", "less than or equal to 31", ""),
    ("at: []", "at: ", "is empty", "name at least one"),
    ("at: [5, 3]", "at: ", "is not ascending", "smallest first"),
    ("at: [5, '5.0']", "at: ", "is not ascending", "each value once"),
    ("at: [0.5]", "at.0 0.5: ", "is a float", "text '0.5'"),
    ("at: ['0']", "at.0 '0': ", "before anything is used", "above 0"),
    ("at: [x]", "at.0 'x': ", "not a decimal number", "12.5"),
]


@pytest.mark.parametrize(("line", "field", "problem", "remedy"), OF_THRESHOLD)
def test_a_mistake_of_a_threshold(line: str, field: str, problem: str, remedy: str) -> None:
    """The sentence tells the field, what was given and what to write."""
    fields = {"name": "name: t", "meter": "meter: a", "every": "every: 1d", "at": "at: [5]"}
    fields[line.partition(":")[0]] = line
    entry = "\n  ".join(fields.values())

    with pytest.raises(CatalogueError) as caught:
        parse_catalogue(f"{THRESHOLDS}- {{name: u, meter: high, at: [1]}}\n- {entry}")

    message = str(caught.value)

    assert f": thresholds.1.{field}" in message
    assert problem in message
    assert remedy in message


def test_a_threshold() -> None:
    """Values are plain decimals, billing months are months from an anchor, the rest is as said."""
    catalogue = parse_catalogue(
        f"{THRESHOLDS}- {{name: t, meter: a, at: [1000, '2e3', '2000.50']}}\n"
        "- {name: u, meter: high, scope: account, of: [y, x, y], every: billing, anchor: 31,"
        " zone: Asia/Kathmandu, at: ['1']}\n"
    )

    assert catalogue.thresholds == (
        Threshold("t", "a", "tenant", (), "1mo", "UTC", 1, ("1000", "2000", "2000.5")),
        Threshold("u", "high", "account", ("x", "y"), "1mo", "Asia/Kathmandu", 31, ("1",)),
    )
    assert catalogue.version == parse_catalogue(THRESHOLDS.removesuffix("thresholds:\n")).version
