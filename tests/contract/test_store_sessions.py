"""How a store lists sessions: with their states, by filters, and page after page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.store.session_rows import cursor_of
from meterstream_aggregator.subjects import Subject, SubjectKey
from tests.contract.stores import (
    NOW,
    SESSIONS,
    SUBJECTS,
    Place,
    commit,
    session_key,
    step,
    subject_key,
)

if TYPE_CHECKING:
    from meterstream_aggregator.store.port import Store, StoreReader
    from meterstream_aggregator.store.told import SessionRow


def _with_sessions(store: Store) -> None:
    """Sessions of two tenants, one hour apart, and one of each state for acme."""
    sessions: dict[SessionKey, tuple[Session, int | None]] = {}
    for n in range(6):
        at = NOW + n * HOUR
        start = Start(at, "u", (("route", "/"),))
        sessions[session_key(f"b{n}", tenant="b")] = (
            Session((start,), (at + 60,), at + 60, at),
            None,
        )
    late = NOW + 30 * HOUR
    open_one = Session((Start(late, "", ()),), (), late, late)
    sessions[session_key("open")] = (open_one, None)
    sessions[session_key("quiet")] = (SESSIONS[0], None)
    sessions[session_key("unstarted")] = (SESSIONS[2], None)
    sessions[session_key("closed", type="call")] = (SESSIONS[1], None)
    store.commit([step(store.claim(0, "a"), 1, appended=late)], Changes(sessions=sessions))


def test_sessions_are_told_with_their_state(place: Place, store: Store) -> None:
    """Open, closed, timed out and unstarted, as of the partition's append time."""
    _with_sessions(store)
    reader = place.reader()

    states = {row.session: row.state for row in reader.sessions(tenants=["acme"])}

    assert states == {
        "open": "open", "quiet": "timed_out", "unstarted": "unstarted", "closed": "closed",
    }  # fmt: skip
    [quiet] = reader.sessions(state="timed_out")
    assert quiet == (
        0, "acme", "run", "quiet", "u1", {"plan": "pro", "route": "/é"}, NOW, None, NOW + 5,
        NOW + 6, "timed_out", 0,
    )  # fmt: skip
    assert [row.session for row in reader.sessions(type="call")] == ["closed"]
    assert reader.sessions(tenants=[]) == []
    assert reader.sessions(tenants=["nobody"]) == []


def test_sessions_of_a_time_are_those_that_overlap_it(place: Place, store: Store) -> None:
    """Sessions that ran in [from, to); an open one runs on."""
    _with_sessions(store)
    reader = place.reader()

    def names(start: int | None = None, end: int | None = None) -> list[str]:
        return [row.session for row in reader.sessions(tenants=["b"], start=start, end=end)]

    assert names(start=NOW + 2 * HOUR, end=NOW + 4 * HOUR) == ["b2", "b3"]
    assert names(start=NOW + 2 * HOUR + 60) == ["b2", "b3", "b4", "b5"]
    assert names(start=NOW + 2 * HOUR + 61) == ["b3", "b4", "b5"]
    assert names(end=NOW + HOUR) == ["b0"]
    later = reader.sessions(tenants=["acme"], start=NOW + 100 * HOUR)
    assert [row.session for row in later] == ["open"]


@pytest.mark.parametrize("limit", [1, 3, 10, 100])
def test_sessions_come_in_pages(place: Place, store: Store, limit: int) -> None:
    """Page after page, from the last seen on, is everything once and in order."""
    _with_sessions(store)
    reader = place.reader()
    pages, after = [reader.sessions(limit=limit)], ""
    while len(pages[-1]) == limit:
        last = pages[-1][-1]
        after = f"{last.tenant}\x1f{last.type}\x1f{last.session}"
        pages.append(reader.sessions(limit=limit, after=after))

    assert [row for page in pages for row in page] == reader.sessions()
    assert len(reader.sessions()) == 10


def _start(time: int, **attributes: str) -> Start:
    return Start(time, "", tuple(sorted(attributes.items())))


def _with_subjects(store: Store) -> None:
    """Beside sessions with ids, those of subjects, in each state."""
    _with_sessions(store)
    late = NOW + 30 * HOUR
    subjects: dict[SubjectKey, Subject] = {
        subject_key("u2"): Subject(
            (_start(NOW, route="/"), _start(NOW + 10), _start(late)),
            (NOW + 20, NOW + 30),
            last_append=late,
        ),
        subject_key("u1"): Subject((_start(NOW),), (NOW - 9,), NOW + 40, 0, 2, NOW + 50),
        subject_key("u1", partition=1): Subject((_start(NOW + 1),), (), 0, 0, 0, NOW + 50),
        subject_key(""): Subject((_start(NOW, a="1"), _start(NOW, a="2")), (), 0, 0, 0, late),
        subject_key("u9", tenant="b", type="call"): Subject((_start(NOW),), (NOW + 1,)),
        subject_key("empty"): SUBJECTS[0],
    }
    changes = Changes(subjects={key: (subject, None) for key, subject in subjects.items()})
    commit(store, store.claim(1, "a"), changes, appended=NOW + 2 * HOUR)


def _short(row: SessionRow) -> tuple[object, ...]:
    return row.subject, row.start, row.end, row.state, row.conflicts


