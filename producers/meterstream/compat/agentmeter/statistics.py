"""Figures of a project over a time, asked of the usage API by the meters of the ready catalogue."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from meterstream.compat import wiring
from meterstream.compat.agentmeter.errors import AgentMeterValidationError, api_error
from meterstream.compat.agentmeter.events import PaymentType
from meterstream.compat.agentmeter.money import total
from meterstream.compat.agentmeter.results import MeterStats
from meterstream.compat.usage_api import UsageError, UsageRefused

if TYPE_CHECKING:
    from meterstream.compat.usage_api import Json

API_CALLS: Final = "agentmeter.api_calls"
TOKENS_IN: Final = "agentmeter.tokens_in"
TOKENS_OUT: Final = "agentmeter.tokens_out"
PAYMENTS: Final = "agentmeter.payments"
COSTS: Final = {
    PaymentType.API_REQUEST_PAY: "agentmeter.api_request_cost",
    PaymentType.TOKEN_BASED_PAY: "agentmeter.token_cost",
    PaymentType.INSTANT_PAY: "agentmeter.payment_cost",
}

_TIMEFRAME: Final = re.compile(
    r"\s*(\d{1,5})\s*(hour|day|week|month|year|h|d|w)s?\s*", re.IGNORECASE
)
_HOURS: Final = {"h": 1, "d": 24, "w": 24 * 7, "m": 24 * 30, "y": 24 * 365}
_UNAVAILABLE: Final = 503
_NOT_FOUND: Final = 404


def meter_stats(
    project_id: str, timeframe: str, *, agent_id: str | None = None, now: datetime | None = None
) -> MeterStats:
    """The figures of the hours that begin within the timeframe, the present one included.

    A month is 30 days and a year 365. Raises `AgentMeterAPIError` and `AgentMeterValidationError`.
    """
    start, end = span(timeframe, now or datetime.now(UTC))

    def figure(meter: str) -> Decimal:
        return _figure(meter, project_id, agent_id, start, end)

    costs = {kind.value: figure(meter) for kind, meter in COSTS.items()}
    return MeterStats(
        project_id=project_id,
        timeframe=timeframe,
        start=start,
        end=end,
        total_api_calls=int(figure(API_CALLS)),
        total_tokens_in=int(figure(TOKENS_IN)),
        total_tokens_out=int(figure(TOKENS_OUT)),
        total_payments=int(figure(PAYMENTS)),
        exact_cost=total(*costs.values()),
        cost_by_payment_type=costs,
    )


def span(timeframe: str, now: datetime) -> tuple[datetime, datetime]:
    """Whole hours: usage is kept by windows of up to one. Raises `AgentMeterValidationError`."""
    found = _TIMEFRAME.fullmatch(timeframe)
    if found is None or not int(found[1]):
        raise AgentMeterValidationError(
            f"timeframe: {timeframe!r:.40} is none; write one such as '30 days' or '12 hours'"
        )
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    length = timedelta(hours=int(found[1]) * _HOURS[found[2][0].lower()])
    try:
        return hour - length, hour + timedelta(hours=1)
    except OverflowError:
        raise AgentMeterValidationError(f"timeframe: {timeframe!r:.40} is too long") from None


def ask(path: str, params: list[tuple[str, str]]) -> Json:
    """A question to the usage API. Raises `AgentMeterAPIError` with the status of a refusal."""
    try:
        return wiring.usage().get(path, params)
    except UsageRefused as problem:
        remedy = (
            "; the worker's catalogue needs the meters of `meterstream catalogue agentmeter`"
            if problem.status == _NOT_FOUND
            else ""
        )
        raise api_error(problem.status, f"{problem.detail}{remedy}") from problem
    except UsageError as problem:
        raise api_error(_UNAVAILABLE, str(problem)) from problem


def _figure(
    meter: str, project_id: str, agent_id: str | None, start: datetime, end: datetime
) -> Decimal:
    params = [
        ("meter", meter),
        ("tenant", project_id),
        ("from", start.isoformat()),
        ("to", end.isoformat()),
    ]
    if agent_id is not None:
        params.append(("where", f"agent={agent_id}"))
    rows = ask("/v1/usage", params)["rows"]
    return total(*(Decimal(row["value"]) for row in rows if row["value"] is not None))
