"""Sessions that run at one time, and what running ones came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.answering import Scope
from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.merging import RUNNING
from meterstream_aggregator.peaks import Peak, peak_of, peaks_of
from meterstream_aggregator.questions import ask
from meterstream_aggregator.running import AsOf, SessionTelling, running_usage
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import SessionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

CATALOGUE = parse_catalogue("""
metering_since: 1970-01-01T00:00:00Z
meters:
  - {name: run, aggregate: session, group_by: [route], timeout: 2h, grace: 1h}
  - {name: patient, type: run, aggregate: session, where: {route: [/pay]}, grace: 1h}
""")
RUN, PATIENT = CATALOGUE.definitions("run")[0], CATALOGUE.definitions("patient")[0]
SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12)


def _row(
    start: int | None, end: int | None, *, state: str, route: str = "/", tenant: str = "a"
) -> SessionRow:
    last = max(start or 0, end or 0)
    name = f"{start}-{end}-{route}"
    return SessionRow(
        0, tenant, "run", name, None, {"route": route}, start, end, last, last, state, 0
    )


def _store(rows: Sequence[SessionRow]) -> StoreReader:
    class Sessions:
        def sessions(self, *, state: str | None, **_: object) -> list[SessionRow]:
            return [row for row in rows if state in {None, row.state}]

        def overflowing(self) -> list[tuple[str, str, int]]:
            return []

    return cast("StoreReader", Sessions())


def _as_of(now: int, appended: int | None = None) -> AsOf:
    folded = now if appended is None else appended
    return AsOf(CATALOGUE, {0: folded}, folded, now)


@given(SPANS)
def test_peaks_equal_a_plain_count(spans: list[tuple[int, int]]) -> None:
    """At every instant those that run are counted; the first greatest count is the peak."""
    counts = [sum(low <= at < high for low, high in spans) for at in range(21)]
    most = max(counts)

    assert peak_of(spans) == Peak(most, counts.index(most) if most else None)


def test_peaks_by_period_and_group() -> None:
    """A session runs in every period that it overlaps; one that still runs does until now."""
    rows = [
        _row(0, 90 * MINUTE, state="closed"),
        _row(30 * MINUTE, 60 * MINUTE, state="closed"),
        _row(60 * MINUTE, None, state="open", route="/pay"),
    ]
    question = ask([RUN], [0, HOUR, 2 * HOUR], by=["route"])

    found = peaks_of(_store(rows), question, scope=Scope(), as_of=_as_of(100 * MINUTE))
    joined = peaks_of(
        _store(rows), ask([RUN], [0, 2 * HOUR], total=True), scope=Scope(), as_of=_as_of(2 * HOUR)
    )

    assert found == {
        (0, "a", ("/",)): Peak(2, 30 * MINUTE),
        (HOUR, "a", ("/",)): Peak(1, HOUR),
        (HOUR, "a", ("/pay",)): Peak(1, HOUR),
    }
    assert joined == {(0, None, ()): Peak(2, 30 * MINUTE)}


def test_running_seconds_are_cut_where_windows_closed() -> None:
    """What lies in windows that closed has not arrived; the rest may still come in time."""
    rows = [_row(10 * MINUTE, None, state="open")]
    question = ask([RUN], [0, HOUR, 3 * HOUR])

    told = running_usage(_store(rows), question, scope=Scope(), as_of=_as_of(100 * MINUTE))

    cut = [(row.start, row.quantity // MINUTE, row.arrival) for row in told[RUN.version]]
    assert cut == [(0, 20, RUNNING), (30 * MINUTE, 30, 0), (HOUR, 40, 0)]


@pytest.mark.parametrize(("since", "minutes"), [(0, 110), (40 * MINUTE, 75), (3 * HOUR, 0)])
def test_running_seconds_of_a_tenant_that_moved(since: int, minutes: int) -> None:
    """They count from the first window that began while it belonged there."""
    rows = [_row(10 * MINUTE, None, state="open")]
    scope = Scope(["a"], {"a": [(since, 10 * HOUR)]})

    told = running_usage(
        _store(rows), ask([RUN], [0, 2 * HOUR]), scope=scope, as_of=_as_of(3 * HOUR, 0)
    )

    assert sum(row.quantity for row in told.get(RUN.version, [])) == minutes * MINUTE


def test_what_one_meter_gave_up_may_run_under_another() -> None:
    """A session accrues under the meters that still wait for it, and no other."""
    rows = [_row(0, None, state="timed_out", route="/pay")]

    def seconds(name: str) -> int:
        (meter,) = CATALOGUE.definitions(name)
        told = running_usage(
            _store(rows), ask([meter], [0, 10 * HOUR]), scope=Scope(), as_of=_as_of(4 * HOUR)
        )
        return sum(row.quantity for row in told.get(meter.version, []))

    assert (seconds("run"), seconds("patient")) == (0, 4 * HOUR)


def test_seconds_at_stake() -> None:
    """An end vouches for its session; one that runs or was given up is at stake; or is nothing."""
    telling = SessionTelling(_as_of(4 * HOUR))

    assert telling.tell(_row(0, HOUR, state="closed")) == (HOUR, 0)
    assert telling.tell(_row(None, HOUR, state="unstarted")) == (None, 0)
    assert telling.tell(_row(3 * HOUR, None, state="open")) == (HOUR, HOUR)
    assert telling.tell(_row(0, None, state="timed_out")) == (0, 0)
    assert telling.tell(_row(0, None, state="timed_out", route="/pay")) == (4 * HOUR, 4 * HOUR)
