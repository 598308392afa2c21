"""``/v1/lookup``: whose a tenant is, asked by services many times a second.

This is also what one meterstream asks another whose directory it uses; see
`meterstream_services.accounts.remote` for what any service must answer to stand in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Request
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from meterstream_aggregator.civil import parse_time
from meterstream_services.accounts.documents import account_json, since_json, spells_json
from meterstream_services.accounts.history import History, spell_at
from meterstream_services.accounts.model import Account
from meterstream_services.accounts.port import Directory
from meterstream_services.http.account_forms import ACCOUNT_EXAMPLE, AccountDocument, account_seen
from meterstream_services.http.accounts import AtQuery
from meterstream_services.http.asking import json_response, said_once
from meterstream_services.http.etags import digest, tagged
from meterstream_services.http.guarding import PrincipalOf, own_tenants
from meterstream_services.http.meter_question import known_account
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.keys.principal import Principal
from meterstream_services.zones import find_zone

router = APIRouter(tags=["accounts"], dependencies=[Depends(said_once)])

TENANTS_MAX: Final = 1000
_MEMBERS_MAX: Final = 100
MERGES_MAX: Final = 100
"""Merges that are followed, one after the other, to the account that stands for an external id."""


class LookupForm(BaseModel):
    """Whose account is asked for, and when."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"tenants": ["acme", "nobody"]}}
    )

    tenants: Annotated[list[str], Field(max_length=TENANTS_MAX)]
    at: Annotated[
        str | None,
        Field(max_length=64, description="Instant, ISO 8601; without offset UTC. Default: now."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, told: object) -> object:
        # Each that is not known becomes an error of its own: of a whole body that takes a second.
        if isinstance(told, dict) and len(told) > _MEMBERS_MAX:
            raise ValueError(f"more than {_MEMBERS_MAX} members; send tenants and at")
        return told


class FoundDocument(BaseModel):
    """A tenant's account at an instant, null for none, and its whole history."""

    tenant: str
    account: str | None
    start: str | None = Field(alias="from")
    end: str | None = Field(alias="to")
    history: list[Any]


class LookupDocument(BaseModel):
    """Tenants in the order in which they were asked for, and the accounts they belong to."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tenants": [
                    {
                        "tenant": "acme",
                        "account": "a1",
                        "from": None,
                        "to": None,
                        "history": [{"account": "a1", "from": None, "to": None}],
                    }
                ],
                "accounts": {"a1": ACCOUNT_EXAMPLE},
            }
        }
    )

    tenants: list[FoundDocument]
    accounts: dict[str, AccountDocument]


class ExternalDocument(BaseModel):
    """The account that an external id leads to; `via` is the one it was given to."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "system": "stripe",
                "id": "cus_1",
                "via": "a1",
                "account": ACCOUNT_EXAMPLE,
            }
        }
    )

    system: str
    id: str
    via: str
    account: AccountDocument


@router.get(
    "/v1/lookup/tenants/{tenant:path}",
    summary="One tenant's account",
    responses={200: {"model": LookupDocument}, **documented(403, 422, 503)},
)
def look_up_one(
    request: Request,
    tenant: str,
    query: Annotated[AtQuery, InQuery()],
    parts: PartsOf,
    principal: PrincipalOf,
) -> Response:
    """As the batch, for one tenant. With an ETag: 304 while nothing changed."""
    own_tenants(principal, [tenant])
    return _looked_up(request, [tenant], query.at, parts, principal)


@router.post(
    "/v1/lookup",
    summary="The accounts of many tenants",
    responses={200: {"model": LookupDocument}, **documented(403, 422, 503)},
)
def look_up(
    request: Request,
    form: Annotated[LookupForm, Body()],
    parts: PartsOf,
    principal: PrincipalOf,
) -> Response:
    """At most a thousand tenants at once; those that were never mapped have no account."""
    asked = list(dict.fromkeys(form.tenants))
    if asked:
        own_tenants(principal, asked)
    return _looked_up(request, asked, form.at, parts, principal)


@router.get(
    "/v1/lookup/external-ids/{system}/{external_id:path}",
    summary="The account of an external id",
    responses={200: {"model": ExternalDocument}, **documented(404, 422, 503)},
)
def look_up_external(
    request: Request, system: str, external_id: str, parts: PartsOf, principal: PrincipalOf
) -> Response:
    """The account that an id of another system leads to, through merges: what took its place."""
    directory = parts.directory
    via = directory.account_of(system, external_id)
    unknown = Problem(404, "unknown-external-id", f"no account has that id in {system[:64]!r}")
    if via is None:
        raise unknown
    try:
        # The one that the key may see: a merge does not open another's account to it.
        known_account(via, directory, principal)
        account = _standing(via, directory)
        known_account(account.id, directory, principal)
    except Problem as problem:
        raise unknown from problem
    response = json_response(
        {"system": system, "id": external_id, "via": via, "account": account_json(account)}
    )
    return tagged(request, response, digest(bytes(response.body)))


def _looked_up(
    request: Request, tenants: list[str], at: str | None, parts: Parts, principal: Principal
) -> Response:
    time = parts.now() if at is None else parse_time(at, find_zone("UTC"), field="at")
    histories = parts.directory.histories(tenants)
    found = [_found(tenant, histories.get(tenant, ()), time) for tenant in tenants]
    named = dict.fromkeys(each["account"] for each in found if each["account"] is not None)
    accounts = _accounts(parts.directory, named, principal)
    response = json_response({"tenants": found, "accounts": accounts})
    return tagged(request, response, digest(bytes(response.body)))


def _found(tenant: str, history: History, time: int) -> dict[str, Any]:
    spell = spell_at(history, time)
    return {
        "tenant": tenant,
        "account": spell.account,
        "from": since_json(spell.since),
        "to": since_json(spell.until),
        "history": spells_json(history),
    }


def _accounts(directory: Directory, named: Iterable[str], principal: Principal) -> dict[str, Any]:
    found = {name: directory.account(name) for name in named}
    return {
        name: account_seen(account, directory, principal)
        for name, account in found.items()
        if account
    }


def _standing(account_id: str, directory: Directory) -> Account:
    """The account, or the one that took its place."""
    for _ in range(MERGES_MAX):
        account = directory.account(account_id)
        if account is None:
            break
        if account.merged_into is None:
            return account
        account_id = account.merged_into
    raise Problem(404, "unknown-account", f"there is no account {account_id[:128]!r}")
