"""``GET /v1/thresholds``: how far watched figures are, and what was told of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.catalogue import Catalogue, Threshold
from meterstream_aggregator.thresholds import NO_OFFSET, FiredRow, Periods, TotalRow, identity
from meterstream_schemas.quantity import Amount, format_amount
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.port import Directory
from meterstream_services.http.asking import (
    ROWS_DEFAULT,
    Limit,
    Query,
    Text,
    json_response,
    said_once,
    shown_time,
)
from meterstream_services.http.guarding import PrincipalOf, foreign_tenant, own_members
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.keys.principal import Principal
from meterstream_services.zones import find_zone

router = APIRouter(tags=["usage"], dependencies=[Depends(said_once)])

_SCOPES: Final = ("tenant", "account")
_TENTH: Final = Decimal("0.1")
_FIGURE: Final[dict[str, Any]] = {
    "threshold": "tokens.month",
    "meter": "llm.tokens",
    "scope": "tenant",
    "tenant": "acme",
    "account": None,
    "from": "2026-03-01T00:00:00+01:00",
    "to": "2026-04-01T00:00:00+02:00",
    "zone": "Europe/Berlin",
    "value": "1003",
    "values": [
        {
            "at": "1000",
            "percent": "100.3",
            "told": True,
            "reached": "2026-03-17T12:00:00.250000+01:00",
            "partition": 3,
            "offset": 8812,
        }
    ],
}


class ThresholdsQuery(Query):
    """Which figures."""

    threshold: Text | None = None
    who: Annotated[Text | None, Field(description="Of this tenant or account only.")] = None
    limit: Limit = ROWS_DEFAULT


class ThresholdValueDocument(BaseModel):
    """One value to be reached.

    `reached` is the log's time when it was, `partition` and `offset` the record that did it; they
    are null where it is not reached, was before anybody watched, or where time alone did it.
    """

    at: str
    percent: str
    told: bool
    reached: str | None
    partition: int | None
    offset: int | None


class WatchedDocument(BaseModel):
    """A watched figure of the present period."""

    model_config = ConfigDict(json_schema_extra={"example": _FIGURE})

    threshold: str
    meter: str
    scope: str
    tenant: str | None
    account: str | None
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    zone: str
    value: str
    values: list[ThresholdValueDocument]


class ThresholdsDocument(BaseModel):
    """Watched figures that anything was used of in the present period."""

    thresholds: list[WatchedDocument]


@router.get(
    "/v1/thresholds",
    summary="Thresholds and how far they are",
    responses={200: {"model": ThresholdsDocument}, **documented(404, 422, 503)},
)
def thresholds(
    query: Annotated[ThresholdsQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """Every watched figure of the present period, and when its values were reached."""
    now = parts.now()
    watched = _Watched(principal, parts.directory)
    if query.who is not None and not any(watched.shows(query.who, scope) for scope in _SCOPES):
        raise foreign_tenant(query.who)
    figures: list[dict[str, Any]] = []
    with parts.store() as store:
        for threshold in _asked(query.threshold, store.catalogue()):
            start, end = Periods(threshold).of(now)
            name = identity(threshold)
            totals = [
                row
                for row in store.threshold_totals([name], start)
                if row.start == start
                and query.who in {None, row.who}
                and watched.lists(row.who, threshold.scope)
            ]
            told = _told(store.threshold_notices([name], start))
            figures += [
                _figure(threshold, row, end, told.get((row.start, row.who), {}))
                for row in totals[: query.limit - len(figures)]
            ]
    return json_response({"thresholds": figures})


class _Watched:
    """Whose watched figures a principal may see.

    An account's figure is the sum over all of its tenants: it is for those who may see each.
    """

    def __init__(self, principal: Principal, directory: Directory) -> None:
        self._principal = principal
        self._directory = directory
        self._accounts: dict[str, bool] = {}

    def shows(self, who: str, scope: str) -> bool:
        if self._principal.tenants is None:
            return True
        if scope == "tenant":
            return self._principal.may_use(who)
        if who not in self._accounts:
            own = own_members(self._principal, who, self._directory)
            self._accounts[who] = bool(own) and len(own) == len(self._directory.tenants_of(who))
        return self._accounts[who]

    def lists(self, who: str, scope: str) -> bool:
        """As `shows`; accounts that cannot be asked about now are left out."""
        try:
            return self.shows(who, scope)
        except AccountsUnavailable:
            return False


def _asked(name: str | None, catalogue: Catalogue) -> list[Threshold]:
    found = [each for each in catalogue.thresholds if name in {None, each.name}]
    if name is not None and not found:
        known = ", ".join(each.name for each in catalogue.thresholds) or "none"
        raise Problem(
            404,
            "unknown-threshold",
            f"no threshold is called {name[:128]!r}; the catalogue has: {known}",
        )
    return found


def _told(rows: Iterable[FiredRow]) -> dict[tuple[int, str], dict[str, FiredRow]]:
    by_figure: dict[tuple[int, str], dict[str, FiredRow]] = defaultdict(dict)
    for row in rows:
        by_figure[row.start, row.who][row.at] = row
    return by_figure


def _figure(
    threshold: Threshold, row: TotalRow, end: int, told: Mapping[str, FiredRow]
) -> dict[str, Any]:
    zone = find_zone(threshold.zone)
    return {
        "threshold": threshold.name,
        "meter": threshold.meter,
        "scope": threshold.scope,
        "tenant": row.who if threshold.scope == "tenant" else None,
        "account": row.who if threshold.scope == "account" else None,
        "from": shown_time(row.start, zone),
        "to": shown_time(end, zone),
        "zone": threshold.zone,
        "value": format_amount(*row.total),
        "values": [
            {"at": at, "percent": _percent(row.total, at), **_when(told.get(at), threshold)}
            for at in threshold.at
        ],
    }


def _when(row: FiredRow | None, threshold: Threshold) -> dict[str, Any]:
    watched = row is not None and row.place.log_time > 0
    recorded = row is not None and row.place.offset != NO_OFFSET
    return {
        "told": row is not None,
        "reached": shown_time(row.place.log_time, find_zone(threshold.zone))
        if row is not None and watched
        else None,
        "partition": row.place.partition if row is not None and watched else None,
        "offset": row.place.offset if row is not None and recorded else None,
    }


def _percent(total: Amount, at: str) -> str:
    """Rounded half to even, to one place: for people to look at."""
    share = total.decimal() * 100 / Decimal(at)
    return str(share.quantize(_TENTH, rounding=ROUND_HALF_EVEN))
