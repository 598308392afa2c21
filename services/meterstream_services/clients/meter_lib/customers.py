"""For whom a request of meter-lib speaks: its lookup of customers, and what its events bring back.

The client posts its events with no credential and no tenant, only with the customer id that the
lookup answered. So that id is signed where keys were made (`meterstream_services.keys.signing`) and
speaks for its tenant alone; where none were made it is the tenant as it is.
"""

from __future__ import annotations

from contextlib import suppress

from starlette.exceptions import HTTPException

from meterstream_schemas.checks import check_text
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import TENANT_BYTES_MAX
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import sole_account
from meterstream_services.http.guarding import foreign_tenant
from meterstream_services.http.parts import Parts
from meterstream_services.keys.principal import Principal, Scope


def asked_tenant(path: str, header: str | None) -> str:
    """The tenant that a lookup asks for. Raises 404 where path and ``x-tenant-id`` disagree.

    The client puts the tenant into the path as it is: ``a/../b`` arrives as ``b``, and only the
    header still says what was meant. Without a header a path with more than one part is nobody's.
    """
    if header is None:
        if "/" in path or path in {".", ".."}:
            raise _nobody()
    elif path not in _readings(header):
        raise _nobody()
    try:
        return check_text(path, field="tenant", bytes_max=TENANT_BYTES_MAX)
    except InvalidEvent:
        raise _nobody() from None


def customer_of(parts: Parts, tenant: str) -> str | None:
    """The account of a tenant now; None while accounts cannot be read, and where there are none.

    Raises 404 where there are accounts and the tenant belongs to none of them (decision 23).
    """
    now = parts.now()
    try:
        history = parts.directory.histories([tenant]).get(tenant)
        account = None if history is None else sole_account(history, now, now)
        if account is None and parts.directory.accounts(limit=1):
            raise _nobody()
    except AccountsUnavailable:
        parts.metrics.accounts_failures.inc()
        return None
    return account


def customer_id(parts: Parts, tenant: str, principal: Principal) -> str:
    """What the lookup answers as ``id``."""
    return tenant if parts.keys is None else parts.keys.sign(tenant, principal)


def sender_of(parts: Parts, told: object, principal: Principal) -> tuple[str, Principal]:
    """The tenant of a record by its customer id, and who sends it. Raises 401, 403 and 422."""
    named = str(told) if isinstance(told, int) and not isinstance(told, bool) else told
    if named is None or named == "":
        named = principal.sole_tenant or ""
    signed = None
    if parts.keys is not None and isinstance(named, str):
        signed = parts.keys.signed(named)
    if not principal.may(Scope.INGEST):
        if signed is None:
            raise unsigned()
        principal = signed
    tenant = named if signed is None else signed.sole_tenant
    checked = check_text(tenant, field="customer_id", bytes_max=TENANT_BYTES_MAX)
    if not principal.may_use(checked):
        raise foreign_tenant(checked)
    return checked, principal


def unsigned() -> HTTPException:
    """What is answered to those who show no key, and no customer id of the lookup either."""
    return HTTPException(
        401,
        "customer_id: is not one that the lookup of this gateway answered; look it up with "
        "an API key, or put the key into kafka_url as https://gateway/k/KEY",
    )


def _readings(header: str) -> set[str]:
    """What a header may mean: HTTP has Latin-1, programs send UTF-8."""
    readings = {header}
    with suppress(UnicodeError):
        readings.add(header.encode("latin-1").decode())
    return readings


def _nobody() -> HTTPException:
    return HTTPException(404, "there is no customer for this tenant")
