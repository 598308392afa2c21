"""``/v1/accounts:move``, ``:merge``, ``:unmerge``: what is done to tenants and accounts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.civil import parse_time
from meterstream_services.accounts.documents import content_json
from meterstream_services.accounts.model import Change, Merge, Move, Recorded, Unmerge
from meterstream_services.http.account_forms import SPELLS_EXAMPLE
from meterstream_services.http.asking import Query, json_response, said_once
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["accounts"], dependencies=[Depends(said_once)])

TENANTS_MAX: Final = 10_000
SHOWN_MAX: Final = 1000
"""Changes that an answer lists; the feed of changes has all of them."""


class DryQuery(Query):
    """Whether to do it."""

    dry_run: Annotated[bool, Field(description="Tell what would change, keep nothing.")] = False


_Instant = Annotated[
    str, Field(alias="from", description="Instant, ISO 8601; without offset UTC.", max_length=64)
]


class MoveForm(BaseModel):
    """Tenants that belong to another account from an instant on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "tenants": ["acme"],
                "account": "b2",
                "source": "a1",
                "from": "2026-03-01T00:00:00Z",
            }
        },
    )

    tenants: Annotated[list[str], Field(min_length=1, max_length=TENANTS_MAX)]
    account: Annotated[str, Field(description="The account that they belong to then.")]
    source: Annotated[
        str | None,
        Field(description="The account that they belong to until then; refused for another."),
    ] = None
    start: _Instant


class MergeForm(BaseModel):
    """An account whose place another takes from an instant on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"account": "b2", "into": "a1", "from": "2026-03-01T00:00:00Z"}
        },
    )

    account: str
    into: str
    start: _Instant


class UnmergeForm(BaseModel):
    """An account whose merge is undone."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"account": "b2"}})

    account: str


class ChangedDocument(BaseModel):
    """One thing as it was and as it is."""

    kind: str
    id: str
    was: Any
    now: Any


class MovedDocument(BaseModel):
    """What a move or a merge came to; `changes` has the first thousand of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "dry_run": True,
                "accounts_changed": 0,
                "tenants_changed": 1,
                "unchanged": 0,
                "changes": [
                    {
                        "kind": "tenant",
                        "id": "acme",
                        "was": [{"account": "a1", "from": None, "to": None}],
                        "now": SPELLS_EXAMPLE,
                    }
                ],
            }
        }
    )

    dry_run: bool
    accounts_changed: int
    tenants_changed: int
    unchanged: int
    changes: list[ChangedDocument]


@router.post(
    "/v1/accounts:move",
    summary="Move tenants to another account at an instant",
    responses={200: {"model": MovedDocument}, **documented(422, 503)},
)
def move(
    form: Annotated[MoveForm, Body()], query: Annotated[DryQuery, InQuery()], parts: PartsOf
) -> Response:
    """All of the tenants or none. Figures follow the mapping; what was before the instant stays.

    A tenant that is there already stays as it is, so a move may be repeated. It holds until the
    tenant's next known change.
    """
    start = _time(form.start)
    moves = [Move(each, form.account, start, form.source) for each in form.tenants]
    return _applied(moves, parts, query)


@router.post(
    "/v1/accounts:merge",
    summary="Merge an account into another at an instant",
    responses={200: {"model": MovedDocument}, **documented(422, 503)},
)
def merge(
    form: Annotated[MergeForm, Body()], query: Annotated[DryQuery, InQuery()], parts: PartsOf
) -> Response:
    """From the instant on the other account has all tenants that this one would have.

    The account gets the status `merged`; its history before, and its external ids, stay. Repeating
    a merge changes nothing.
    """
    return _applied([Merge(form.account, form.into, _time(form.start))], parts, query)


@router.post(
    "/v1/accounts:unmerge",
    summary="Undo a merge",
    responses={200: {"model": MovedDocument}, **documented(422, 503)},
)
def unmerge(
    form: Annotated[UnmergeForm, Body()], query: Annotated[DryQuery, InQuery()], parts: PartsOf
) -> Response:
    """The account is active again, with the tenants that it had at the merge's instant.

    Tenants that were mapped to it only later stay where the merge put them; the feed of changes
    tells which, and a move brings them back.
    """
    return _applied([Unmerge(form.account)], parts, query)


def changed_json(record: Recorded) -> dict[str, Any]:
    """A record of a change as it goes out."""
    return {
        "kind": record.kind.value,
        "id": record.id,
        "was": content_json(record.was),
        "now": content_json(record.now),
    }


def _applied(changes: Sequence[Change], parts: Parts, query: DryQuery) -> Response:
    applied = parts.directory.apply(changes, dry_run=query.dry_run, detailed=True)
    return json_response(
        {
            "dry_run": query.dry_run,
            "accounts_changed": applied.accounts_changed,
            "tenants_changed": applied.tenants_changed,
            "unchanged": applied.unchanged,
            "changes": [changed_json(each) for each in applied.records[:SHOWN_MAX]],
        }
    )


def _time(text: str) -> int:
    return parse_time(text, find_zone("UTC"), field="from")
