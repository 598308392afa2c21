"""What joins in the store besides usage: items, the index of the log, callers' keys, readings."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import (
    OVERFLOW,
    Changes,
    Item,
    ItemKey,
    KeyState,
    Place,
    Presence,
    Span,
)
from meterstream_aggregator.errors import Fenced
from meterstream_aggregator.state import KEY_HORIZON, SeriesOwner
from tests.contract.stores import (
    BINDING,
    CATALOGUE,
    NOW,
    WINDOW,
    added,
    caller_key,
    commit,
    keys,
    row,
    series,
    step,
)

if TYPE_CHECKING:
    from meterstream_aggregator.store.port import Store, StoreReader
    from tests.contract.stores import Place as StorePlace

ITEMS = st.builds(
    Item,
    st.integers(NOW, NOW + 2),
    st.integers(0, 2),
    st.sampled_from(("", "a", "b", "é", "\U0001f980", "￿")),
    st.integers(0, 2),
    st.integers(0, 1) | st.sampled_from((-(2**63), 2**63 - 1)),
    st.integers(0, 18),
)
SPANS = st.builds(Span, st.integers(0, 99), st.integers(99, 65_535), st.integers(1, 9))


def _items(reader: StoreReader, meter: str = "last") -> dict[tuple[object, ...], Item]:
    found = reader.items(CATALOGUE.meter(meter), tenants=None, start=0, end=2**55)
    return {tuple(each[:-1]): each.by for each in found}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ITEMS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_the_greater_item_stands(
    place: StorePlace, store: Store, batches: list[list[Item]]
) -> None:
    """In whatever order and batches they come, and however often: the greatest is what is left."""
    claim = store.claim(0, "a")
    key = ItemKey(series("last", tenant=f"t{claim.epoch}"), WINDOW, 0, "")
    for batch in [*batches, batches[0]]:
        claim = commit(store, claim, Changes(items={key: max(batch)}))

    found = _items(place.reader())

    every = [item for batch in batches for item in batch]
    assert found[(f"t{claim.epoch}", (), WINDOW, 0, "")] == max(every)


def test_items_are_apart_by_series_window_arrival_and_name(place: StorePlace, store: Store) -> None:
    """Each keeps its own; none is told to another meter, tenant or time."""
    item = Item(NOW, 1, "p", 7, -5, 3)
    known = [
        ItemKey(series("users"), WINDOW, 0, "u"),
        ItemKey(series("users"), WINDOW, 0, ""),
        ItemKey(series("users"), WINDOW, 0, "\x00'é"),
        ItemKey(series("users"), WINDOW, WINDOW + HOUR, "u"),
        ItemKey(series("users"), WINDOW + HOUR, 0, "u"),
        ItemKey(series("users", tenant="b"), WINDOW, 0, "u"),
        ItemKey(series("users", group=("g",)), WINDOW, 0, "u"),
        ItemKey(series("last"), WINDOW, 0, "u"),
    ]
    items = {key: item._replace(offset=n) for n, key in enumerate(known)}
    commit(store, store.claim(0, "a"), Changes(items=items))
    reader, users = place.reader(), CATALOGUE.meter("users")

    def offsets(tenants: list[str] | None, start: int, end: int) -> list[int]:
        found = reader.items(users, tenants=tenants, start=start, end=end)
        return sorted(each.by.offset for each in found)

    assert _items(reader, "users") == {
        (key.series.tenant, key.series.group, *key[1:]): by
        for key, by in items.items()
        if key.series.meter == "users"
    }
    assert offsets(["b"], 0, 2**55) == [5]
    assert offsets(["acme", "b", "b"], WINDOW + 1, 2**55) == [4]
    assert offsets(None, WINDOW, WINDOW + HOUR) == [0, 1, 2, 3, 5, 6]
    assert offsets([], 0, 2**55) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SPANS, min_size=1, max_size=6))
def test_the_index_of_the_log_joins(place: StorePlace, store: Store, spans: list[Span]) -> None:
    """First by the least, last by the greatest, events by their sum, over any commits."""
    claim = store.claim(0, "a")
    hour = claim.epoch
    where, whose = Place(0, hour, 3), Presence(0, f"p{hour}", hour)
    for span in spans:
        claim = commit(store, claim, Changes(places={where: span}, presences={whose: span}))

    joined = Span(
        min(span.first for span in spans),
        max(span.last for span in spans),
        sum(span.events for span in spans),
    )
    assert place.reader().places(0, hour * HOUR, (hour + 1) * HOUR) == [(where, joined)]
    assert place.reader().presences(0, {hour: (0, 2**62)}) == [(whose.producer, joined)]


def test_places_and_presences_are_found(place: StorePlace, store: Store) -> None:
    """By partition, and by hours that the time asked for touches, or by segments; in order."""
    span = Span(1, 2, 2)
    places = [Place(0, 7, 1), Place(0, 7, 2), Place(0, 8, 0), Place(0, 9, 0), Place(1, 8, 0)]
    presences = [Presence(0, "a", 2), Presence(0, "b", 0), Presence(0, "b", 1), Presence(1, "b", 0)]
    changes = Changes(places=dict.fromkeys(places, span), presences=dict.fromkeys(presences, span))
    commit(store, store.claim(0, "a"), changes)
    reader = place.reader()

    def hours(start: int, end: int) -> list[Place]:
        return [where for where, _ in reader.places(0, start, end)]

    assert hours(0, 2**55) == places[:4]
    assert hours(8 * HOUR, 9 * HOUR) == [places[2]]
    assert hours(8 * HOUR - 1, 9 * HOUR + 1) == places[:4]
    assert hours(8 * HOUR + 1, 9 * HOUR - 1) == [places[2]]
    assert [where for where, _ in reader.places(1, 0, 2**55)] == [places[4]]
    everywhere: dict[int, tuple[int, int]] = dict.fromkeys((0, 2, 5), (0, 2**62))
    assert reader.presences(0, everywhere) == [("a", span), ("b", span)]
    assert reader.presences(0, {}) == []


SEGMENTS = st.integers(0, 3)
OFFSETS = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda two: (min(two), max(two)))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), SEGMENTS),
        st.tuples(OFFSETS, st.integers(1, 9)).map(lambda both: Span(*both[0], both[1])),
    ),
    st.dictionaries(SEGMENTS, OFFSETS),
)
def test_presences_are_joined_where_offsets_meet(
    place: StorePlace,
    store: Store,
    stored: dict[tuple[str, int], Span],
    wanted: dict[int, tuple[int, int]],
) -> None:
    """A producer's part of a segment counts whole, or not at all, as its offsets say."""
    claim = store.claim(0, "a")
    base = claim.epoch * 4  # what other examples stored lies in other segments
    presences = {Presence(0, whose, base + at): span for (whose, at), span in stored.items()}
    commit(store, claim, Changes(presences=presences))

    plain: dict[str, list[Span]] = {}
    for (whose, at), span in sorted(stored.items()):
        if at in wanted and span.first <= wanted[at][1] and span.last >= wanted[at][0]:
            plain.setdefault(whose, []).append(span)
    asked = {base + at: offsets for at, offsets in wanted.items()}
    assert place.reader().presences(0, asked) == [
        (whose, Span(min(s.first for s in of), max(s.last for s in of), sum(s.events for s in of)))
        for whose, of in plain.items()
    ]