def test_sessions_without_ids_are_paired(place: Place, store: Store) -> None:
    """Each end with the oldest start open; what is left over is unstarted or still runs."""
    _with_subjects(store)
    late = NOW + 30 * HOUR

    rows = place.reader().sessions(tenants=["acme"], type="run")

    assert [_short(row) for row in rows if not row.session] == [
        (None, NOW, None, "open", 0),
        (None, NOW, None, "open", 0),
        ("u1", None, None, "unstarted", 2),
        ("u1", NOW, None, "timed_out", 2),
        ("u1", NOW + 1, None, "timed_out", 0),
        ("u2", NOW, NOW + 20, "closed", 0),
        ("u2", NOW + 10, NOW + 30, "closed", 0),
        ("u2", late, None, "open", 0),
    ]
    assert [row.attributes for row in rows[:2]] == [{"a": "1"}, {"a": "2"}]
    assert [(row.last_sign, row.last_append) for row in rows[2:6]] == [
        (NOW - 9, NOW + 50), (NOW + 40, NOW + 50), (NOW + 1, NOW + 50), (NOW + 20, late),
    ]  # fmt: skip
    assert all(row.session for row in rows[8:])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("asked", [{}, {"type": "run"}, {"tenants": ["b", "acme"]}])
def test_pages_tell_every_session_once(
    place: Place, store: Store, limit: int, asked: dict[str, object]
) -> None:
    """Those without ids too, even of one subject and one instant; in order, none twice."""
    _with_subjects(store)
    reader = place.reader()
    told: list[SessionRow] = []
    while page := _page(reader, limit, told[-1:], asked):
        assert len(page) <= limit
        told.extend(page)

    every = reader.sessions(limit=10**6, **asked)  # type: ignore[arg-type] # any filter
    assert told == every
    assert len(every) == (17 if "type" in asked else 19)
    assert [row[1:4] for row in every] == sorted(row[1:4] for row in every)


def _page(
    reader: StoreReader, limit: int, last: list[SessionRow], asked: dict[str, object]
) -> list[SessionRow]:
    after = cursor_of(last[0]) if last else None
    return reader.sessions(limit=limit, after=after, **asked)  # type: ignore[arg-type] # any filter


def test_one_session_of_two_partitions_is_not_lost_between_pages(
    place: Place, store: Store
) -> None:
    """The cursor tells the partition, too; without, it stands behind all of the session."""
    keys = [session_key("s", partition=partition) for partition in (0, 1)]
    known: tuple[Session, int | None] = (SESSIONS[1], None)
    commit(store, store.claim(0, "a"), Changes(sessions=dict.fromkeys(keys, known)))
    reader = place.reader()

    [first] = reader.sessions(limit=1)

    assert first.partition == 0
    assert [row.partition for row in reader.sessions(after=cursor_of(first))] == [1]
    assert reader.sessions(after="acme\x1frun\x1fs") == []
    assert len(reader.sessions(after="acme\x1frun\x1fr")) == 2
    assert len(reader.sessions(after="")) == 2
    assert reader.sessions(after="b") == []


def test_sessions_are_filtered_by_state(place: Place, store: Store) -> None:
    """Each state is what the whole list says of it; conflicting is any state with conflicts."""
    _with_subjects(store)
    odd: dict[SessionKey, tuple[Session, int | None]]
    odd = {
        session_key(f"odd{n}{due}"): (session, due)
        for n, session in enumerate(SESSIONS)
        for due in (None, NOW + n)
    }
    commit(store, store.claim(2, "a"), Changes(sessions=odd))
    reader = place.reader()
    every = reader.sessions()

    for state in ("open", "closed", "timed_out", "unstarted"):
        expected = [row for row in every if row.state == state]
        assert reader.sessions(state=state) == expected, state
        assert len(expected) > 2, state
    conflicting = reader.sessions(state="conflicting")
    assert conflicting == [row for row in every if row.conflicts]
    assert {row.session[:4] for row in conflicting} == {"", "odd4", "odd5", "odd6", "odd7"}
    for tenants in (["acme"], ["b", "nobody", "acme"]):
        assert reader.sessions(state="conflicting", tenants=tenants) == conflicting
        assert reader.sessions(state="open", tenants=tenants, type="run") == [
            row for row in every if row.state == "open"
        ]
    page = reader.sessions(state="conflicting", limit=3)
    rest = reader.sessions(state="conflicting", after=cursor_of(page[-1]))
    assert [*page, *rest] == conflicting
    assert {row.state for row in conflicting if row.session} == {"closed", "timed_out", "unstarted"}


def test_limits_and_tenants_of_any_number(place: Place, store: Store) -> None:
    """No limit below one gives anything; any number of tenants may be asked for."""
    _with_subjects(store)
    reader = place.reader()

    assert reader.sessions(limit=0) == []
    assert reader.sessions(limit=-5) == []
    many = [*(f"t{n:06d}" for n in range(40_000)), "b", "acme", "b"]
    assert reader.sessions(tenants=many) == reader.sessions()
    meters = reader.sessions(tenants=many, state="open", start=NOW, end=NOW + MINUTE)
    assert [row.subject for row in meters] == [None, None]
