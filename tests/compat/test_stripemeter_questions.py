"""StripeMeter's usage and projections, from the usage API's figures and declared prices."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from meterstream.compat.stripemeter import (
    Alert,
    Freshness,
    LineItem,
    MetricUsage,
    Period,
    StripeMeterClient,
    StripeMeterError,
    declare_price,
)
from meterstream.compat.usage_api import UsageRefused, UsageUnavailable
from tests.compat.standins import usage_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.compat.conftest import Memory

FIGURES = {
    "stripemeter.sum": {"api_calls": "160", "storage_gb": "7.5", "seats": "9"},
    "stripemeter.max": {"api_calls": "100", "storage_gb": "2.5", "seats": "5"},
    "stripemeter.last": {"api_calls": "10", "storage_gb": "2", "seats": "4"},
}


@pytest.fixture(autouse=True)
def now() -> Iterator[None]:
    """It is the last day of a December."""
    with time_machine.travel(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def client(memory: Memory) -> StripeMeterClient:
    """A client whose usage API knows three metrics by each aggregation."""

    def answer(parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        figures = FIGURES[parameters["meter"][0]]
        return {
            **usage_answer(
                *({"group": {"metric": name}, "value": value} for name, value in figures.items()),
                {"group": {"metric": "nothing"}, "value": None},
            ),
            "folded_until": "2026-12-31T23:58:30+00:00",
        }

    memory.usage.answers["/v1/periods"] = answer
    return StripeMeterClient(tenant_id="t1")


def test_usage_is_of_the_present_month(memory: Memory, client: StripeMeterClient) -> None:
    """One question for sums, from the month's first instant to the next month's, UTC."""
    usage = client.get_usage("cus")

    assert usage.customer_ref == "cus"
    assert usage.period == Period(date(2026, 12, 1), date(2026, 12, 31))
    assert usage.metrics == (
        MetricUsage("api_calls", Decimal(160)),
        MetricUsage("seats", Decimal(9)),
        MetricUsage("storage_gb", Decimal("7.5")),
    )
    assert usage.alerts == ()
    assert memory.usage.asked == [
        (
            "/v1/periods",
            {
                "meter": ["stripemeter.sum"],
                "from": ["2026-12-01T00:00:00+00:00"],
                "to": ["2027-01-01T00:00:00+00:00"],
                "tenant": ["cus"],
                "by": ["metric"],
                "where": ["account=t1"],
            },
        )
    ]


def test_declared_prices_choose_aggregation_and_limit(
    memory: Memory, client: StripeMeterClient
) -> None:
    """A metric that is charged by its greatest or latest value shows that; limits alert."""
    declare_price("storage_gb", "0.25", aggregation="max", unit="GB", limit=3)
    declare_price("seats", 10, aggregation="last", limit=4)

    usage = client.get_usage("cus")

    assert usage.metrics == (
        MetricUsage("api_calls", Decimal(160)),
        MetricUsage("seats", Decimal(4), Decimal(4), None),
        MetricUsage("storage_gb", Decimal("2.5"), Decimal(3), "GB"),
    )
    assert usage.alerts == (Alert("limit", "seats is at 4 of 4", "critical"),)


def test_projections_multiply_exactly(memory: Memory, client: StripeMeterClient) -> None:
    """Quantity times declared price, to the last digit; undeclared metrics cost nothing."""
    declare_price("api_calls", "0.001")
    declare_price("storage_gb", "0.25", aggregation="max")

    projection = client.get_projection("cus")

    assert projection.line_items == (
        LineItem("api_calls", Decimal(160), Decimal("0.001"), Decimal("0.160")),
        LineItem("seats", Decimal(9), Decimal(0), Decimal(0)),
        LineItem("storage_gb", Decimal("2.5"), Decimal("0.25"), Decimal("0.625")),
    )
    assert (projection.period_start, projection.period_end) == (
        date(2026, 12, 1), date(2026, 12, 31),
    )  # fmt: skip
    assert (projection.subtotal, projection.credits, projection.total) == (
        Decimal("0.785"), Decimal(0), Decimal("0.785"),
    )  # fmt: skip
    assert projection.currency == "USD"
    assert projection.freshness == Freshness(datetime(2026, 12, 31, 23, 58, 30, tzinfo=UTC), 30)


def test_a_period_may_be_given(memory: Memory, client: StripeMeterClient) -> None:
    """Both days are part of it, as dates, times or texts."""
    client.get_projection("cus", date(2026, 2, 1), "2026-02-28")

    asked = memory.usage.asked[0][1]
    assert (asked["from"], asked["to"]) == (
        ["2026-02-01T00:00:00+00:00"], ["2026-03-01T00:00:00+00:00"],
    )  # fmt: skip
    projection = client.get_projection("cus", datetime(2026, 2, 3, 4, tzinfo=UTC), date(2026, 2, 3))
    assert projection.period_start == projection.period_end == date(2026, 2, 3)


def test_impossible_periods_and_prices_are_told(memory: Memory, client: StripeMeterClient) -> None:
    """A period that ends before it begins, no date at all, and prices of two currencies."""
    with pytest.raises(StripeMeterError, match="2026-01-01 is before 2026-02-01"):
        client.get_projection("cus", "2026-02-01", "2026-01-01")
    with pytest.raises(StripeMeterError, match="'soon' is not an ISO 8601 date"):
        client.get_projection("cus", "soon")
    declare_price("api_calls", 1, currency="EUR")
    with pytest.raises(StripeMeterError, match="EUR and USD"):
        client.get_projection("cus")
    with pytest.raises(ValueError, match="'average' is none of"):
        declare_price("m", 1, aggregation="average")  # type: ignore[arg-type]  # the point


def test_problems_of_the_api_keep_their_status(memory: Memory, client: StripeMeterClient) -> None:
    """An unknown meter says what to add; an API that is away is a 503."""

    def refuse(_: object) -> None:
        raise UsageRefused(404, "no meter is called 'stripemeter.sum'")

    def vanish(_: object) -> None:
        raise UsageUnavailable("nothing answers")

    memory.usage.answers["/v1/periods"] = refuse
    with pytest.raises(StripeMeterError, match="add the ready catalogue stripemeter") as refused:
        client.get_usage("cus")
    assert refused.value.status_code == 404
    memory.usage.answers["/v1/periods"] = vanish
    with pytest.raises(StripeMeterError, match="nothing answers") as away:
        client.get_projection("cus")
    assert (away.value.message, away.value.status_code) == ("nothing answers", 503)


def test_a_client_without_account_sees_all(memory: Memory, client: StripeMeterClient) -> None:
    """Without a ``tenant_id`` nothing is filtered by it."""
    StripeMeterClient().get_usage("cus")

    assert "where" not in memory.usage.asked[0][1]
