"""What StripeMeter's clients ask is answered from the figures of what they sent, exactly."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from meterstream_services.keys.principal import Scope
from tests.unit.services.clients.world import ClientWorld, bound_to

if TYPE_CHECKING:
    from pathlib import Path

ASKED = {"tenantId": "vendor", "customerRef": "cus_1"}


class Model(BaseModel):
    """The SDK's models take the wire's names."""

    model_config = ConfigDict(alias_generator=to_camel)


class Metric(Model):
    """As the SDK's model requires it."""

    name: str
    current: float
    limit: float | None = None
    unit: str


class Usage(Model):
    """As the SDK's model requires it."""

    customer_ref: str
    period: dict[str, str]
    metrics: list[Metric]
    alerts: list[dict[str, str]]


class Projection(Model):
    """As the SDK's model requires it."""

    customer_ref: str
    period_start: str
    period_end: str
    line_items: list[dict[str, Any]]
    subtotal: float
    credits: float
    total: float
    currency: str
    freshness: dict[str, Any]


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """A customer with usage of three metrics, of another account's, and before the month."""
    made = ClientWorld("stripemeter", tmp_path)
    _meter(made, "api_calls", "0.1", "2026-11-01T00:00:00Z")
    _meter(made, "api_calls", "0.2", "2026-11-03T10:00:00Z")
    _meter(made, "api_calls", "7", "2026-10-31T23:59:59.999999Z")
    _meter(made, "peak", "3", "2026-11-03T10:00:00Z")
    _meter(made, "peak", "9", "2026-11-02T10:00:00Z")
    _meter(made, "exact", "1234567890.123456789", "2026-11-02T10:00:00Z")
    _meter(made, "api_calls", "50", "2026-11-02T10:00:00Z", tenantId="another")
    _meter(made, "api_calls", "60", "2026-11-02T10:00:00Z", customerRef="cus_2")
    made.fold()
    return made


def _meter(world: ClientWorld, metric: str, quantity: str, ts: str, **more: str) -> None:
    event = json.dumps({**ASKED, "metric": metric, "ts": ts, **more})[:-1]
    body = f'{{"events": [{event}, "quantity": {quantity}}}]}}'
    assert world.send("POST", "/v1/events/ingest", content=body.encode()).status_code == 200


def _exact(answer: Any) -> Any:  # noqa: ANN401 - an answer of httpx, and JSON
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)


def _current(world: ClientWorld) -> dict[str, Decimal]:
    answer = _exact(world.get("/v1/usage/current", params=ASKED))
    return {metric["name"]: metric["current"] for metric in answer["metrics"]}


def test_usage_is_of_the_present_month_and_of_the_vendors_account(world: ClientWorld) -> None:
    """Every digit stands in the JSON; the SDK's model takes it."""
    answer = world.get("/v1/usage/current", params=ASKED)

    assert _current(world) == {
        "api_calls": Decimal("0.3"),
        "exact": Decimal("1234567890.123456789"),
        "peak": Decimal(12),
    }
    told = Usage.model_validate_json(answer.text)
    assert told.period == {"start": "2026-11-01", "end": "2026-11-30"}
    assert told.alerts == []


def test_a_mapping_says_how_a_metric_is_counted_what_it_costs_and_its_limit(
    world: ClientWorld,
) -> None:
    """As the mapping says: the highest instead of the sum, an alert at the limit, a price."""
    for mapping in (
        {"metric": "peak", "aggregation": "max", "unitPrice": "0.25", "unit": "GB", "limit": 9},
        {"metric": "api_calls", "unitPrice": 0.1},
    ):
        assert world.post("/v1/mappings", {"tenantId": "vendor", **mapping}).status_code == 201

    usage = Usage.model_validate_json(world.get("/v1/usage/current", params=ASKED).text)
    projected = world.post("/v1/usage/projection", ASKED)

    assert _current(world)["peak"] == 9
    [peak] = [metric for metric in usage.metrics if metric.name == "peak"]
    assert (peak.unit, peak.limit) == ("GB", 9)
    assert [alert["type"] for alert in usage.alerts] == ["limit"]
    told = _exact(projected)
    Projection.model_validate_json(projected.text)
    prices = {item["metric"]: (item["unitPrice"], item["total"]) for item in told["lineItems"]}
    assert prices == {
        "api_calls": (Decimal("0.1"), Decimal("0.03")),
        "exact": (0, 0),
        "peak": (Decimal("0.25"), Decimal("2.25")),
    }
    assert (told["subtotal"], told["total"], told["credits"]) == (
        Decimal("2.28"),
        Decimal("2.28"),
        0,
    )
    assert told["currency"] == "USD"
    listed = _exact(world.get("/v1/mappings", params={"tenantId": "vendor"}))["mappings"]
    assert [row["metric"] for row in listed] == ["api_calls", "peak"]


