"""``/v1/periods`` and ``/v1/adjustments``: what closed, what came afterwards; billing months."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.changes import Changes
from meterstream_aggregator.store.port import Advance
from meterstream_aggregator.store.told import SessionRow
from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.http.adjustments import AdjustmentsDocument
from meterstream_services.http.periods import PeriodsDocument
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    from tests.unit.services.http.conftest import World


def _ask(world: World, path: str, **parameters: object) -> dict[str, Any]:
    asked = {{"start": "from", "end": "to"}.get(name, name): v for name, v in parameters.items()}
    response = world.get(path, params=asked)
    assert response.status_code == 200, response.text
    return dict(response.json())


def _fold_to(world: World, text: str) -> None:
    advances = [Advance(p, 1, None, 0, 10, moment(text), 0, 0, 0) for p in range(2)]
    world.store.commit(advances, Changes())


MARCH = {"meter": "api.requests", "start": "2026-03-01", "end": "2026-04-01"}


def test_closing_figures_and_their_ledger(world: World) -> None:
    """What came late is listed with its period and arrival; all of it makes the total."""
    world.use("api.requests", "a", "2026-03-01T10:00", events=5)
    world.use("api.requests", "a", "2026-03-01T10:00", events=2, arrived="2026-03-04T09:00")
    world.use("api.requests", "a", "2026-03-07T10:00", events=-1, arrived="2026-03-09T00:15")
    _fold_to(world, "2026-04-02")

    answer = _ask(world, "/v1/periods", **MARCH, every="1mo")
    ledger = _ask(world, "/v1/adjustments", **MARCH, every="1mo")
    some = _ask(world, "/v1/adjustments", **MARCH, arrived_from="2026-03-05")
    before = _ask(world, "/v1/adjustments", **MARCH, arrived_until="2026-03-09T00:15")

    (row,) = PeriodsDocument.model_validate(answer).rows
    assert (row.closing, row.adjustments, row.value, row.status) == ("5", "1", "6", "final")
    assert row.final_at == "2026-04-02T00:00:00+00:00"
    assert answer["folded_until"] == "2026-04-02T00:00:00+00:00"
    rows = AdjustmentsDocument.model_validate(ledger).rows
    assert [(r.start, r.arrived_from, r.arrived_until, r.amount, r.events) for r in rows] == [
        ("2026-03-01T00:00:00+00:00", "2026-03-04T09:00:00+00:00", "2026-03-04T09:15:00+00:00",
         "2", 2),
        ("2026-03-01T00:00:00+00:00", "2026-03-09T00:15:00+00:00", "2026-03-09T00:30:00+00:00",
         "-1", -1),
    ]  # fmt: skip
    assert [r["amount"] for r in some["rows"]] == ["-1"]
    assert [r["amount"] for r in before["rows"]] == ["2"]


def test_a_period_is_final_only_once_all_is_folded_past_its_close(world: World) -> None:
    """One append time before the close of its last window it still says closing."""
    world.use("api.requests", "a", "2026-03-01T10:00")

    _fold_to(world, "2026-04-01T23:59:59.999999")

    (row,) = _ask(world, "/v1/periods", **MARCH)["rows"]
    assert (row["status"], row["final_at"]) == ("closing", "2026-04-02T00:00:00+00:00")


def test_billing_months_follow_the_account(world: World) -> None:
    """An account's months begin on its anchor in its zone, clamp, and return."""
    world.directory.apply(
        [
            SetAccount("acct", zone="Europe/Berlin", billing_anchor=31),
            Assign("a", "acct", None),
        ]
    )
    for when in ("2026-01-31", "2026-02-27T22:45", "2026-02-27T23:00", "2026-03-30T22:00"):
        world.use("api.requests", "a", when)
    span = {"meter": "api.requests", "start": "2026-01-31", "end": "2026-04-30"}

    by_account = _ask(world, "/v1/periods", **span, every="billing", account="acct")
    by_tenant = _ask(world, "/v1/usage", **span, every="billing", tenant="a")
    explicit = _ask(world, "/v1/usage", **span, every="1mo", anchor=31, zone="Europe/Berlin")

    expected = [
        ("2026-01-31T00:00:00+01:00", "2026-02-28T00:00:00+01:00", "2"),
        ("2026-02-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00", "1"),
        ("2026-03-31T00:00:00+02:00", "2026-04-30T00:00:00+02:00", "1"),
    ]
    for answer in (by_account, by_tenant, explicit):
        assert [(r["from"], r["to"], r["value"]) for r in answer["rows"]] == expected
        assert answer["zone"] == "Europe/Berlin"
    assert by_account["every"] == "billing"


