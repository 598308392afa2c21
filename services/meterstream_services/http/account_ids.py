"""``/v1/accounts/{account}/external-ids``: what an account is called in other systems."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from meterstream_services.accounts.errors import InvalidChanges
from meterstream_services.accounts.model import SetExternalId
from meterstream_services.http.asking import json_response, said_once
from meterstream_services.http.etags import digest, tagged
from meterstream_services.http.guarding import PrincipalOf, unknown_account
from meterstream_services.http.meter_question import known_account
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import Problem, documented

router = APIRouter(tags=["accounts"], dependencies=[Depends(said_once)])


class ExternalIdDocument(BaseModel):
    """An id in another system."""

    system: str
    id: str


class ExternalIdsDocument(BaseModel):
    """What an account is called in other systems, sorted."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"account": "a1", "external_ids": [{"system": "stripe", "id": "cus_1"}]}
        }
    )

    account: str
    external_ids: list[ExternalIdDocument]


@router.get(
    "/v1/accounts/{account}/external-ids",
    summary="The external ids of an account",
    responses={200: {"model": ExternalIdsDocument}, **documented(404, 422, 503)},
)
def external_ids(
    request: Request, account: str, parts: PartsOf, principal: PrincipalOf
) -> Response:
    """What the account is called in other systems, such as a biller's id of the customer."""
    known_account(account, parts.directory, principal)
    return _listed(request, account, parts)


@router.put(
    "/v1/accounts/{account}/external-ids/{system}/{external_id:path}",
    summary="Give an account an external id",
    responses={200: {"model": ExternalIdsDocument}, **documented(404, 409, 422, 503)},
)
def put_external_id(
    request: Request, account: str, system: str, external_id: str, parts: PartsOf
) -> Response:
    """An id of a system means one account: 409 where it means another one already."""
    _check(account, parts)
    _check_free(account, system, external_id, parts)
    try:
        parts.directory.apply([SetExternalId(system, external_id, account)])
    except InvalidChanges as problem:  # Somebody may have taken it since it was looked at.
        _check_free(account, system, external_id, parts)
        raise problem from None
    return _listed(request, account, parts)


@router.delete(
    "/v1/accounts/{account}/external-ids/{system}/{external_id:path}",
    summary="Take an external id away",
    responses={200: {"model": ExternalIdsDocument}, **documented(404, 422, 503)},
)
def remove_external_id(
    request: Request, account: str, system: str, external_id: str, parts: PartsOf
) -> Response:
    """404 where the account does not have it."""
    _check(account, parts)
    if parts.directory.account_of(system, external_id) != account:
        raise Problem(
            404,
            "unknown-external-id",
            f"account {account[:128]!r} has no such id in {system[:64]!r}",
        )
    parts.directory.apply([SetExternalId(system, external_id, None)])
    return _listed(request, account, parts)


def _check_free(account: str, system: str, external_id: str, parts: Parts) -> None:
    found = parts.directory.account_of(system, external_id)
    if found not in {None, account}:
        raise Problem(
            409,
            "external-id-taken",
            f"{external_id[:128]!r} means account {found!r} in {system[:64]!r} already; take it "
            "away there first",
        )


def _check(account: str, parts: Parts) -> None:
    if parts.directory.account(account) is None:
        raise unknown_account(account)


def _listed(request: Request, account: str, parts: Parts) -> Response:
    found = parts.directory.external_ids(account)
    response = json_response(
        {
            "account": account,
            "external_ids": [{"system": system, "id": each} for system, each in found],
        }
    )
    return tagged(request, response, digest(bytes(response.body)))
