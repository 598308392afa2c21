"""A store belongs to one topic generation and to the meters it ever counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.errors import StoreMismatch
from tests.contract.stores import BINDING, Place

if TYPE_CHECKING:
    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.store.port import Store, TopicBinding

SINCE = "metering_since: 2026-01-01T00:00:00Z\n"
USUAL = "meters:\n- {name: a, aggregate: sum}\n- {name: b, aggregate: count, grace: 1h}\n"


def catalogue(meters: str = USUAL, since: str = SINCE) -> Catalogue:
    """A catalogue of these meters."""
    return parse_catalogue(since + meters)


@pytest.fixture
def bound(place: Place) -> Store:
    """A store bound to the usual meters, in place of the shared one."""
    store = place.open()
    store.bind(BINDING, catalogue())
    return store


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
    assert place.reader().topic() == BINDING


@pytest.mark.parametrize(
    ("meters", "words"),
    [
        ("meters: [{name: a, aggregate: max}]", r"'a' .* \(aggregate: 'sum' → 'max'\)"),
        ("meters: [{name: a, aggregate: sum, window: 1m}]", "window: 900000000 → 60000000"),
        ("meters: [{name: b, aggregate: count}]", "'b' .*grace: 3600000000 → 86400000000"),
        ("meters: [{name: a, aggregate: sum, where: {x: y}}]", r"where: \{\} → \{'x': \['y'\]\}"),
    ],
)
def test_a_changed_meter_is_refused(place: Place, bound: Store, meters: str, words: str) -> None:
    """The sentence names the meter and what changed, and says what to do."""
    with pytest.raises(StoreMismatch, match=words) as caught:
        bound.bind(BINDING, catalogue(meters))

    assert "give the changed meter a new name" in str(caught.value)
    assert place.reader().catalogue() == catalogue()


def test_another_beginning_is_refused(bound: Store) -> None:
    """What was refused as too early would count now: metering_since stays."""
    with pytest.raises(StoreMismatch, match="metering_since differs"):
        bound.bind(BINDING, catalogue(since="metering_since: 2025-01-01T00:00:00Z\n"))


def test_meters_come_and_go(place: Place, bound: Store) -> None:
    """A new meter, a removed one, another unit: welcome, and readers see the latest."""
    later = catalogue(
        "meters:\n- {name: a, aggregate: sum, unit: token}\n- {name: c, aggregate: min}"
    )

    bound.bind(BINDING, later)

    assert place.reader().catalogue() == later
    bound.bind(BINDING, catalogue())
    assert place.reader().catalogue() == catalogue()


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

    bound.bind(BINDING, catalogue())
    with pytest.raises(StoreMismatch, match="'run' would read sessions"):
        place.open().bind(BINDING, catalogue(USUAL + RUN))
