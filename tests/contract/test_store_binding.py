"""A store belongs to one topic generation, and what its meters counted by stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.errors import StoreMismatch
from tests.contract.stores import BINDING, Place, step
from tests.unit.aggregator.making import NOW

if TYPE_CHECKING:
    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.store.port import Store, TopicBinding

SINCE = "metering_since: 2026-01-01T00:00:00Z\n"
EARLIEST = "2026-01-05T06:00:00Z"
"""The first hour of which no event can be counted once the log is folded to `NOW`."""
USUAL = "meters:\n- {name: a, aggregate: sum}\n- {name: b, aggregate: count, grace: 1h}\n"


def catalogue(meters: str = USUAL, since: str = SINCE) -> Catalogue:
    """A catalogue of these meters."""
    return parse_catalogue(since + meters)


@pytest.fixture
def bound(place: Place) -> Store:
    """A store bound to the usual meters, in place of the shared one."""
    store = place.open()
    store.bind(BINDING, catalogue())
    folded(store, NOW)
    return store


def folded(store: Store, appended: int) -> None:
    """Fold nothing up to an append time."""
    claim = store.claim(0, "w")
    store.commit([step(claim, (claim.next_offset or 0) + 1, appended=appended)], Changes())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (BINDING._replace(topic="others"), "belongs to topic 'events' .* not to 'others'"),
        (BINDING._replace(topic_id="id-2"), r"id id-1, 4 partitions\), not to 'events' \(id id-2"),
        (BINDING._replace(partitions=8), "4 partitions.* 8 partitions"),
        (BINDING._replace(topic_id=""), "id unknown"),
    ],
)
def test_another_topic_is_refused(
    place: Place, bound: Store, other: TopicBinding, words: str
) -> None:
    """Another name, generation or partition count: one sentence, and the binding stays."""
    with pytest.raises(StoreMismatch, match=words) as caught:
        bound.bind(other, catalogue())

    assert "name another store" in str(caught.value)
    assert "delete it" not in str(caught.value)
    assert place.reader().topic() == BINDING


def test_a_store_that_a_wrong_start_bound_may_be_deleted(store: Store) -> None:
    """Where nothing was folded yet, the sentence says that nothing is lost with it."""
    store.bind(BINDING, catalogue())

    with pytest.raises(StoreMismatch, match="nothing was folded into it yet: delete it"):
        store.bind(BINDING._replace(topic="others"), catalogue())


@pytest.mark.parametrize(
    ("meters", "words"),
    [
        ("meters: [{name: a, aggregate: max}]", r"'a' .* \(aggregate: 'sum' → 'max'\)"),
        ("meters: [{name: a, aggregate: sum, window: 1m}]", "window: 15m → 1m"),
        ("meters: [{name: b, aggregate: count}]", "'b' .*grace: 1h → 1d"),
        (
            "meters: [{name: a, aggregate: sum, where: {x: y}}]",
            r"where: \[\] → \[\['x', 'in', \['y'\]\]\]",
        ),
    ],
)
def test_a_change_without_a_date_is_refused(
    place: Place, bound: Store, meters: str, words: str
) -> None:
    """The sentence names the meter and what changed, and the line that would be accepted."""
    with pytest.raises(StoreMismatch, match=words) as caught:
        bound.bind(BINDING, catalogue(meters))

    assert f"from: {EARLIEST}" in str(caught.value)
    assert place.reader().catalogue() == catalogue()


def test_the_line_that_is_told_is_accepted(place: Place, bound: Store) -> None:
    """An hour earlier is refused, the told hour is not; both definitions stand from then on."""
    changed = USUAL + "- {name: a, aggregate: sum, window: 1m, from: 2026-01-05T"
    for hour in ("05:00:00Z}\n", "04:00:00Z}\n"):
        with pytest.raises(StoreMismatch, match=f"'a' would change .* from: {EARLIEST}"):
            bound.bind(BINDING, catalogue(changed + hour))

    bound.bind(BINDING, catalogue(f"{USUAL}- {{name: a, aggregate: sum, from: {EARLIEST}}}\n"))

    assert [m.since for m in place.reader().catalogue().definitions("a")] == [0, NOW + 2 * HOUR]
    place.open().bind(BINDING, catalogue(changed + "08:00:00Z}\n"))


def test_a_definition_that_applied_stays(place: Place, bound: Store) -> None:
    """Once its hour has come, a dated definition can be neither moved, changed nor taken out."""
    dated = f"{USUAL}- {{name: a, aggregate: max, from: {EARLIEST}}}\n"
    bound.bind(BINDING, catalogue(dated))
    folded(bound, NOW + 3 * HOUR)

    with pytest.raises(StoreMismatch, match=f"a definition from {EARLIEST} that is gone"):
        bound.bind(BINDING, catalogue())
    with pytest.raises(StoreMismatch, match=f"a definition from {EARLIEST} that is gone"):
        bound.bind(BINDING, catalogue(dated.replace("T06", "T12")))
    with pytest.raises(StoreMismatch, match=r"aggregate: 'max' → 'min'.* from: 2026-01-05T09"):
        bound.bind(BINDING, catalogue(dated.replace("max", "min")))
    last = f"meters: [{{name: a, aggregate: max, from: {EARLIEST}}}]"
    with pytest.raises(StoreMismatch, match="'a' was counted by a definition that is gone"):
        bound.bind(BINDING, catalogue(last))

    third = "- {name: a, aggregate: sum, from: 2026-01-05T09:00:00Z}\n"
    bound.bind(BINDING, catalogue(dated + third))
    bound.bind(BINDING, catalogue(dated))


@pytest.mark.parametrize("field", ["metering_since", "accept_from"])
def test_another_beginning_is_refused(bound: Store, field: str) -> None:
    """What was refused as too early would count now: both beginnings stay."""
    text = f"{SINCE}{field}: 2025-01-01T00:00:00Z\n".removeprefix(
        SINCE if field == "metering_since" else ""
    )

    with pytest.raises(
        StoreMismatch, match=rf"{field} differs .*2026-01-01T00:00:00Z → 2025-01-01T00:00:00Z"
    ):
        bound.bind(BINDING, catalogue(since=text))


def test_meters_come_and_go(place: Place, bound: Store) -> None:
    """A new meter, a removed one, another unit: welcome, and readers see the latest."""
    later = catalogue(
        "meters:\n- {name: a, aggregate: sum, unit: token}\n- {name: c, aggregate: min}"
    )

    bound.bind(BINDING, later)

    assert place.reader().catalogue() == later
    bound.bind(BINDING, catalogue())
    assert place.reader().catalogue() == catalogue()


def test_a_new_meter_of_counted_events_needs_a_date(bound: Store) -> None:
    """A VOID of an event from before it was there would take out of it what it never had."""
    with pytest.raises(StoreMismatch, match=f"'a.most' would read events of type 'a'.*{EARLIEST}"):
        bound.bind(BINDING, catalogue(USUAL + "- {name: a.most, type: a, aggregate: max}\n"))

    dated = f"- {{name: a.most, type: a, aggregate: max, from: {EARLIEST}}}\n"
    bound.bind(BINDING, catalogue(USUAL + dated))


def test_any_catalogue_will_do_while_nothing_was_folded(store: Store) -> None:
    """A mistake that is found before the first event may simply be mended."""
    store.bind(BINDING, catalogue("meters: [{name: a, aggregate: sum}]"))

    store.bind(BINDING, catalogue("meters: [{name: a, aggregate: max}]"))


def test_a_new_meter_counts_from_where_it_appears(bound: Store) -> None:
    """A date in the past would promise figures that nobody made: it is refused."""
    new = "- {name: c, aggregate: min, from: 2026-01-02T00:00:00Z}\n"
    with pytest.raises(StoreMismatch, match=f"'c' would change from 2026-01-02.* from: {EARLIEST}"):
        bound.bind(BINDING, catalogue(USUAL + new))

    bound.bind(BINDING, catalogue(USUAL + new.replace("2026-01-02T00:00:00Z", EARLIEST)))


def test_a_meter_cannot_come_back_as_another(place: Place, bound: Store) -> None:
    """Rows of a meter that was taken out are still there: it may not return changed."""
    bound.bind(BINDING, catalogue("meters: [{name: a, aggregate: sum}]"))

    with pytest.raises(StoreMismatch, match="meter 'b' was counted by another definition"):
        place.open().bind(BINDING, catalogue("meters: [{name: b, aggregate: sum}]"))

    place.open().bind(BINDING, catalogue())


RUN = "- {name: run, aggregate: session}\n"
RUN_BY_MINUTE = "- {name: run.fine, type: run, aggregate: session, window: 1m}\n"


def test_a_session_meter_joins_before_the_first_session_only(place: Place, bound: Store) -> None:
    """It cannot join sessions that were counted without it, nor come back to them."""
    bound.bind(BINDING, catalogue(USUAL + RUN))
    bound.bind(BINDING, catalogue(USUAL + RUN.replace("session", "session, unit: s")))

    with pytest.raises(StoreMismatch, match=r"'run\.fine' would read sessions of type 'run'"):
        place.open().bind(BINDING, catalogue(USUAL + RUN + RUN_BY_MINUTE))
    dated = RUN_BY_MINUTE.replace("window: 1m", f"window: 1m, longest: 400d, from: {EARLIEST}")
    place.open().bind(BINDING, catalogue(USUAL + RUN + dated))

    bound.bind(BINDING, catalogue())
    with pytest.raises(StoreMismatch, match="'run' would read sessions"):
        place.open().bind(BINDING, catalogue(USUAL + RUN))


def test_the_length_of_sessions_stays(place: Place, bound: Store) -> None:
    """A shorter length would take back the end that sessions were charged by."""
    bound.bind(BINDING, catalogue(USUAL + RUN))
    finer = RUN_BY_MINUTE.replace("window: 1m", f"window: 1m, from: {EARLIEST}")

    with pytest.raises(StoreMismatch, match=r"length of 400d, not 50000m.* longest: 400d"):
        place.open().bind(BINDING, catalogue(USUAL + RUN + finer))

    mended = finer.replace("window: 1m", "window: 1m, longest: 400d")
    place.open().bind(BINDING, catalogue(USUAL + RUN + mended))
