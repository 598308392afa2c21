"""What the AgentMeter calls raise.

::

    AgentMeterError (Exception)
    ├── AgentMeterValidationError      an argument cannot be billed; mend the call
    ├── AgentMeterDeliveryError        no confirmation in time, or the event was refused
    ├── AgentMeterLedgerError          thresholds or definitions cannot be read or written
    └── AgentMeterAPIError             the usage API refused or cannot be reached: `status_code`
        ├── AuthenticationError        401
        ├── AuthorizationError         403
        ├── NotFoundError              404
        ├── RateLimitError             429
        └── ServerError                500 and above; 503 when nothing answers
"""

from __future__ import annotations

from typing import Final


class AgentMeterError(Exception):
    """Base of all; the message is one sentence."""


class AgentMeterValidationError(AgentMeterError):
    """An argument that cannot be billed; the message names it and says what to pass."""


class AgentMeterDeliveryError(AgentMeterError):
    """No confirmation of an event.

    ``event_id`` is the event's key: recording again with ``event_id=`` the same cannot bill twice.
    """

    def __init__(self, message: str, *, event_id: str) -> None:
        super().__init__(message)
        self.event_id = event_id


class AgentMeterLedgerError(AgentMeterError):
    """The local ledger or the local definitions failed; the cause is chained."""


class AgentMeterAPIError(AgentMeterError):
    """The usage API did not answer a question. ``status_code`` is the HTTP status."""

    def __init__(self, message: str, status_code: int = 500) -> None:
        super().__init__(message)
        self.status_code = status_code


class AuthenticationError(AgentMeterAPIError):
    """401: the credentials are not accepted."""


class AuthorizationError(AgentMeterAPIError):
    """403: the credentials do not reach so far."""


class NotFoundError(AgentMeterAPIError):
    """404: there is no such meter, project or billing record."""


class RateLimitError(AgentMeterAPIError):
    """429: too many questions; ask again later."""


class ServerError(AgentMeterAPIError):
    """500 and above, and 503 where nothing answers."""


_BY_STATUS: Final = {
    401: AuthenticationError,
    403: AuthorizationError,
    404: NotFoundError,
    429: RateLimitError,
}


def api_error(status_code: int, message: str) -> AgentMeterAPIError:
    """The error that a status means."""
    kind = _BY_STATUS.get(status_code, ServerError if status_code >= 500 else AgentMeterAPIError)
    return kind(message, status_code)
