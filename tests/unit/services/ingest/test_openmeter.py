"""What OpenMeter's clients send and ask, answered as OpenMeter answers it."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.changes import SeriesKey, UsageKey
from meterstream_aggregator.civil import parse_time
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.keys.principal import Principal, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from tests.unit.services.ingest.conftest import Gate

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "api.request",
    "source": "service-0",
    "id": "00001",
    "subject": "customer-1",
    "time": "2026-01-01T00:00:00.001Z",
    "data": {"method": "GET", "route": "/hello", "duration_ms": 10.5},
}
JSON = "application/json"


def sent(gate: Gate, body: object, kind: str = "application/cloudevents+json") -> httpx.Response:
    """Events as an OpenMeter client posts them."""
    content = json.dumps(body).encode()
    return gate.send("POST", "/api/v1/events", content=content, headers={"content-type": kind})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (EVENT, "application/cloudevents+json"),
        ([EVENT], "application/cloudevents-batch+json"),
        (EVENT, JSON),
        ([EVENT], JSON),
        ({name: value for name, value in EVENT.items() if name != "specversion"}, JSON),
    ],
)
def test_the_subject_is_the_tenant(gate: Gate, body: object, kind: str) -> None:
    """One or many, as CloudEvents or plain JSON: 204 without a body, counted for the subject."""
    answer = sent(gate, body, kind)

    assert (answer.status_code, answer.content) == (204, b"")
    (offer,) = gate.door.taken
    assert (offer.tenant, offer.subject, offer.key) == ("customer-1", None, "ce:9:service-0:00001")
    assert offer.attributes == {"method": "GET", "route": "/hello", "duration_ms": "10.5"}
    assert gate.door.patience == [Patience.LOG]


def test_a_key_of_one_tenant_says_it_better(gate: Gate) -> None:
    """Then the subject is a subject under that tenant."""
    gate.bind("acme")

    assert sent(gate, EVENT).status_code == 204
    assert (gate.door.taken[0].tenant, gate.door.taken[0].subject) == ("acme", "customer-1")


def test_a_foreign_subject(gate: Gate) -> None:
    """A key of several tenants may not name another one, and nothing of the request is taken."""
    gate.bind("customer-1", "customer-2")

    answer = sent(gate, [EVENT, EVENT | {"subject": "customer-3", "id": "2"}], JSON)

    assert (answer.status_code, gate.door.taken) == (403, [])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"subject": None}, "1.subject"),
        ({"subject": "x" * 129}, "1.subject"),
        ({"id": ""}, "1.id"),
        ({"type": "a\nb"}, "1.type"),
        ({"time": "1969-01-01T00:00:00Z"}, "1.time"),
        ({"specversion": "0.3"}, "1.specversion"),
        ({"quantity": "many"}, "1.quantity"),
        ({"data": {"x": "y" * 1025}}, "1.attributes.x"),
    ],
)
def test_one_wrong_event_refuses_the_request(
    gate: Gate, change: dict[str, Any], field: str
) -> None:
    """Since the answer cannot speak of single events, nothing of such a request is taken."""
    answer = sent(gate, [EVENT, EVENT | {"id": "2"} | change], JSON)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert gate.door.taken == []


def test_repeats_conflicts_and_outages(gate: Gate) -> None:
    """Source and id again are 204; with other content 409; while the log is away 503."""
    statuses = [sent(gate, EVENT).status_code, sent(gate, EVENT).status_code]
    other = sent(gate, EVENT | {"type": "other"})
    gate.door.away = True
    away = sent(gate, EVENT)

    assert statuses == [204, 204]
    assert (other.status_code, other.json()["errors"][0]["field"]) == (409, "0.id")
    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert len(gate.door.taken) == 1


def test_what_only_the_door_refuses(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its refusals are 400 too."""

    async def refuse(offers: Sequence[Offer], patience: Patience) -> list[Fate]:
        return [Fate(Ruling.REFUSED, field="attributes", reason="too large") for _ in offers]

    monkeypatch.setattr(gate.door, "take", refuse)

    assert sent(gate, EVENT).json()["errors"] == [{"field": "0.attributes", "reason": "too large"}]


