"""``/v1/accounts``: accounts, one by one and in bulk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Body, Depends, Request
from fastapi import Query as InQuery
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from meterstream_aggregator.civil import parse_time
from meterstream_services.accounts.errors import InvalidChanges, PreconditionFailed
from meterstream_services.accounts.history import account_at
from meterstream_services.accounts.imports import (
    Import,
    InvalidImport,
    read_csv,
    read_json,
    read_json_lines,
)
from meterstream_services.accounts.model import Account, RemoveAccount, tag_of
from meterstream_services.accounts.port import Applied, EditableDirectory, Expected
from meterstream_services.http.account_forms import (
    AccountDocument,
    AccountFields,
    AccountsDocument,
    ImportDocument,
    MemberDocument,
    NewAccount,
    account_json,
    account_seen,
)
from meterstream_services.http.asking import (
    ROWS_DEFAULT,
    After,
    Limit,
    Query,
    Text,
    json_response,
    said_once,
)
from meterstream_services.http.etags import digest, expected_tag, tagged
from meterstream_services.http.guarding import PrincipalOf, own_members
from meterstream_services.http.meter_question import known_account
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["accounts"], dependencies=[Depends(said_once)])


_READERS: Final[dict[str, Callable[[bytes], Import]]] = {
    "text/csv": read_csv,
    "application/json": read_json,
    "application/x-ndjson": read_json_lines,
}


class AccountsQuery(Query):
    """Which accounts."""

    limit: Limit = ROWS_DEFAULT
    after: After | None = None


class AtQuery(Query):
    """When."""

    at: Annotated[
        Text | None,
        Field(description="Instant, ISO 8601; without offset UTC. Default: now."),
    ] = None


class MembersQuery(AtQuery):
    """When, or ever."""

    ever: Annotated[
        bool, Field(description="Every tenant that belongs or ever belonged to it.")
    ] = False


class ImportQuery(Query):
    """How to import."""

    dry_run: Annotated[bool, Field(description="Check everything, keep nothing.")] = False


@router.get(
    "/v1/accounts",
    summary="Accounts by id",
    responses={200: {"model": AccountsDocument}, **documented(422, 503)},
)
def list_accounts(
    request: Request, query: Annotated[AccountsQuery, InQuery()], parts: PartsOf
) -> Response:
    """All accounts, page by page. With an ETag: send it in If-None-Match to be told of changes."""
    found = parts.directory.accounts(after=query.after, limit=query.limit + 1)
    shown = found[: query.limit]
    more = len(found) > query.limit
    response = json_response(
        {
            "accounts": [account_json(account) for account in shown],
            "next": shown[-1].id if more else None,
        }
    )
    return tagged(request, response, digest(bytes(response.body)))


@router.post(
    "/v1/accounts",
    summary="Make an account",
    status_code=201,
    responses={201: {"model": AccountDocument}, **documented(409, 422, 503)},
)
def make_account(request: Request, form: Annotated[NewAccount, Body()], parts: PartsOf) -> Response:
    """Make an account. 409 where there is one of that id."""
    try:
        parts.directory.apply([form.change(form.id)], expected=Expected(account=form.id, tag="0"))
    except PreconditionFailed as problem:
        raise Problem(409, "account-exists", str(problem)) from problem
    return _one(request, _known(parts.directory, form.id), status=201)


@router.get(
    "/v1/accounts/{account}",
    summary="One account",
    responses={200: {"model": AccountDocument}, **documented(404, 422, 503)},
)
def read_account(
    request: Request, account: str, parts: PartsOf, principal: PrincipalOf
) -> Response:
    """One account, with an ETag."""
    found = known_account(account, parts.directory, principal)
    response = json_response(account_seen(found, parts.directory, principal))
    return tagged(request, response, tag_of(found))


@router.put(
    "/v1/accounts/{account}",
    summary="Make or replace an account",
    responses={
        200: {"model": AccountDocument},
        201: {"model": AccountDocument},
        **documented(412, 422, 503),
    },
)
def put_account(
    request: Request, account: str, form: Annotated[AccountFields, Body()], parts: PartsOf
) -> Response:
    """Make the account exactly this. If-Match: only if unchanged; If-None-Match: * only anew."""
    applied = parts.directory.apply(
        [form.change(account)], expected=_expected(request, parts.directory, account)
    )
    status = 201 if applied.accounts_created else 200
    return _one(request, _known(parts.directory, account), status=status)


@router.delete(
    "/v1/accounts/{account}",
    summary="Remove an account that no tenant ever belonged to",
    status_code=204,
    responses=documented(404, 409, 412, 422, 503),
)
def remove_account(request: Request, account: str, parts: PartsOf) -> Response:
    """Remove an account. One that is in a tenant's history stays: set its status to closed."""
    _known(parts.directory, account)
    expected = _expected(request, parts.directory, account)
    try:
        parts.directory.apply([RemoveAccount(account)], expected=expected)
    except InvalidChanges as problem:
        raise Problem(409, "account-in-use", str(problem)) from problem
    return Response(status_code=204)