@pytest.mark.parametrize(
    ("query", "field", "detail"),
    [
        ("every=billing", "every", "name an account, a tenant, or an anchor"),
        ("every=billing&tenant=a&tenant=b", "every", "do not belong to one account throughout"),
        ("every=billing&tenant=stranger", "every", "do not belong to one account throughout"),
        ("every=1d&anchor=5", "anchor", "only months, quarters and years have one"),
        ("every=1mo&anchor=32", "anchor", "no day of a month"),
        ("where=!=x", "where", "NAME!=VALUE"),
        ("peak=true", "peak", "does not measure sessions"),
    ],
)
def test_bad_questions(world: World, query: str, field: str, detail: str) -> None:
    """What has no answer names the field and the remedy."""
    world.directory.apply(
        [SetAccount("x", billing_anchor=3), SetAccount("y"), Assign("a", "x", None)]
    )
    world.directory.apply([Assign("b", "y", None)])

    response = world.get(f"/v1/usage?meter=api.requests&from=2026-03-01&to=2026-04-01&{query}")

    assert response.status_code == 422, response.text
    assert detail in response.json()["detail"]
    assert field in [error["field"] for error in response.json()["errors"]]


def test_values_are_left_out(world: World) -> None:
    """``NAME!=VALUE`` leaves a value out, several leave out all of them."""
    for status, events in (("200", 1), ("404", 10), ("500", 100)):
        world.use("api.requests", "a", "2026-03-01T10:00", events=events, group=(status,))

    one = _ask(world, "/v1/usage", **MARCH, where="status!=200")
    both = _ask(world, "/v1/usage", **MARCH, where=["status!=200", "status!=500"])

    assert [row["value"] for row in one["rows"]] == ["110"]
    assert [row["value"] for row in both["rows"]] == ["10"]


def _session(name: str, start: str, end: str | None) -> SessionRow:
    begun = moment(start)
    until = None if end is None else moment(end)
    state = "open" if end is None else "closed"
    last = until or moment("2026-04-01T11:00")
    return SessionRow(0, "a", "agent.run", name, None, {}, begun, until, last, last, state, 0)


@pytest.fixture
def sessions(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One session that ended, and one that began before March closed and still runs."""
    rows = [
        _session("s1", "2026-03-31T10:00", "2026-03-31T12:00"),
        _session("s2", "2026-03-31T11:00", None),
    ]

    def listed(*, state: str | None = None, **_: object) -> list[SessionRow]:
        return [row for row in rows if state in {None, row.state}]

    monkeypatch.setattr(world.store, "sessions", listed)
    world.use("agent.hours", "a", "2026-03-31T10:00", 7_200_000_000, scale=6, events=2)
    world.now("2026-03-31T11:30:00.5")
    return world


APRIL = {"meter": "agent.hours", "start": "2026-03-31", "end": "2026-04-02", "every": "1d"}


def test_running_sessions_accrue(sessions: World) -> None:
    """Seconds so far are in the closing figure while it can change, and said beside it."""
    (row,) = _ask(sessions, "/v1/usage", **APRIL)["rows"]

    assert (row["value"], row["running"]) == ("9000.5", "1800.5")
    assert (row["closing"], row["adjustment"], row["events"]) == ("9000.5", "0", 2)


def test_running_seconds_of_closed_windows_are_no_closing_figure(sessions: World) -> None:
    """Past the close they are an adjustment that has not arrived; all still adds up."""
    sessions.now("2026-04-02T00:00")
    advances = [Advance(p, 1, None, 0, 10, moment("2026-04-01T12:00"), 0, 0, 0) for p in range(2)]
    sessions.store.commit(advances, Changes())

    first, second = _ask(sessions, "/v1/usage", **APRIL)["rows"]
    ledger = _ask(sessions, "/v1/adjustments", **APRIL)["rows"]

    # Folded to noon of 1 April, all windows that ended by noon of 31 March are closed.
    assert (first["value"], first["running"]) == ("54000", "46800")
    assert (first["closing"], first["adjustment"]) == ("50400", "3600")
    assert (second["value"], second["adjustment"]) == ("86400", "0")
    assert [(r["arrived_from"], r["amount"]) for r in ledger] == [(None, "3600")]


def test_peaks(sessions: World) -> None:
    """The most sessions at one time, and when that was first reached."""
    (row,) = _ask(sessions, "/v1/usage", **APRIL, peak="true")["rows"]

    assert (row["peak"], row["peak_at"]) == (2, "2026-03-31T11:00:00+00:00")