def test_events_of_an_old_meter_lib(gate: Gate) -> None:
    """meter-lib 0.0.3 posts bare events to the same path; they are told by their shape."""
    body = {"meter_id": "api_call", "total_usage": 3, "customer_id": "acme"}

    sent(gate, body, JSON)

    assert [offer.tenant for offer in gate.door.taken] == ["acme"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", JSON, 400),
        (b"{", JSON, 400),
        (b"7", JSON, 400),
        (b"{}", "text/plain", 415),
        (b"[" + b"1," * 1000 + b"1]", JSON, 413),
        (b"[]", JSON, 204),
    ],
)
def test_bodies_that_are_not_events(gate: Gate, content: bytes, kind: str, status: int) -> None:
    """They are problems, never errors of ours."""
    answer = gate.send("POST", "/api/v1/events", content=content, headers={"content-type": kind})

    assert answer.status_code == status


@pytest.fixture
def used(gate: Gate) -> Gate:
    """Two customers' requests on two days, and tokens beyond what a double holds."""
    requests = [
        ("a", "2026-03-07T23:59Z", ("/pay", "GET"), 3),
        ("a", "2026-03-08T10:00Z", ("/pay", "POST"), 4),
        ("a", "2026-03-08T10:01Z", ("/see", ""), 5),
        ("b", "2026-03-08T10:01Z", ("/see", "GET"), 7),
    ]
    for tenant, when, group, count in requests:
        _put(gate, "api-requests", tenant, when, (count, count), group=group)
    _put(gate, "tokens", "a", "2026-03-08T10:00Z", (1, 9_007_199_254_740_993_125), scale=3)
    return gate


def _put(
    gate: Gate,
    meter: str,
    tenant: str,
    when: str,
    row: tuple[int, int],
    *,
    group: tuple[str, ...] = (),
    scale: int = 0,
) -> None:
    """A usage row as folding would leave it."""
    version = gate.store.catalogue().meter(meter).version
    key = UsageKey(SeriesKey(0, tenant, meter, group, version), parse_time(when, UTC), 0, scale)
    gate.store.rows[key] = row


def asked(gate: Gate, meter: str = "api-requests", **parameters: Any) -> httpx.Response:  # noqa: ANN401 - of a query
    """The question about a meter; ``start`` stands for from."""
    params = {"start": "2026-03-07T00:00:00Z", "to": "2026-03-10T00:00:00Z"} | parameters
    params["from"] = params.pop("start")
    return gate.send("GET", f"/api/v1/meters/{meter}/query", params=params)


def rows(answer: httpx.Response) -> list[tuple[Any, ...]]:
    """Value, subject, start and group of each row."""
    assert answer.status_code == 200, answer.text
    return [
        (row["value"], row["subject"], row["windowStart"][:16], row["groupBy"])
        for row in answer.json()["data"]
    ]


def test_one_total(used: Gate) -> None:
    """Without windows, subjects and groups there is one figure over everybody."""
    answer = asked(used)

    assert answer.json() == {
        "from": "2026-03-07T00:00:00Z",
        "to": "2026-03-10T00:00:00Z",
        "windowSize": None,
        "data": [
            {
                "value": 19,
                "subject": None,
                "windowStart": "2026-03-07T00:00:00+00:00",
                "windowEnd": "2026-03-10T00:00:00+00:00",
                "groupBy": {},
            }
        ],
    }


@pytest.mark.parametrize("parameter", [{"groupBy": "subject"}, {"subject": ["a", "b"]}])
def test_by_subject(used: Gate, parameter: dict[str, Any]) -> None:
    """Grouping by subject, or naming some, keeps them apart."""
    found = rows(asked(used, **parameter))

    assert found == [(12, "a", "2026-03-07T00:00", {}), (7, "b", "2026-03-07T00:00", {})]