def test_callers_keys_are_known_by_tenant_and_partition(store: Store) -> None:
    """A key belongs to one tenant of one partition; the last write counts, with all of it."""
    voided = caller_key(content=b"d" * 16, state=KeyState.VOIDED, time=5)
    known = keys(caller_key(), caller_key(tenant="b"), caller_key(partition=1))
    claim = commit(store, store.claim(0, "a"), known)
    commit(store, claim, keys(voided))

    assert store.caller_keys(0, {("acme", "k"), ("acme", "x"), ("b", "k")}) == {
        ("acme", "k"): voided,
        ("b", "k"): caller_key(tenant="b"),
    }
    assert store.caller_keys(0, {("acme", "k")})[("acme", "k")].state is KeyState.VOIDED
    assert store.caller_keys(1, {("acme", "k")}) == {("acme", "k"): caller_key(partition=1)}


def test_callers_keys_of_a_time_are_counted(place: StorePlace, store: Store) -> None:
    """All are counted, the first are told, by time; each tenant's own, over all partitions."""
    known = [caller_key(f"k{n}", time=NOW + n // 2, partition=n % 2) for n in range(6)]
    awaited = caller_key("a", state=KeyState.AWAITED, tenant="b", time=NOW)
    commit(store, store.claim(0, "a"), keys(*known, awaited))
    reader = place.reader()

    assert reader.keys_of("acme", NOW, NOW + 9, 10) == (6, known)
    assert reader.keys_of("acme", NOW + 1, NOW + 2, 1) == (2, [known[2]])
    assert reader.keys_of("acme", NOW + 3, NOW + 9, 10) == (0, [])
    assert reader.keys_of("b", 0, 2**60, 0) == (1, [])
    assert reader.awaited() == 1


@pytest.mark.parametrize("batches", [1, 2, 3, 7])
def test_keys_beyond_the_horizon_are_forgotten(
    place: StorePlace, store: Store, batches: int
) -> None:
    """What is left follows from the log alone, whatever its batches were."""
    day = KEY_HORIZON // 5
    known = [caller_key(f"k{n}", append_time=NOW + n * day) for n in range(14)]
    elsewhere = caller_key("old", partition=1, append_time=0)
    other = store.claim(1, "a")
    commit(store, other, keys(elsewhere), appended=0)
    claim = store.claim(0, "a")
    size = -(-len(known) // batches)
    for at in range(0, len(known), size):
        some = known[at : at + size]
        claim = commit(store, claim, keys(*some), appended=some[-1].append_time)

    wanted = {(key.tenant, key.key) for key in known}
    left = store.caller_keys(0, wanted)
    assert sorted(left.values()) == sorted(known[8:])
    assert store.caller_keys(1, {("acme", "old")}) == {("acme", "old"): elsewhere}
    assert place.reader().keys_of("acme", 0, 2**60, 0)[0] == 7

    commit(store, claim, Changes(), appended=known[-1].append_time + 1)
    assert len(store.caller_keys(0, wanted)) == 5


def test_series_are_known_by_owner(store: Store) -> None:
    """Of each tenant, definition and partition its own, those that came to nothing included."""
    meter = CATALOGUE.meter("calls")
    groups = [("/", "200"), ("/é\x00", ""), (OVERFLOW, OVERFLOW)]
    rows = {row(meter="calls", group=group): (1, 0) for group in groups}
    rows[row(meter="calls", group=("b", "b"), tenant="b")] = (1, 0)
    claim = commit(store, store.claim(0, "a"), added(rows))
    commit(store, claim, added(dict.fromkeys(rows, (-1, 0))))
    mine = SeriesOwner(0, "acme", meter.version)
    theirs = [
        SeriesOwner(1, "acme", meter.version),
        SeriesOwner(0, "nobody", meter.version),
        SeriesOwner(0, "acme", CATALOGUE.meter("credit").version),
    ]

    assert store.known_series([mine, *theirs]) == {mine: set(groups)} | {
        owner: set() for owner in theirs
    }
    assert store.known_series([]) == {}


def test_overflow_is_told_by_meter_and_tenant(place: StorePlace, store: Store) -> None:
    """Events of the overflow series alone, summed over partitions, windows and arrivals."""
    over: dict[str, object] = {"meter": "calls", "group": (OVERFLOW, OVERFLOW)}
    rows = {
        row(**over): (3, 0),  # type: ignore[arg-type] # any field
        row(WINDOW - 900 * 24 * HOUR, **over): (2, 0),  # type: ignore[arg-type] # any field
        row(arrival=WINDOW + HOUR, **over): (4, 0),  # type: ignore[arg-type] # any field
        row(partition=1, **over): (5, 0),  # type: ignore[arg-type] # any field
        row(tenant="b", **over): (1, 0),  # type: ignore[arg-type] # any field
        row(meter="calls", group=(OVERFLOW, "200")): (100, 0),
        row(meter="calls", group=("/", "200")): (100, 0),
        row(meter="credit.most", group=(OVERFLOW,)): (7, 1),
        row(): (100, 1),
    }
    commit(store, store.claim(0, "a"), added(rows))

    assert place.reader().overflowing() == [
        ("calls", "acme", 14), ("calls", "b", 1), ("credit.most", "acme", 7),
    ]  # fmt: skip


METERS = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: a, aggregate: sum}
"""


def test_what_read_which_part_of_the_log_is_noted(place: StorePlace) -> None:
    """From which offset on, per partition, each time that the catalogue is another one."""
    first = parse_catalogue(METERS)
    later = parse_catalogue(METERS + "  - {name: c, aggregate: sum}\n")
    store = place.open()
    store.bind(BINDING, first)
    zero, one = store.claim(0, "a"), store.claim(1, "a")
    zero = commit(store, commit(store, zero, Changes()), Changes())
    store.bind(BINDING, later)
    zero = commit(store, zero, Changes())
    one = commit(store, one, Changes())
    again = place.open()
    again.bind(BINDING, later)
    zero = commit(again, zero, Changes())
    again.bind(BINDING, first)
    commit(again, zero, Changes())
    reader = place.reader()

    assert reader.readings() == [
        (0, 0, first.version), (0, 2, later.version), (0, 4, first.version), (1, 0, later.version),
    ]  # fmt: skip
    assert reader.catalogues() == {first.version: first, later.version: later}
    assert reader.catalogue() == first


def test_a_fenced_commit_changes_no_table(place: StorePlace, store: Store) -> None:
    """What a zombie brings joins nowhere."""
    zombie = store.claim(0, "zombie")
    owner = store.claim(0, "owner")
    brought = added({row(): (1, 1), row(arrival=NOW): (1, 1)})
    brought.items = {ItemKey(series("last"), WINDOW, 0, ""): Item(NOW, 0, "", 0, 1, 0)}
    brought.places = {Place(0, NOW // HOUR, 0): Span(1, 1, 1)}
    brought.presences = {Presence(0, "p", 0): Span(1, 1, 1)}
    brought.keys = keys(caller_key()).keys
    with pytest.raises(Fenced):
        store.commit([step(zombie, 1)], brought)
    commit(store, owner, Changes(), appended=NOW)
    reader, meter = place.reader(), CATALOGUE.meter("credit")

    assert not list(reader.usage(meter, tenants=None, start=0, end=2**55))
    assert not list(reader.adjustments(meter, tenants=None, start=0, end=2**55))
    assert not _items(reader)
    assert [reader.places(0, 0, 2**55), reader.presences(0, {0: (0, 2**62)})] == [[], []]
    assert reader.keys_of("acme", 0, 2**60, 9) == (0, [])
    assert [reader.tenants(), reader.overflowing()] == [[], []]
    assert [found.first_offset for found in reader.readings()] == [0]


def test_tenants_are_told_once(place: StorePlace, store: Store) -> None:
    """Sorted, whatever meters, groups and partitions they have."""
    names = ["b", "Ünï'; --", "a", "ab", "\U0001f980", "￿"]
    rows = {
        row(meter=meter, tenant=tenant, group=group, partition=partition): (1, 1)
        for meter, group in (("credit", ()), ("credit.most", ("x",)), ("credit.most", ("y",)))
        for tenant in names
        for partition in (0, 1)
    }
    mixed = random.Random(7).sample(list(rows), len(rows))
    commit(store, store.claim(0, "a"), added({key: rows[key] for key in mixed}))

    assert place.reader().tenants() == sorted(names)
