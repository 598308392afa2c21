"""The payments of a client: the ``record_`` calls, and the events that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meterstream.compat.agentmeter import recording
from meterstream.compat.agentmeter.events import (
    APIRequestPayEvent,
    Event,
    InstantPayEvent,
    Metadata,
    TokenBasedPayEvent,
)
from meterstream.compat.agentmeter.journal import Journal
from meterstream.compat.agentmeter.money import Number, exact

if TYPE_CHECKING:
    from meterstream.compat.agentmeter.config import AgentMeterConfig
    from meterstream.compat.agentmeter.results import MeterEventResponse


class Payments:
    """Charges what users of a project owe. A part of `AgentMeterClient`.

    Raises `AgentMeterValidationError` for a price that is no amount.
    """

    def __init__(self, config: AgentMeterConfig) -> None:
        self.project_id: str | None = text_of(config.project_id)
        self.agent_id: str | None = text_of(config.agent_id)
        self.user_id: str | None = text_of(config.user_id)
        self.timeout: float = config.timeout
        self.api_request_unit_price: Final = exact(
            config.api_request_unit_price, field="api_request_unit_price"
        )
        self.input_token_price: Final = exact(config.input_token_price, field="input_token_price")
        self.output_token_price: Final = exact(
            config.output_token_price, field="output_token_price"
        )
        self._journal: Final = Journal()

    def record_api_request_pay(  # noqa: PLR0917 - the published order
        self,
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        api_calls: int = 1,
        unit_price: Number | None = None,
        metadata: Metadata | None = None,
        *,
        event_id: str | None = None,
    ) -> MeterEventResponse:
        """Charge calls at a price each. Raises as `record_event`."""
        return self.record_event(
            self.api_request(
                **self.who(project_id, agent_id, user_id, metadata, event_id),
                api_calls=api_calls,
                unit_price=unit_price,
            )
        )

    def record_token_based_pay(  # noqa: PLR0917 - the published order
        self,
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        input_token_price: Number | None = None,
        output_token_price: Number | None = None,
        metadata: Metadata | None = None,
        *,
        event_id: str | None = None,
    ) -> MeterEventResponse:
        """Charge tokens at a price each way. Raises as `record_event`."""
        return self.record_event(
            self.token_usage(
                **self.who(project_id, agent_id, user_id, metadata, event_id),
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                input_token_price=input_token_price,
                output_token_price=output_token_price,
            )
        )

    def record_instant_pay(  # noqa: PLR0917 - the published order
        self,
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        amount: Number = 0,
        description: str | None = None,
        metadata: Metadata | None = None,
        *,
        event_id: str | None = None,
    ) -> MeterEventResponse:
        """Charge an amount: an event, and a payment in the ledger's journal.

        Nobody's card is charged: that is for a ledger of the host's. Raises as `record_event`.
        """
        return self.record_event(
            InstantPayEvent(
                **self.who(project_id, agent_id, user_id, metadata, event_id),
                amount=amount,
                description=description,
            )
        )

    def record_event(self, event: Event) -> MeterEventResponse:
        """Record an event and wait until it is in the log. An ``event_id`` counts once.

        Raises `AgentMeterValidationError` for what cannot be billed, `AgentMeterDeliveryError` when
        it is not confirmed in time.
        """
        return recording.send(event, self._journal, timeout=self.timeout)

    async def record_event_async(self, event: Event) -> MeterEventResponse:
        """As `record_event`, without blocking the event loop."""
        return await recording.send_async(event, self._journal, timeout=self.timeout)

    def take_event(self, event: Event) -> MeterEventResponse:
        """Record an event without waiting for it: what decorators, blocks and trackers do."""
        return recording.take(event, self._journal)

    def who(
        self,
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        metadata: Metadata | None = None,
        event_id: str | None = None,
    ) -> dict[str, Any]:
        """The fields that all events share, the client's own where none is given."""
        fields: dict[str, Any] = {
            "project_id": text_of(self.project_id if project_id is None else project_id),
            "agent_id": text_of(self.agent_id if agent_id is None else agent_id),
            "user_id": text_of(self.user_id if user_id is None else user_id),
        }
        if metadata is not None:
            fields["metadata"] = metadata
        if event_id is not None:
            fields["event_id"] = event_id
        return fields

    def api_request(
        self,
        *,
        unit_price: Number | None = None,
        **fields: Any,  # noqa: ANN401 - those of the event
    ) -> APIRequestPayEvent:
        """The event, at the client's price where none is given."""
        price = self.api_request_unit_price if unit_price is None else unit_price
        return APIRequestPayEvent(unit_price=price, **fields)

    def token_usage(
        self,
        *,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        input_token_price: Number | None = None,
        output_token_price: Number | None = None,
        **fields: Any,  # noqa: ANN401 - those of the event
    ) -> TokenBasedPayEvent:
        """The event, at the client's prices where none are given."""
        return TokenBasedPayEvent(
            tokens_in=0 if tokens_in is None else tokens_in,
            tokens_out=0 if tokens_out is None else tokens_out,
            input_token_price=(
                self.input_token_price if input_token_price is None else input_token_price
            ),
            output_token_price=(
                self.output_token_price if output_token_price is None else output_token_price
            ),
            **fields,
        )


def text_of(value: object) -> str | None:
    """An id as text: numbers are taken too, nothing stays nothing."""
    return value if value is None or isinstance(value, str) else str(value)