def test_windows_with_usage(used: Gate) -> None:
    """Days and minutes in which something was used, in order."""
    days = rows(asked(used, windowSize="DAY"))
    minutes = rows(asked(used, windowSize="MINUTE", subject="a", start="2026-03-08T10:00:00Z"))

    assert days == [(3, None, "2026-03-07T00:00", {}), (16, None, "2026-03-08T00:00", {})]
    assert minutes == [(4, "a", "2026-03-08T10:00", {}), (5, "a", "2026-03-08T10:01", {})]


def test_days_of_a_zone(used: Gate) -> None:
    """Days begin at local midnight, also when one of them has 23 hours."""
    answer = asked(
        used,
        windowSize="DAY",
        windowTimeZone="America/Los_Angeles",
        start="2026-03-07T08:00:00Z",
        to="2026-03-09T07:00:00Z",
    )

    assert rows(answer) == [
        (3, None, "2026-03-07T08:00", {}),
        (16, None, "2026-03-08T08:00", {}),
    ]


def test_groups_and_filters(used: Gate) -> None:
    """Groups stand apart, with null where an event had none; filters take one value each."""
    grouped = rows(asked(used, groupBy=["route", "method"], subject="a"))
    filtered = rows(asked(used, **{"filterGroupBy[route]": "/see", "windowSize": "MONTH"}))

    assert [(value, group) for value, _, _, group in grouped] == [
        (3, {"route": "/pay", "method": "GET"}),
        (4, {"route": "/pay", "method": "POST"}),
        (5, {"route": "/see", "method": None}),
    ]
    assert [value for value, *_ in filtered] == [12]


def test_values_have_all_their_digits(used: Gate) -> None:
    """A value that no double holds is a JSON number with every digit."""
    assert b'"value":9007199254740993.125,' in asked(used, "tokens").content


def test_all_of_the_time(used: Gate) -> None:
    """Without from and to: from the beginning of metering to the present window."""
    answer = used.send("GET", "/api/v1/meters/api-requests/query")

    (row,) = answer.json()["data"]
    assert (row["value"], row["windowStart"][:10]) == (19, "2026-01-01")


def test_only_ones_own_tenants(used: Gate) -> None:
    """A key sees the figures of its tenants; naming another one is 403."""
    used.principal = Principal("key", frozenset({Scope.READ}), frozenset({"b"}))

    assert [row[0] for row in rows(asked(used))] == [7]
    assert [row[:2] for row in rows(asked(used, windowSize="DAY", groupBy="subject"))] == [(7, "b")]
    assert asked(used, subject="a").status_code == 403


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"windowSize": "WEEK"}, "windowSize"),
        ({"windowTimeZone": "Mars/Olympus"}, "windowTimeZone"),
        ({"groupBy": "color"}, "groupBy"),
        ({"groupBy": ["x" * 9] * 9}, "groupBy"),
        ({"filterGroupBy[color]": "red"}, "filterGroupBy"),
        ({"filterGroupBy": "red"}, "filterGroupBy"),
        ({"start": "yesterday"}, "from"),
        ({"start": "2026-03-07T00:00:30Z"}, "from"),
        ({"to": ["2026-03-08", "2026-03-09"]}, "to"),
        ({"subject": "x" * 2000}, "subject"),
        ({"filterCustomerId": "1"}, "filterCustomerId"),
    ],
)
def test_questions_that_mean_nothing(used: Gate, parameters: dict[str, Any], field: str) -> None:
    """They are 400 and name the parameter as OpenMeter calls it."""
    answer = asked(used, **parameters)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_a_meter_that_is_not_there(used: Gate) -> None:
    """404, with and without times."""
    assert asked(used, "nothing").status_code == 404
    assert used.send("GET", "/api/v1/meters/nothing/query").status_code == 404