def test_without_mappings_a_projection_costs_nothing(world: ClientWorld) -> None:
    """As the vendor's does; other months can be asked for, both days belong to them."""
    body = {**ASKED, "periodStart": "2026-10-01", "periodEnd": "2026-10-31"}

    told = _exact(world.post("/v1/usage/projection", body))

    assert (told["periodStart"], told["periodEnd"]) == ("2026-10-01", "2026-10-31")
    assert [(item["metric"], item["quantity"]) for item in told["lineItems"]] == [("api_calls", 7)]
    assert told["total"] == 0
    datetime.fromisoformat(told["freshness"]["lastUpdate"])


def test_prices_in_two_currencies_have_no_total(world: ClientWorld) -> None:
    """Nothing is added up that cannot be."""
    for metric, currency in (("peak", "eur"), ("api_calls", "usd")):
        mapping = {"metric": metric, "unitPrice": 1, "currency": currency}
        world.post("/v1/mappings", {"tenantId": "vendor", **mapping})

    assert world.post("/v1/usage/projection", ASKED).status_code == 400


def test_history_is_by_days_or_months(world: ClientWorld) -> None:
    """Only where something was used."""
    days = _exact(world.get("/v1/usage/history", params={**ASKED, "metric": "api_calls"}))
    months = _exact(
        world.get(
            "/v1/usage/history",
            params={**ASKED, "step": "month", "metric": "api_calls", "periodStart": "2026-09-15"},
        )
    )

    assert days["metrics"][0]["usage"] == [
        {"period": "2026-11-01", "quantity": Decimal("0.1")},
        {"period": "2026-11-03", "quantity": Decimal("0.2")},
    ]
    assert months["metrics"][0]["usage"] == [
        {"period": "2026-10-01", "quantity": 7},
        {"period": "2026-11-01", "quantity": Decimal("0.3")},
    ]
    assert months["periodStart"] == "2026-09-01"


def test_events_are_listed_newest_first_by_filters_and_pages(world: ClientWorld) -> None:
    """With what was sent, exact; those of other accounts and metrics left out."""
    first = _exact(world.get("/v1/events", params={**ASKED, "limit": 2}))
    rest = _exact(world.get("/v1/events", params={**ASKED, "limit": 10, "offset": 2}))
    peak = _exact(world.get("/v1/events", params={"customerRef": "cus_1", "metric": "peak"}))

    assert first["hasMore"] is True
    assert rest["hasMore"] is False
    times = [event["ts"] for event in (*first["events"], *rest["events"])]
    assert times == sorted(times, reverse=True)
    assert len(times) == 6
    assert {event["tenantId"] for event in rest["events"]} == {"vendor"}
    assert [event["quantity"] for event in peak["events"]] == [3, 9]


