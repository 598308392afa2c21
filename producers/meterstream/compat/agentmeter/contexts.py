"""Blocks of code that are charged when they end: ``with track_...(...) as usage``.

``usage`` is a dict that the block fills in; what it says at the end is charged, and the block never
waits for it. Nothing is charged where nothing was used. A metering fault is counted in the meter's
status and never reaches the block; the block's own exceptions pass unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meterstream.compat.agentmeter.events import Event, InstantPayEvent
from meterstream.compat.agentmeter.wrapping import refuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from meterstream.compat.agentmeter.events import Metadata
    from meterstream.compat.agentmeter.money import Number
    from meterstream.compat.agentmeter.payments import Payments

Usage = dict[str, Any]


class Tracked:
    """One such block, for ``with`` and ``async with``. To be entered once at a time."""

    def __init__(
        self,
        client: Payments,
        begin: Callable[[], Usage],
        event: Callable[[Usage], Event | None],
        *,
        charge_failed: bool,
    ) -> None:
        self._client: Final = client
        self._begin: Final = begin
        self._event: Final = event
        self._charge_failed: Final = charge_failed
        self._usage: Usage = {}

    def __enter__(self) -> Usage:
        self._usage = self._begin()
        return self._usage

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and not self._charge_failed:
            return
        try:
            event = self._event(self._usage)
            if event is not None:
                self._client.take_event(event)
        except Exception as fault:  # noqa: BLE001 - nothing may reach the host
            refuse(fault)

    async def __aenter__(self) -> Usage:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, problem, trace)


def track_api_request_pay(
    client: Payments,
    project_id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    unit_price: Number | None = None,
    *,
    metadata: Metadata | None = None,
    charge_failed: bool = True,
) -> Tracked:
    """Charge ``usage["api_calls"]``, 1 unless the block says otherwise, at ``unit_price`` each."""

    def begin() -> Usage:
        return {
            "api_calls": 1,
            "unit_price": unit_price,
            "user_id": user_id,
            "metadata": dict(metadata or {}),
        }

    def event(usage: Usage) -> Event | None:
        if not usage["api_calls"]:
            return None
        return client.api_request(
            **client.who(project_id, agent_id, usage.get("user_id"), usage["metadata"]),
            api_calls=usage["api_calls"],
            unit_price=usage.get("unit_price"),
        )

    return Tracked(client, begin, event, charge_failed=charge_failed)


def track_token_based_pay(  # noqa: PLR0917 - the published order
    client: Payments,
    project_id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    input_token_price: Number | None = None,
    output_token_price: Number | None = None,
    *,
    metadata: Metadata | None = None,
    charge_failed: bool = True,
) -> Tracked:
    """Charge ``usage["tokens_in"]`` and ``usage["tokens_out"]``, 0 each until the block says."""

    def begin() -> Usage:
        return {
            "tokens_in": 0,
            "tokens_out": 0,
            "input_token_price": input_token_price,
            "output_token_price": output_token_price,
            "user_id": user_id,
            "metadata": dict(metadata or {}),
        }

    def event(usage: Usage) -> Event | None:
        if not usage["tokens_in"] and not usage["tokens_out"]:
            return None
        return client.token_usage(
            **client.who(project_id, agent_id, usage.get("user_id"), usage["metadata"]),
            tokens_in=usage["tokens_in"],
            tokens_out=usage["tokens_out"],
            input_token_price=usage.get("input_token_price"),
            output_token_price=usage.get("output_token_price"),
        )

    return Tracked(client, begin, event, charge_failed=charge_failed)


def track_instant_pay(  # noqa: PLR0917 - the published order
    client: Payments,
    project_id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    amount: Number | None = None,
    description: str | None = None,
    *,
    metadata: Metadata | None = None,
    charge_failed: bool = False,
) -> Tracked:
    """Charge ``usage["amount"]``, unless the block failed; nothing until an amount is said."""

    def begin() -> Usage:
        return {
            "amount": 0 if amount is None else amount,
            "description": description,
            "user_id": user_id,
            "metadata": dict(metadata or {}),
        }

    def event(usage: Usage) -> Event | None:
        if not usage["amount"]:
            return None
        return InstantPayEvent(
            **client.who(project_id, agent_id, usage.get("user_id"), usage["metadata"]),
            amount=usage["amount"],
            description=usage.get("description"),
        )

    return Tracked(client, begin, event, charge_failed=charge_failed)
