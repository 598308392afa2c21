"""What questions read as figures: added up by period, adjustments, levels and changes before."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import HOUR, MINUTE, MOMENT
from meterstream_aggregator.changes import Changes, Item
from meterstream_aggregator.store.told import UsageRow
from tests.contract.stores import CATALOGUE, NOW, WINDOW, added, commit, row, sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream_aggregator.changes import ItemKey
    from meterstream_aggregator.store.port import Store, StoreReader
    from tests.contract.stores import Place

HALF = 30 * MINUTE
Sums = dict[tuple[object, ...], tuple[int, int, int, int]]


def _added_up(rows: Iterable[UsageRow], bounds: Sequence[int]) -> Sums:
    """(events, quantity, first window, last) by period and everything that tells rows apart."""
    sums: Sums = {}
    for each in rows:
        key = (bisect_right(bounds, each.start), *each[:2], each.scale, each.arrival)
        known = sums.get(key, (0, 0, each.start, each.start))
        sums[key] = (
            known[0] + each.events,
            known[1] + each.quantity,
            min(known[2], each.start),
            max(known[3], each.start),
        )
    return sums


AMOUNTS = st.integers(-(2**80), 2**80) | st.integers(-9, 9)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.tuples(
            st.integers(0, 300),
            st.sampled_from(("a", "b")),
            st.sampled_from((0, 0, 0, WINDOW + HOUR)),
            st.sampled_from((0, 18)),
        ),
        st.tuples(st.integers(1, 9), AMOUNTS),
        max_size=30,
    ),
    st.lists(st.integers(0, 300), max_size=5, unique=True).map(sorted),
    st.sampled_from((None, ["a"], ["b", "a", "nobody"])),
)
@pytest.mark.parametrize("meter", ["credit", "mean", "credit.least", "last"])
def test_rows_added_up_by_period_are_the_same_figures(  # noqa: PLR0917 - drawn, and fixtures
    place: Place,
    store: Store,
    meter: str,
    content: dict[tuple[int, str, int, int], tuple[int, int]],
    cuts: list[int],
    tenants: list[str] | None,
) -> None:
    """With periods or without: sums, first and last window, and arrivals agree to the last unit."""
    claim = store.claim(0, "a")
    definition = CATALOGUE.meter(meter)
    base = WINDOW + claim.epoch * 1000 * HALF
    rows = {
        row(base + n * HALF, meter=meter, tenant=tenant, arrival=arrival, scale=scale): amounts
        for (n, tenant, arrival, scale), amounts in content.items()
    }
    commit(store, claim, added(rows) if rows else Changes())
    bounds = [base, *(base + cut * HALF for cut in cuts if cut), base + 301 * HALF]
    reader, end = place.reader(), base + 290 * HALF

    apart = reader.usage(definition, tenants=tenants, start=base, end=end)
    joined = reader.usage(definition, tenants=tenants, start=base, end=end, periods=bounds)

    assert _added_up(joined, bounds) == _added_up(apart, bounds)


def test_a_month_comes_added_up(place: Place, store: Store) -> None:
    """Nothing is missed at either end, nor where blocks and periods part."""
    starts = [WINDOW + n * HALF for n in range(1440)]
    for some in range(0, 1440, 500):
        rows = {row(start): (1, 2**61) for start in starts[some : some + 500]}
        commit(store, store.claim(0, "a"), added(rows))
    bounds = [WINDOW, starts[700], starts[-1] + HALF]

    joined = place.reader().usage(
        CATALOGUE.meter("credit"), tenants=["acme"], start=bounds[0], end=bounds[-1], periods=bounds
    )

    assert list(_added_up(joined, bounds).values()) == [
        (700, 700 * 2**61, starts[0], starts[699]), (740, 740 * 2**61, starts[700], starts[-1]),
    ]  # fmt: skip


@pytest.mark.parametrize("tenants", [None, ["b", "acme"]])
@pytest.mark.parametrize(("start", "end"), [(WINDOW, WINDOW + 40 * HOUR), (0, 2**55)])
def test_periods_of_several_scales_and_of_late_rows_alone(
    place: Place, store: Store, tenants: list[str] | None, start: int, end: int
) -> None:
    """Exact beyond 64 bits, over hours and over centuries; each scale and arrival on its own."""
    high, late = 2**62 - 1, NOW + 90 * HOUR
    times = [WINDOW + n * HALF for n in (0, 1, 2, 25, 26, 50, 51, 79)]
    rows = {row(time): (1, high) for time in times[:3]}
    rows |= {row(time, scale=scale): (1, -high) for time in times[3:5] for scale in (0, 2, 18)}
    rows |= {row(time, arrival=late): (1, high) for time in times[3:6]}
    rows |= {row(time, tenant="b", partition=1): (2, -1) for time in times}
    rows[row(times[7], tenant="b", partition=1, arrival=late, scale=5)] = (0, -(2**80))
    rows[row(WINDOW + 3000 * 24 * HOUR, tenant="b", partition=1)] = (5, 5)
    commit(store, store.claim(0, "a"), added(rows))
    bounds = [start, times[3] - HALF, times[5], end]
    reader, meter = place.reader(), CATALOGUE.meter("credit")

    joined = _added_up(
        reader.usage(meter, tenants=tenants, start=start, end=end, periods=bounds), bounds
    )

    apart = reader.usage(meter, tenants=tenants, start=start, end=end)
    assert joined == _added_up(apart, bounds)
    assert {key: sums for key, sums in joined.items() if "acme" in key} == {
        (1, "acme", (), 0, 0): (3, 3 * high, times[0], times[2]),
        (2, "acme", (), 0, 0): (2, -2 * high, times[3], times[4]),
        (2, "acme", (), 2, 0): (2, -2 * high, times[3], times[4]),
        (2, "acme", (), 18, 0): (2, -2 * high, times[3], times[4]),
        (2, "acme", (), 0, late): (2, 2 * high, times[3], times[4]),
        (3, "acme", (), 0, late): (1, high, times[5], times[5]),
    }
    assert sum(sums[0] for key, sums in joined.items() if "b" in key) == (
        21 if end == 2**55 else 16
    )


def test_adjustments_are_asked_by_arrival(place: Place, store: Store) -> None:
    """What came late, in [from, to) of windows and of arrivals; never what came in time."""
    starts = [WINDOW + n * HALF for n in range(4)]
    rows = {
        row(start, arrival=arrival, tenant=tenant): (1, n)
        for n, (start, arrival, tenant) in enumerate(
            (start, arrival, tenant)
            for start in starts
            for arrival in (0, NOW + HOUR, NOW + 2 * HOUR)
            for tenant in ("a", "b")
        )
    }
    rows[row(arrival=NOW + HOUR, meter="mean", tenant="a")] = (1, 99)
    commit(store, store.claim(0, "a"), added(rows))
    reader, meter = place.reader(), CATALOGUE.meter("credit")

    def asked(tenants: list[str] | None, start: int, end: int, **arrived: int) -> list[int]:
        found = reader.adjustments(meter, tenants=tenants, start=start, end=end, **arrived)
        return sorted(each.quantity for each in found)

    assert asked(None, 0, 2**55) == [n for n in range(24) if n % 6 > 1]
    assert asked(["a"], starts[1], starts[2]) == [8, 10]
    assert asked(["b", "nobody"], 0, starts[1], arrived_from=NOW + 2 * HOUR) == [5]
    assert asked(["b"], 0, starts[1], arrived_from=NOW + HOUR + 1) == [5]
    assert asked(["b"], 0, starts[1], arrived_until=NOW + 2 * HOUR) == [3]
    assert asked([f"t{n}" for n in range(1500)], 0, 2**55) == []
    [one] = reader.adjustments(
        meter, tenants=["b"], start=0, end=starts[1], arrived_from=NOW + HOUR * 2
    )
    assert one == UsageRow("b", (), WINDOW, 1, 5, 0, NOW + 2 * HOUR)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.tuples(
                st.sampled_from((WINDOW, WINDOW + 900 * HOUR)),
                st.sampled_from((0, NOW + HOUR, NOW + 2 * HOUR)),
                st.sampled_from((0, 3)),
            ),
            st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
            max_size=6,
        ),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.parametrize("meter", ["credit", "credit.least"])
def test_what_came_late_is_found_until_it_comes_to_nothing(
    place: Place,
    store: Store,
    meter: str,
    batches: list[dict[tuple[int, int, int], tuple[int, int]]],
) -> None:
    """Adjustments are the late rows of usage, whatever came, left and came again in which order."""
    claim = store.claim(0, "a")
    tenant = f"t{claim.epoch}"
    expected: dict[tuple[int, int, int], tuple[int, int]] = {}
    for batch in batches:
        rows = {
            row(start, meter=meter, tenant=tenant, arrival=arrival, scale=scale): amounts
            for (start, arrival, scale), amounts in batch.items()
        }
        claim = commit(store, claim, added(rows) if rows else Changes())
        for key, amounts in batch.items():
            before = expected.get(key, (0, 0))
            expected[key] = (before[0] + amounts[0], before[1] + amounts[1])
    reader, definition = place.reader(), CATALOGUE.meter(meter)

    late = list(reader.adjustments(definition, tenants=[tenant], start=0, end=2**55))

    every = reader.usage(definition, tenants=[tenant], start=0, end=2**55)
    assert sorted(late) == sorted(each for each in every if each.arrival)
    if meter == "credit":
        found = {(r.start, r.arrival, r.scale): (r.events, r.quantity) for r in late}
        assert len(found) == len(late)
        assert found == {key: sums for key, sums in expected.items() if key[1] and any(sums)}


Levels = dict[str, list[tuple[int, int, int]]]


def _levels(reader: StoreReader, start: int, tenants: list[str] | None = None) -> Levels:
    """(arrival, time, sequence) in the order told, by tenant and group."""
    found: Levels = {}
    for each in reader.levels_before(CATALOGUE.meter("level"), tenants=tenants, start=start):
        assert each.start == each.by.time - each.by.time % HOUR
        assert each.item == f"{each.by.time - each.start:010d}"
        of_series = found.setdefault("/".join((each.tenant, *each.group)), [])
        of_series.append((each.arrival, each.by.time, each.by.sequence))
    return found


def test_levels_go_back_to_the_last_that_came_in_time(place: Place, store: Store) -> None:
    """Per series: late samples from the latest back, and the first that came in time, no more."""
    late = NOW + 30 * HOUR
    samples: dict[ItemKey, Item] = dict(
        [
            sample(WINDOW + 10, tenant="a"),
            sample(WINDOW + 20, tenant="a"),
            sample(WINDOW + 30, tenant="a", arrival=late),
            sample(WINDOW + HOUR + 5, tenant="a", arrival=late + HOUR),
            sample(WINDOW + 3 * HOUR, tenant="a"),
            sample(WINDOW + 9, tenant="b", arrival=late),
            sample(WINDOW - 900 * 24 * HOUR, tenant="b"),
            sample(WINDOW, tenant="c", arrival=late),
            sample(WINDOW + 1, tenant="a", group=("x",)),
        ]
    )
    commit(store, store.claim(0, "a"), Changes(items=samples))
    reader = place.reader()

    assert _levels(reader, WINDOW + 3 * HOUR, ["a"]) == {
        "a": [
            (late + HOUR, WINDOW + HOUR + 5, 0), (late, WINDOW + 30, 0), (0, WINDOW + 20, 0),
        ],
        "a/x": [(0, WINDOW + 1, 0)],
    }  # fmt: skip
    before = (0, WINDOW - 900 * 24 * HOUR, 0)
    assert _levels(reader, WINDOW + HOUR, ["c", "b", "c"]) == {
        "b": [(late, WINDOW + 9, 0), before],
        "c": [(late, WINDOW, 0)],
    }
    assert _levels(reader, WINDOW) == {"b": [before]}
    assert _levels(reader, 2**55)["a"] == [(0, WINDOW + 3 * HOUR, 0)]
    assert _levels(reader, 0) == {}


def test_of_one_instant_the_greater_sample_is_the_level(place: Place, store: Store) -> None:
    """Of samples of one instant those are told that are greater than the one in time, no others."""
    at = WINDOW + 7
    samples = dict(
        [
            sample(at, by=Item(at, 5, "", 0, 1, 0)),
            sample(at, arrival=NOW + HOUR, by=Item(at, 4, "", 9, 2, 0)),
            sample(at, arrival=NOW + 2 * HOUR, by=Item(at, 6, "", 0, 3, 0)),
        ]
    )
    commit(store, store.claim(0, "a"), Changes(items=samples))

    assert _levels(place.reader(), WINDOW + HOUR) == {
        "acme": [(NOW + 2 * HOUR, at, 6), (0, at, 5)],
    }


def test_changes_before_add_up_exactly(place: Place, store: Store) -> None:
    """Per series, arrival and scale over all windows before; first moments are left out."""
    amounts = [2**63 - 1, 2**63 - 1, 2**62, -(2**63), 2**80, -(2**80) - 1, 7]
    starts = [WINDOW + n * 50 * HOUR for n in range(len(amounts))]
    rows = {
        row(start, meter="flow", scale=3): (1, amount)
        for start, amount in zip(starts, amounts, strict=True)
    }
    rows[row(meter="flow", scale=0)] = (2, 5)
    rows[row(meter="flow", scale=3 + MOMENT)] = (0, 1000)
    rows[row(meter="flow", scale=3, arrival=NOW + HOUR)] = (1, -4)
    rows[row(meter="flow", tenant="b", partition=1)] = (1, 11)
    rows[row(meter="mean")] = (1, 1)
    commit(store, store.claim(0, "a"), added(rows))
    reader, meter = place.reader(), CATALOGUE.meter("flow")

    def before(start: int, tenants: list[str] | None) -> list[UsageRow]:
        return sorted(reader.changes_before(meter, tenants=tenants, start=start))

    mine = [
        UsageRow("acme", (), WINDOW, 1, -4, 3, NOW + HOUR),
        UsageRow("acme", (), WINDOW, 2, 5, 0, 0),
        UsageRow("acme", (), starts[-2], len(amounts) - 1, sum(amounts[:-1]), 3, 0),
    ]
    assert before(starts[-1], ["acme", "nobody"]) == mine
    assert before(starts[-1], None) == [*mine, UsageRow("b", (), WINDOW, 1, 11, 0, 0)]
    assert before(WINDOW, None) == before(0, None) == before(2**55, []) == []