@router.get(
    "/v1/accounts/{account}/tenants",
    summary="The tenants of an account",
    responses={200: {"model": MemberDocument}, **documented(404, 422, 503)},
)
def members(
    request: Request,
    account: str,
    query: Annotated[MembersQuery, InQuery()],
    parts: PartsOf,
    principal: PrincipalOf,
) -> Response:
    """The tenants that belong to an account at an instant, sorted."""
    at = parts.now() if query.at is None else parse_time(query.at, find_zone("UTC"), field="at")
    known_account(account, parts.directory, principal)
    tenants = own_members(principal, account, parts.directory)
    histories = parts.directory.histories(tenants)
    found = [t for t in tenants if query.ever or account_at(histories.get(t, ()), at) == account]
    response = json_response({"account": account, "tenants": found})
    return tagged(request, response, digest(bytes(response.body)))


@router.post(
    "/v1/accounts:import",
    summary="Accounts and tenants in bulk",
    responses={200: {"model": ImportDocument}, **documented(413, 415, 422, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "account,name,zone,tenant,from\n"
                    "a1,Acme,Europe/Berlin,acme,\nb2,Bolt,UTC,acme,2026-03-01\n",
                },
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"account": "a1", "tenant": "acme"}\n',
                },
                "application/json": {
                    "schema": {"type": "array", "items": {"type": "object"}},
                    "example": [
                        {"account": "a1", "name": "Acme", "labels": {"plan": "pro"}},
                        {"account": "a1", "tenant": "acme", "from": "2026-03-01"},
                    ],
                },
            },
        }
    },
)
async def import_accounts(
    request: Request, query: Annotated[ImportQuery, InQuery()], parts: PartsOf
) -> Response:
    """All rows or none. Bad rows are listed in `errors` with number, column, value and reason.

    Columns (CSV) or keys (JSON): `account`, `name`, `zone`, `billing_anchor`, `status`,
    `label.NAME` (JSON: `labels`), `external.SYSTEM` (JSON: `external_ids`), `tenant`, `from`,
    `merged_into`. Accounts that are not there are made; empty fields leave what is stored.
    Importing a file twice changes nothing. An export comes back as `application/x-ndjson`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _READERS:
        raise Problem(
            415,
            "unsupported-media-type",
            f"{kind[:64]!r} cannot be imported; send text/csv or application/json, or "
            "application/x-ndjson",
        )
    body = await request.body()
    return await run_in_threadpool(_import, kind, body, parts.directory, dry_run=query.dry_run)


def _import(kind: str, body: bytes, directory: EditableDirectory, *, dry_run: bool) -> Response:
    try:
        found = _READERS[kind](body)
    except InvalidImport as problem:
        raise _bad_rows(problem) from problem
    try:
        applied = directory.apply(found.changes, dry_run=dry_run)
    except InvalidChanges as problem:
        raise _bad_rows(found.invalid(problem)) from problem
    return json_response(_applied_json(found.rows, applied) | {"dry_run": dry_run})


def _applied_json(rows: int, applied: Applied) -> dict[str, object]:
    return {
        "rows": rows,
        "accounts_created": applied.accounts_created,
        "accounts_changed": applied.accounts_changed,
        "tenants_changed": applied.tenants_changed,
        **(
            {"external_ids_changed": applied.external_ids_changed}
            if applied.external_ids_changed
            else {}
        ),
        "unchanged": applied.unchanged,
    }


def _bad_rows(problem: InvalidImport) -> Problem:
    errors = [
        {"row": bad.row, "field": bad.column, "value": bad.value[:256], "reason": bad.reason}
        for bad in problem.bad_rows
    ]
    return Problem(422, "invalid-import", f"nothing was imported: {problem}", errors=errors)


def _expected(request: Request, directory: EditableDirectory, account: str) -> Expected | None:
    wanted, tag = expected_tag(request, tag_of(directory.account(account)))
    return Expected(account=account, tag=tag) if wanted else None


def _known(directory: EditableDirectory, account: str) -> Account:
    found = directory.account(account)
    if found is None:
        raise Problem(404, "unknown-account", f"there is no account {account[:128]!r}")
    return found


def _one(request: Request, account: Account, *, status: int = 200) -> Response:
    response = json_response(account_json(account))
    response.status_code = status
    if status == 201:
        response.headers["location"] = f"/v1/accounts/{quote(account.id, safe='')}"
    return tagged(request, response, tag_of(account))
