"""Calls that many tests make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meterstream import Meter

TENANTS: Final = [f"tenant {number}" for number in range(40)]


def record_many(meter: Meter, count: int) -> None:
    """Events of many tenants."""
    for number in range(count):
        assert meter.record("api.request", tenant=TENANTS[number % len(TENANTS)], quantity=number)
