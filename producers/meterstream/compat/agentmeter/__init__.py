"""The documented calls of AgentMeter's client, delivered through this SDK.

``from meterstream.compat.agentmeter import ...`` in place of ``from agentmeter import ...``. What
each call does here, what differs and what needs an outside party: docs/coming-from/agentmeter.md.
For LangChain use `meterstream.integrations.langchain`.
"""

from __future__ import annotations

from meterstream.compat.agentmeter.client import (
    AgentMeterClient,
    create_client,
    create_client_from_env,
)
from meterstream.compat.agentmeter.config import AgentMeterConfig
from meterstream.compat.agentmeter.contexts import (
    track_api_request_pay,
    track_instant_pay,
    track_token_based_pay,
)
from meterstream.compat.agentmeter.decorators import (
    meter_agent,
    meter_api_request_pay,
    meter_instant_pay,
    meter_token_based_pay,
)
from meterstream.compat.agentmeter.errors import (
    AgentMeterAPIError,
    AgentMeterDeliveryError,
    AgentMeterError,
    AgentMeterLedgerError,
    AgentMeterValidationError,
    AuthenticationError,
    AuthorizationError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from meterstream.compat.agentmeter.events import (
    APIRequestPayEvent,
    EventType,
    InstantPayEvent,
    PaymentType,
    TokenBasedPayEvent,
)
from meterstream.compat.agentmeter.results import (
    BillingRecord,
    MeterEventResponse,
    MeterStats,
    Project,
    UserMeter,
)
from meterstream.compat.agentmeter.tracker import AgentMeterTracker

__all__ = [
    "APIRequestPayEvent",
    "AgentMeterAPIError",
    "AgentMeterClient",
    "AgentMeterConfig",
    "AgentMeterDeliveryError",
    "AgentMeterError",
    "AgentMeterLedgerError",
    "AgentMeterTracker",
    "AgentMeterValidationError",
    "AuthenticationError",
    "AuthorizationError",
    "BillingRecord",
    "EventType",
    "InstantPayEvent",
    "MeterEventResponse",
    "MeterStats",
    "NotFoundError",
    "PaymentType",
    "Project",
    "RateLimitError",
    "ServerError",
    "TokenBasedPayEvent",
    "UserMeter",
    "create_client",
    "create_client_from_env",
    "meter_agent",
    "meter_api_request_pay",
    "meter_instant_pay",
    "meter_token_based_pay",
    "track_api_request_pay",
    "track_instant_pay",
    "track_token_based_pay",
]
