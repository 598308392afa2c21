"""`AgentMeterTracker`: many events of one project and agent, sent in batches.

The SDK itself gathers events to batches and sends them in the background, so that a tracker holds
none back: what was tracked is with the SDK at once, under its durability, and nothing is lost
between batches. ``auto_flush`` and ``batch_size`` are taken and change nothing of that; `flush`
waits until everything has arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from meterstream.compat.agentmeter.events import InstantPayEvent

if TYPE_CHECKING:
    from types import TracebackType

    from meterstream.compat.agentmeter.client import AgentMeterClient
    from meterstream.compat.agentmeter.events import Event, Metadata
    from meterstream.compat.agentmeter.money import Number
    from meterstream.compat.agentmeter.results import MeterEventResponse

BATCH_SIZE: Final = 10


class AgentMeterTracker:
    """Charges through a client. Safe from any thread; the ``await``-ed calls from any event loop.

    The ``..._pay`` calls do not wait and answer at once whether the event was taken; the others
    wait for its confirmation and raise as `AgentMeterClient.record_event` does. Prices that neither
    call nor tracker name are the client's.
    """

    def __init__(
        self,
        client: AgentMeterClient,
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        *,
        auto_flush: bool = True,
        batch_size: int = BATCH_SIZE,
        flush_interval: float = 10,
        default_api_price: Number | None = None,
        default_input_token_price: Number | None = None,
        default_output_token_price: Number | None = None,
    ) -> None:
        self.client: Final = client
        self.project_id: Final = project_id
        self.agent_id: Final = agent_id
        self.user_id: Final = user_id
        self.auto_flush: Final = auto_flush
        self.batch_size: Final = batch_size
        self.flush_interval: Final = flush_interval
        self._prices: Final = (
            default_api_price,
            default_input_token_price,
            default_output_token_price,
        )

    def track_api_request_pay(
        self,
        user_id: str | None = None,
        *,
        api_calls: int = 1,
        unit_price: Number | None = None,
        metadata: Metadata | None = None,
    ) -> MeterEventResponse:
        """Charge calls at a price each, without waiting. Raises `AgentMeterValidationError`."""
        return self.client.take_event(self._calls(user_id, api_calls, unit_price, metadata))

    def track_token_based_pay(
        self,
        user_id: str | None = None,
        *,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        input_token_price: Number | None = None,
        output_token_price: Number | None = None,
        metadata: Metadata | None = None,
    ) -> MeterEventResponse:
        """Charge tokens, without waiting. Raises `AgentMeterValidationError`."""
        prices = input_token_price, output_token_price
        return self.client.take_event(
            self._tokens(user_id, tokens_in, tokens_out, prices, metadata)
        )

    def track_instant_pay(
        self,
        user_id: str | None = None,
        *,
        amount: Number,
        description: str | None = None,
        metadata: Metadata | None = None,
    ) -> MeterEventResponse:
        """Charge an amount, without waiting. Raises `AgentMeterValidationError`."""
        return self.client.take_event(self._payment(user_id, amount, description, metadata))

    async def track_api_request(
        self,
        user_id: str | None = None,
        api_calls: int = 1,
        unit_price: Number | None = None,
        metadata: Metadata | None = None,
    ) -> MeterEventResponse:
        """Charge calls at a price each, and wait for the confirmation."""
        event = self._calls(user_id, api_calls, unit_price, metadata)
        return await self.client.record_event_async(event)

    async def track_token_usage(
        self,
        user_id: str | None = None,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        *,
        input_token_price: Number | None = None,
        output_token_price: Number | None = None,
        metadata: Metadata | None = None,
    ) -> MeterEventResponse:
        """Charge tokens, and wait for the confirmation."""
        prices = input_token_price, output_token_price
        event = self._tokens(user_id, tokens_in, tokens_out, prices, metadata)
        return await self.client.record_event_async(event)

    async def track_instant_payment(
        self,
        user_id: str | None = None,
        amount: Number = 0,
        description: str | None = None,
        metadata: Metadata | None = None,
    ) -> MeterEventResponse:
        """Charge an amount, and wait for the confirmation."""
        event = self._payment(user_id, amount, description, metadata)
        return await self.client.record_event_async(event)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything tracked has arrived; whether it has. Blocks."""
        return self.client.flush(timeout)

    def stop(self) -> None:
        """Flush. The tracker may be used again."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _calls(
        self,
        user_id: str | None,
        api_calls: int,
        unit_price: Number | None,
        metadata: Metadata | None,
    ) -> Event:
        return self.client.api_request(
            **self.client.who(self.project_id, self.agent_id, self._user(user_id), metadata),
            api_calls=api_calls,
            unit_price=self._prices[0] if unit_price is None else unit_price,
        )

    def _tokens(
        self,
        user_id: str | None,
        tokens_in: int | None,
        tokens_out: int | None,
        prices: tuple[Number | None, Number | None],
        metadata: Metadata | None,
    ) -> Event:
        price_in, price_out = prices
        return self.client.token_usage(
            **self.client.who(self.project_id, self.agent_id, self._user(user_id), metadata),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            input_token_price=self._prices[1] if price_in is None else price_in,
            output_token_price=self._prices[2] if price_out is None else price_out,
        )

    def _payment(
        self,
        user_id: str | None,
        amount: Number,
        description: str | None,
        metadata: Metadata | None,
    ) -> Event:
        return InstantPayEvent(
            **self.client.who(self.project_id, self.agent_id, self._user(user_id), metadata),
            amount=amount,
            description=description,
        )

    def _user(self, user_id: str | None) -> str | None:
        return self.user_id if user_id is None else user_id
