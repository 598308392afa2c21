"""``GET /v1/sessions``: sessions one by one."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.civil import parse_time
from meterstream_aggregator.running import SessionTelling
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.session_rows import cursor_of
from meterstream_aggregator.store.told import SessionRow
from meterstream_schemas.quantity import format_amount
from meterstream_services.http.asking import (
    ROWS_DEFAULT,
    After,
    Limit,
    Query,
    Text,
    Zone,
    cursor,
    json_response,
    place,
    said_once,
    shown_time,
)
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.meter_question import as_of_now, scope_of
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.keys.principal import Principal
from meterstream_services.zones import find_zone

router = APIRouter(tags=["usage"], dependencies=[Depends(said_once)])

_SESSION: Final[dict[str, Any]] = {
    "tenant": "acme",
    "type": "agent.run",
    "session": "run-7",
    "subject": "u42",
    "attributes": {"model": "code"},
    "start": "2026-03-01T10:00:00+00:00",
    "end": "2026-03-01T10:12:30.250000+00:00",
    "seconds": "750.25",
    "at_stake": "0",
    "state": "closed",
    "conflicts": 0,
    "last_sign": "2026-03-01T10:12:30.250000+00:00",
    "last_append": "2026-03-01T10:12:31+00:00",
    "partition": 3,
}


class SessionsQuery(Query):
    """Which sessions."""

    tenant: Annotated[
        list[Text], Field(max_length=1000, description="Of these tenants only. Repeatable.")
    ] = Field(default_factory=list[str])
    type: Annotated[Text | None, Field(description="Of one type only.")] = None
    state: Annotated[
        Literal["open", "closed", "timed_out", "unstarted", "conflicting"] | None,
        Field(
            description="In one state only; `conflicting`: those whose boundaries disagree, in any "
            "state."
        ),
    ] = None
    subject: Annotated[Text | None, Field(description="Of one subject only.")] = None
    account: Annotated[
        Text | None, Field(description="Of tenants when they belonged to this account.")
    ] = None
    start: Annotated[
        Text | None, Field(alias="from", description="Those that last until here or longer.")
    ] = None
    end: Annotated[Text | None, Field(alias="to", description="Those that begin before.")] = None
    zone: Zone = "UTC"
    limit: Limit = ROWS_DEFAULT
    after: After | None = None


class SessionDocument(BaseModel):
    """One session as its boundaries tell it."""

    model_config = ConfigDict(json_schema_extra={"example": _SESSION})

    tenant: str
    type: str
    session: str
    subject: str | None
    attributes: dict[str, str]
    start: str | None
    end: str | None
    seconds: str | None = Field(
        description="What it came to: from start to end, to what its meters billed, or until now."
    )
    at_stake: str = Field(
        description="Those of them that no end vouches for: all, while it runs or once it was "
        "given up."
    )
    state: str
    conflicts: int
    last_sign: str
    last_append: str
    partition: int


class SessionsDocument(BaseModel):
    """Sessions by tenant, type and id. `next` goes on where this answer stops.

    `at_stake` adds up the sessions of this answer; so with `next`, not all of them.
    """

    sessions: list[SessionDocument]
    at_stake: str
    next: str | None


@router.get(
    "/v1/sessions",
    summary="Sessions, one by one",
    responses={200: {"model": SessionsDocument}, **documented(404, 422, 503)},
)
def sessions(
    query: Annotated[SessionsQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """Sessions that overlap [from, to), ordered by tenant, type and id."""
    zone = find_zone(query.zone)
    with parts.store() as store:
        found = _found(query, parts, store, zone, principal)
        telling = SessionTelling(as_of_now(store, parts, store.catalogue()))
    rows = found[: query.limit]
    last = rows[-1] if len(found) > query.limit else None
    told = [telling.tell(row) for row in rows]
    return json_response(
        {
            "sessions": [
                {
                    "tenant": row.tenant,
                    "type": row.type,
                    "session": row.session,
                    "subject": row.subject,
                    "attributes": dict(row.attributes),
                    "start": shown_time(row.start, zone),
                    "end": shown_time(row.end, zone),
                    "seconds": None if seconds is None else format_amount(seconds, 6),
                    "at_stake": format_amount(at_stake, 6),
                    "state": row.state,
                    "conflicts": row.conflicts,
                    "last_sign": shown_time(row.last_sign, zone),
                    "last_append": shown_time(row.last_append, zone),
                    "partition": row.partition,
                }
                for row, (seconds, at_stake) in zip(rows, told, strict=True)
            ],
            "at_stake": format_amount(sum(at_stake for _, at_stake in told), 6),
            "next": None if last is None else cursor(cursor_of(last)),
        }
    )


def _found(
    query: SessionsQuery, parts: Parts, store: StoreReader, zone: ZoneInfo, principal: Principal
) -> list[SessionRow]:
    """The sessions asked for, one more than the limit where there are more."""
    scope = scope_of(query.tenant, query.account, parts.directory, principal)
    found: list[SessionRow] = []
    after = None if query.after is None else place(query.after)
    while len(found) <= query.limit:
        read = store.sessions(
            tenants=scope.tenants,
            type=query.type,
            state=query.state,
            start=None if query.start is None else parse_time(query.start, zone, field="from"),
            end=None if query.end is None else parse_time(query.end, zone, field="to"),
            limit=query.limit + 1,
            after=after,
        )
        found += [
            row
            for row in read
            if (query.subject is None or row.subject == query.subject)
            and scope.holds(row.tenant, row.last_sign if row.start is None else row.start)
        ]
        if len(read) <= query.limit:
            break
        after = cursor_of(read[-1])
    return found
