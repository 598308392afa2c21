"""`AgentMeterClient`: the documented calls, delivered through this SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from meterstream.compat import wiring
from meterstream.compat.agentmeter import records, user_meters
from meterstream.compat.agentmeter.books import settle
from meterstream.compat.agentmeter.config import (
    DEFAULT_BASE_URL,
    TIMEOUT_SECONDS,
    AgentMeterConfig,
    config_from_env,
)
from meterstream.compat.agentmeter.errors import AgentMeterLedgerError, AgentMeterValidationError
from meterstream.compat.agentmeter.money import Number
from meterstream.compat.agentmeter.payments import Payments, text_of
from meterstream.compat.agentmeter.statistics import ask, meter_stats

if TYPE_CHECKING:
    from types import TracebackType

    from meterstream.compat.agentmeter.results import (
        BillingRecord,
        MeterStats,
        Project,
        UserMeter,
    )


class AgentMeterClient(Payments):
    """Records what users of a project owe, and asks what they owed. Safe from any thread.

    ``api_key`` and ``base_url`` are taken for the sake of the documented calls and not used: events
    go where ``METERSTREAM_*`` says, and no key is kept. Prices are what calls charge that name
    none. ``record_`` calls block until the event is in the log, at most ``timeout`` seconds.
    ``max_retries`` and ``batch_size`` are taken likewise: the SDK repeats and batches by itself.

    Raises `AgentMeterValidationError` for a price that is no amount.
    """

    def __init__(
        self,
        api_key: str = "",
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        base_url: str = DEFAULT_BASE_URL,
        *,
        api_request_unit_price: Number = 0,
        input_token_price: Number = 0,
        output_token_price: Number = 0,
        timeout: float = TIMEOUT_SECONDS,
        max_retries: int | None = None,  # noqa: ARG002 - the SDK repeats by itself
        batch_size: int | None = None,  # noqa: ARG002 - the SDK batches by itself
    ) -> None:
        del api_key  # Nothing is sent with it; what is not kept cannot leak.
        super().__init__(
            AgentMeterConfig(
                project_id=project_id,
                agent_id=agent_id,
                user_id=user_id,
                api_request_unit_price=api_request_unit_price,
                input_token_price=input_token_price,
                output_token_price=output_token_price,
                timeout=timeout,
            )
        )
        self.base_url: Final = base_url

    # Limits of users. All raise `AgentMeterLedgerError` when the ledger fails.

    def set_user_meter(
        self, threshold_amount: Number, user_id: str | None = None, project_id: str | None = None
    ) -> UserMeter:
        """Set a user's limit; 0 takes it away. Nothing is refused beyond: ask `is_over_limit`."""
        return user_meters.set_threshold(*self._user(project_id, user_id), threshold_amount)

    def get_user_meter(
        self, user_id: str | None = None, project_id: str | None = None
    ) -> UserMeter:
        """A user's limit, and what events recorded here cost since the last reset."""
        return user_meters.get(*self._user(project_id, user_id))

    def increment_user_meter(
        self, amount: Number, user_id: str | None = None, project_id: str | None = None
    ) -> UserMeter:
        """Add to what a user has used, without an event."""
        return user_meters.increment(*self._user(project_id, user_id), amount)

    def reset_user_meter(
        self, user_id: str | None = None, project_id: str | None = None
    ) -> UserMeter:
        """Nothing was used as from now; the limit stays."""
        return user_meters.reset(*self._user(project_id, user_id))

    # Figures.

    def get_meter_stats(
        self,
        project_id: str | None = None,
        timeframe: str = "30 days",
        *,
        agent_id: str | None = None,
    ) -> MeterStats:
        """Figures of the whole project, or of one agent of it, from the usage API.

        Raises `AgentMeterAPIError` with its ``status_code``, 503 when nothing answers.
        """
        return meter_stats(self._project(project_id), timeframe, agent_id=agent_id)

    def get_events(  # noqa: PLR0917 - the published order
        self,
        project_id: str | None = None,
        agent_id: str | None = None,
        user_id: str | None = None,
        event_type: str | None = None,
        start_date: str | None = None,
        end_date: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """The latest events that this client recorded, at most 1,000, the newest first."""
        return self._journal.find(
            limit=limit,
            since=start_date,
            until=end_date,
            project_id=project_id,
            agent_id=agent_id,
            user_id=user_id,
            event_type=event_type,
        )

    def health_check(self) -> dict[str, Any]:
        """Whether the usage API can answer. Raises `AgentMeterAPIError` when it cannot."""
        answer: dict[str, Any] = ask("/health/ready", [])
        return answer

    # Projects and billing records: see `meterstream.compat.agentmeter.records`.

    def create_project(self, name: str, description: str | None = None) -> Project:
        """A new project under a new id."""
        return records.create_project(name, description)

    def list_projects(self) -> list[Project]:
        """All projects, the oldest first."""
        return records.list_projects()

    def get_project(self, project_id: str) -> Project:
        """One project. Raises `NotFoundError`."""
        return records.get_project(project_id)

    def update_project(
        self, project_id: str, name: str | None = None, description: str | None = None
    ) -> Project:
        """Change what is given. Raises `NotFoundError`."""
        return records.update_project(project_id, name, description)

    def delete_project(self, project_id: str) -> dict[str, bool]:
        """Forget a project; its usage stays. Raises `NotFoundError`."""
        return records.delete_project(project_id)

    def create_billing_record(
        self,
        project_id: str,
        period_start: str,
        period_end: str,
        amount: Number,
        status: str = "pending",
    ) -> BillingRecord:
        """A note of what a project owes; nothing is collected."""
        return records.create_billing_record(project_id, period_start, period_end, amount, status)

    def list_billing_records(self, project_id: str | None = None) -> list[BillingRecord]:
        """Those of a project, or all; the oldest first."""
        return records.list_billing_records(project_id)

    def get_billing_record(self, record_id: str) -> BillingRecord:
        """One record. Raises `NotFoundError`."""
        return records.get_billing_record(record_id)

    def update_billing_record(
        self, record_id: str, status: str | None = None, amount: Number | None = None
    ) -> BillingRecord:
        """Change what is given. Raises `NotFoundError`."""
        return records.update_billing_record(record_id, status, amount)

    def delete_billing_record(self, record_id: str) -> dict[str, bool]:
        """Forget a record. Raises `NotFoundError`."""
        return records.delete_billing_record(record_id)

    # Life.

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all events have an outcome and the ledger is written; whether both is so."""
        flushed = wiring.meter().flush(self.timeout if timeout is None else timeout)
        try:
            settle()
        except AgentMeterLedgerError:
            return False
        return flushed

    def close(self) -> None:
        """Flush. The client may be used again: the meter is the process's."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AgentMeterClient {self.project_id} {self.agent_id}>"

    def _project(self, project_id: str | None) -> str:
        found = text_of(self.project_id if project_id is None else project_id)
        if not found:
            raise AgentMeterValidationError(
                "project_id: is missing; give it to the client or the call"
            )
        return found

    def _user(self, project_id: str | None, user_id: str | None) -> tuple[str, str]:
        user = text_of(self.user_id if user_id is None else user_id)
        if not user:
            raise AgentMeterValidationError(
                "user_id: is missing; give it to the client or the call"
            )
        return self._project(project_id), user


def create_client(
    api_key: str = "",
    project_id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    base_url: str = DEFAULT_BASE_URL,
    **settings: Any,  # noqa: ANN401 - those of the client
) -> AgentMeterClient:
    """A client; see `AgentMeterClient`."""
    return AgentMeterClient(api_key, project_id, agent_id, user_id, base_url, **settings)


def create_client_from_env() -> AgentMeterClient:
    """A client from ``AGENTMETER_*`` variables; see `config_from_env`."""
    return AgentMeterClient(**config_from_env().dict())