def test_a_rare_metric_is_found_among_many_events(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look goes on as far as it may; where that is not far enough the answer says so."""
    for minute in range(30):
        _meter(world, "bulk", "1", f"2026-11-05T10:{minute:02}:00Z")
    asked = {"customerRef": "cus_1", "metric": "peak", "limit": 1}

    assert [
        each["quantity"] for each in _exact(world.get("/v1/events", params=asked))["events"]
    ] == [3]
    monkeypatch.setattr("meterstream_services.clients.stripemeter.listing.SEEN_MAX", 25)
    assert world.get("/v1/events", params=asked).status_code == 422


def test_a_key_sees_its_own_customers_only(world: ClientWorld) -> None:
    """Another's usage, projection, history and events are 403; without a name its own are meant."""
    world.principal = bound_to("cus_1")
    foreign = {"tenantId": "vendor", "customerRef": "cus_2"}

    assert _exact(world.get("/v1/usage/current", params=ASKED))
    assert {event["customerRef"] for event in _exact(world.get("/v1/events"))["events"]} == {
        "cus_1"
    }
    for path in ("/v1/usage/current", "/v1/usage/history", "/v1/events"):
        answer = world.get(path, params=foreign)
        assert answer.status_code == 403
        assert set(answer.json()) == {"error", "message"}
    assert world.post("/v1/usage/projection", foreign).status_code == 403
    assert world.post("/v1/mappings", {"tenantId": "vendor", "metric": "m"}).status_code == 403
    world.principal = bound_to("cus_1", scopes=[Scope.INGEST])
    assert world.get("/v1/usage/current", params=ASKED).status_code == 403


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/v1/usage/current", {"tenantId": "vendor"}),
        ("/v1/usage/current", {"customerRef": "cus_1"}),
        ("/v1/usage/current", {"tenantId": "v" * 256, "customerRef": "c"}),
        ("/v1/usage/history", {**ASKED, "step": "week"}),
        ("/v1/usage/history", {**ASKED, "periodStart": "soon"}),
        ("/v1/usage/history", {**ASKED, "periodEnd": "9999-12-31"}),
        ("/v1/usage/history", {**ASKED, "periodStart": "2020-01-01"}),
        ("/v1/usage/history", {**ASKED, "periodStart": "2026-11-02", "periodEnd": "2026-11-01"}),
        ("/v1/events", {}),
        ("/v1/events", {"customerRef": "c", "from": "yesterday"}),
        ("/v1/events", {"customerRef": "c", "limit": "0"}),
        ("/v1/mappings", {}),
    ],
)
def test_a_wrong_question_is_refused_in_the_vendors_shape(
    world: ClientWorld, path: str, parameters: dict[str, str]
) -> None:
    """400 or 422, with the message where the SDK reads it."""
    answer = world.get(path, params=parameters)

    assert answer.status_code in {400, 422}
    assert answer.json()["error"] == answer.json()["message"]


@pytest.mark.parametrize(
    "mapping",
    [
        {"metric": "m", "aggregation": "min"},
        {"metric": "m", "aggregation": []},
        {"metric": "m", "unitPrice": -1},
        {"metric": "m", "unitPrice": "free"},
        {"metric": "m", "limit": "1e999999"},
        {"metric": "m", "currency": 5},
        {"metric": "m", "priceId": "price_1"},
        {"aggregation": "sum"},
    ],
)
def test_a_wrong_mapping_is_refused(world: ClientWorld, mapping: dict[str, Any]) -> None:
    """And nothing is kept."""
    assert world.post("/v1/mappings", {"tenantId": "vendor", **mapping}).status_code == 400
    assert world.book.all(None, "stripemeter.prices") == []


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_VALUES = st.recursive(
    _SCALARS
    | st.sampled_from(["cus_1", "cus_2", "2026-11-21T00:00:00Z", "9999-12-31T23:59:59-14:00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    [
        *("tenantId", "tenant_id", "metric", "customerRef", "customer_ref", "quantity", "ts"),
        *("meta", "resourceId", "idempotencyKey", "source", "periodStart", "periodEnd"),
        *("unitPrice", "limit"),
    ]
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=8)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> ClientWorld:
    """One world for all examples, asked with a key for one customer."""
    made = ClientWorld("stripemeter", tmp_path_factory.mktemp("fuzz"))
    made.principal = bound_to("cus_1", scopes=list(Scope))
    return made


@settings(max_examples=60)
@given(events=st.lists(_OBJECTS | _VALUES, max_size=3), body=_OBJECTS | _VALUES)
def test_no_body_makes_a_500_or_another_customers_event(
    fuzzed: ClientWorld, events: list[object], body: object
) -> None:
    """Whatever is sent is answered, in JSON, and metered for the key's customer or for nobody."""
    good = {"tenantId": "v", "metric": "m", "customerRef": "cus_1", "quantity": 1}
    some = [{**good, **each} if isinstance(each, dict) else each for each in events]
    for path, sent in (
        ("/v1/events/ingest", {"events": some}),
        ("/v1/usage/projection", body),
        ("/v1/mappings", body),
    ):
        answer = fuzzed.send("POST", path, content=json.dumps(sent).encode())
        assert answer.status_code in {200, 400, 403, 409, 422}, answer.text
        assert isinstance(answer.json(), dict)
    assert {offer.tenant for offer in fuzzed.door.taken} <= {"cus_1"}
