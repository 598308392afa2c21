"""``/v1/tenants``: who has usage, and to which account each belongs when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.civil import parse_time
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import account_at, spell_at
from meterstream_services.accounts.model import Assign, tag_of
from meterstream_services.accounts.port import EditableDirectory, Expected
from meterstream_services.http.account_forms import (
    HistoryDocument,
    Membership,
    TenantAccountDocument,
    account_seen,
    history_json,
    since_json,
)
from meterstream_services.http.accounts import AtQuery
from meterstream_services.http.asking import (
    ROWS_DEFAULT,
    After,
    Limit,
    Query,
    Text,
    cursor,
    json_response,
    place,
    said_once,
)
from meterstream_services.http.etags import digest, expected_tag, tagged
from meterstream_services.http.guarding import PrincipalOf, own_tenants
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["accounts"], dependencies=[Depends(said_once)])


class TenantsQuery(Query):
    """Which tenants."""

    limit: Limit = ROWS_DEFAULT
    after: After | None = None


class UnmapQuery(Query):
    """From when."""

    start: Annotated[
        Text, Field(alias="from", description="Instant, ISO 8601; without offset UTC.")
    ]


class TenantDocument(BaseModel):
    """A tenant with usage, and the account it belongs to now."""

    model_config = ConfigDict(json_schema_extra={"example": {"tenant": "acme", "account": "a1"}})

    tenant: str
    account: str | None


class TenantsDocument(BaseModel):
    """Tenants that have usage, sorted. `next` goes on where this answer stops."""

    tenants: list[TenantDocument]
    next: str | None


@router.get(
    "/v1/tenants",
    summary="Tenants that have usage",
    responses={200: {"model": TenantsDocument}, **documented(422, 503)},
)
def tenants(
    query: Annotated[TenantsQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """Tenants of the key that used something, with their accounts (null while those are away)."""
    after = None if query.after is None else place(query.after)
    with parts.store() as store:
        found = [
            tenant
            for tenant in store.tenants()
            if (after is None or tenant > after) and principal.may_use(tenant)
        ]
    shown = found[: query.limit]
    try:
        histories = parts.directory.histories(shown)
    except AccountsUnavailable:
        parts.metrics.accounts_failures.inc()
        histories = {}
    now = parts.now()
    return json_response(
        {
            "tenants": [
                {"tenant": tenant, "account": account_at(histories.get(tenant, ()), now)}
                for tenant in shown
            ],
            "next": cursor(shown[-1]) if len(found) > query.limit else None,
        }
    )


# A tenant may hold any character, so it is matched as a path; the ends tell the routes apart.
@router.get(
    "/v1/tenants/{tenant:path}/account/history",
    summary="A tenant's accounts, one after the other",
    responses={200: {"model": HistoryDocument}, **documented(422, 503)},
)
def read_history(request: Request, tenant: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """To which accounts a tenant belonged; an empty list where it was never mapped."""
    own_tenants(principal, [tenant])
    return _history(request, parts.directory, tenant)


@router.get(
    "/v1/tenants/{tenant:path}/account",
    summary="The account of a tenant",
    responses={200: {"model": TenantAccountDocument}, **documented(404, 422, 503)},
)
def read_tenant_account(
    request: Request,
    tenant: str,
    query: Annotated[AtQuery, InQuery()],
    parts: PartsOf,
    principal: PrincipalOf,
) -> Response:
    """The account that a tenant belongs to at an instant; 404 where it belongs to none."""
    own_tenants(principal, [tenant])
    at = parts.now() if query.at is None else parse_time(query.at, find_zone("UTC"), field="at")
    history = parts.directory.histories([tenant]).get(tenant, ())
    spell = spell_at(history, at)
    account = None if spell.account is None else parts.directory.account(spell.account)
    if account is None:
        raise Problem(
            404, "unmapped-tenant", f"tenant {tenant[:128]!r} belongs to no account at that time"
        )
    response = json_response(
        {
            "tenant": tenant,
            "account": account_seen(account, parts.directory, principal),
            "from": since_json(spell.since),
            "to": since_json(spell.until),
        }
    )
    return tagged(request, response, f"{tag_of(history)}.{digest(bytes(response.body))}")


@router.put(
    "/v1/tenants/{tenant:path}/account",
    summary="Map a tenant to an account",
    responses={200: {"model": HistoryDocument}, **documented(412, 422, 503)},
)
def map_tenant(
    request: Request, tenant: str, form: Annotated[Membership, Body()], parts: PartsOf
) -> Response:
    """From an instant on the tenant belongs to the account, until its next known change.

    Figures need no rewriting: a question by account follows the mapping window by window.
    """
    start = None if form.start is None else parse_time(form.start, find_zone("UTC"), field="from")
    return _assign(request, parts.directory, Assign(tenant, form.account, start))


@router.delete(
    "/v1/tenants/{tenant:path}/account",
    summary="End a tenant's mapping",
    responses={200: {"model": HistoryDocument}, **documented(412, 422, 503)},
)
def unmap_tenant(
    request: Request, tenant: str, query: Annotated[UnmapQuery, InQuery()], parts: PartsOf
) -> Response:
    """From an instant on the tenant belongs to no account, until its next known change."""
    start = parse_time(query.start, find_zone("UTC"), field="from")
    return _assign(request, parts.directory, Assign(tenant, None, start))


def _assign(request: Request, directory: EditableDirectory, change: Assign) -> Response:
    current = tag_of(directory.histories([change.tenant]).get(change.tenant, ()))
    wanted, tag = expected_tag(request, current)
    directory.apply([change], expected=Expected(tenant=change.tenant, tag=tag) if wanted else None)
    return _history(request, directory, change.tenant)


def _history(request: Request, directory: EditableDirectory, tenant: str) -> Response:
    history = directory.histories([tenant]).get(tenant, ())
    return tagged(request, json_response(history_json(tenant, history)), f"{tag_of(history)}.all")
