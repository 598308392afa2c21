"""Projects and billing records, kept as local definitions.

Both are notes: a project is what tenants are called here and needs none to be metered; a billing
record collects nothing. A host with a billing system gives definitions of its own to
`meterstream.compat.wiring.use`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterstream.compat import wiring
from meterstream.compat.agentmeter.errors import (
    AgentMeterLedgerError,
    AgentMeterValidationError,
    NotFoundError,
)
from meterstream.compat.agentmeter.money import Number, exact, text
from meterstream.compat.agentmeter.results import BillingRecord, Project

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PROJECTS: Final = "agentmeter.project"
_BILLING: Final = "agentmeter.billing_record"
_NOT_FOUND: Final = 404


def create_project(name: str, description: str | None) -> Project:
    """A new project under a new id."""
    if not name:
        raise AgentMeterValidationError("name: is empty; pass a name")
    return _project(*_create(_PROJECTS, {"name": name, "description": description}))


def list_projects() -> list[Project]:
    """All, the oldest first."""
    found = _tried(lambda: wiring.definitions().all(_PROJECTS))
    return [_project(name, definition) for name, definition in found.items()]


def get_project(project_id: str) -> Project:
    """One project. Raises `NotFoundError`."""
    return _project(project_id, _get(_PROJECTS, project_id))


def update_project(project_id: str, name: str | None, description: str | None) -> Project:
    """Change what is given. Raises `NotFoundError`."""
    changed = _update(_PROJECTS, project_id, {"name": name, "description": description})
    return _project(project_id, changed)


def delete_project(project_id: str) -> dict[str, bool]:
    """Forget a project; its usage stays. Raises `NotFoundError`."""
    return _remove(_PROJECTS, project_id)


def create_billing_record(
    project_id: str, period_start: str, period_end: str, amount: Number, status: str
) -> BillingRecord:
    """A new billing record under a new id."""
    start, end = _time("period_start", period_start), _time("period_end", period_end)
    if end < start:
        raise AgentMeterValidationError("period_end: lies before period_start")
    definition = {
        "project_id": project_id,
        "period_start": period_start,
        "period_end": period_end,
        "amount": text(exact(amount, field="amount")),
        "status": status,
    }
    return _billing_record(*_create(_BILLING, definition))


def list_billing_records(project_id: str | None) -> list[BillingRecord]:
    """Those of a project, or all; the oldest first."""
    found = _tried(lambda: wiring.definitions().all(_BILLING))
    records = [_billing_record(name, definition) for name, definition in found.items()]
    return [record for record in records if project_id in {None, record.project_id}]


def get_billing_record(record_id: str) -> BillingRecord:
    """One record. Raises `NotFoundError`."""
    return _billing_record(record_id, _get(_BILLING, record_id))


def update_billing_record(
    record_id: str, status: str | None, amount: Number | None
) -> BillingRecord:
    """Change what is given. Raises `NotFoundError`."""
    shown = None if amount is None else text(exact(amount, field="amount"))
    return _billing_record(
        record_id, _update(_BILLING, record_id, {"status": status, "amount": shown})
    )


def delete_billing_record(record_id: str) -> dict[str, bool]:
    """Forget a record. Raises `NotFoundError`."""
    return _remove(_BILLING, record_id)


def _create(kind: str, definition: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name, now = str(uuid.uuid4()), datetime.now(UTC).isoformat()
    definition |= {"created_at": now, "updated_at": now}
    _tried(lambda: wiring.definitions().put(kind, name, definition))
    return name, definition


def _get(kind: str, name: str) -> dict[str, Any]:
    found = _tried(lambda: wiring.definitions().get(kind, name))
    if found is None:
        raise _unknown(kind, name)
    return found


def _update(kind: str, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    definition = _get(kind, name) | {
        field: value for field, value in changes.items() if value is not None
    }
    definition["updated_at"] = datetime.now(UTC).isoformat()
    _tried(lambda: wiring.definitions().put(kind, name, definition))
    return definition


def _remove(kind: str, name: str) -> dict[str, bool]:
    if not _tried(lambda: wiring.definitions().remove(kind, name)):
        raise _unknown(kind, name)
    return {"success": True}


def _tried(step: Callable[[], T]) -> T:
    try:
        return step()
    except Exception as problem:
        raise AgentMeterLedgerError(f"the local definitions failed: {problem}") from problem


def _unknown(kind: str, name: str) -> NotFoundError:
    what = kind.rpartition(".")[2].replace("_", " ")
    return NotFoundError(f"there is no {what} {name!r:.80}", _NOT_FOUND)


def _time(field: str, value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise AgentMeterValidationError(f"{field}: {value!r:.80} is no ISO 8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _project(name: str, definition: dict[str, Any]) -> Project:
    return Project(
        id=name,
        name=definition["name"],
        description=definition["description"],
        created_at=datetime.fromisoformat(definition["created_at"]),
        updated_at=datetime.fromisoformat(definition["updated_at"]),
    )


def _billing_record(name: str, definition: dict[str, Any]) -> BillingRecord:
    return BillingRecord(
        id=name,
        project_id=definition["project_id"],
        period_start=definition["period_start"],
        period_end=definition["period_end"],
        exact_amount=Decimal(definition["amount"]),
        status=definition["status"],
        created_at=datetime.fromisoformat(definition["created_at"]),
        updated_at=datetime.fromisoformat(definition["updated_at"]),
    )
