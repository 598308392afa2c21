"""Questions about one meter: what `/v1/usage`, `/v1/periods` and `/v1/adjustments` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import Field

from meterstream_aggregator import catalogue as definitions
from meterstream_aggregator.answering import Scope
from meterstream_aggregator.catalogue import Catalogue, Condition, Meter
from meterstream_aggregator.civil import InvalidQuestion, format_time, parse_time
from meterstream_aggregator.merging import EVER
from meterstream_aggregator.periods import Unit, parse_every, period_bounds
from meterstream_aggregator.questions import Figure, Question, ask, folded_until, window_at
from meterstream_aggregator.running import AsOf, running_usage
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import UsageRow
from meterstream_schemas.quantity import Amount, format_amount
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import History, sole_account
from meterstream_services.accounts.model import Account
from meterstream_services.accounts.port import Directory
from meterstream_services.http.asking import Query, Text
from meterstream_services.http.guarding import own_members, own_tenants, unknown_account
from meterstream_services.http.parts import Parts
from meterstream_services.keys.principal import ANYBODY, Principal
from meterstream_services.zones import find_zone

BILLING: Final = "billing"
"""Periods as the account's months run: its zone, its anchor."""


class MeterQuery(Query):
    """What to ask of a meter."""

    meter: Annotated[Text, Field(description="Name of the meter.", examples=["llm.tokens"])]
    start: Annotated[
        Text,
        Field(
            alias="from",
            description="First instant: ISO 8601, in `zone` unless it has an offset. A local time "
            "that clocks show twice means the first; one that they skip, the first after it.",
            examples=["2023-11-16"],
        ),
    ]
    end: Annotated[
        Text, Field(alias="to", description="First instant after.", examples=["2023-11-17"])
    ]
    every: Annotated[
        Text,
        Field(
            description="Length of the periods: `15m`, `1h`, `1d`, `1w` (ISO weeks), `1mo`, `1q`, "
            "`1y`, multiples of them, `billing` (months as the account's run: by its zone and "
            "anchor), or `total`. Days, weeks and months begin at local midnight.",
            examples=["1d"],
        ),
    ] = "total"
    zone: Annotated[
        Text | None,
        Field(
            description="IANA zone of the periods and of the answer's times. Unless given: the "
            "account's with `every=billing`, else UTC.",
            examples=["Europe/Berlin"],
        ),
    ] = None
    anchor: Annotated[
        int | None,
        Field(
            description="Day of the month on which months, quarters and years begin: 1 to 31, on "
            "the last day of months that have no such day.",
            examples=[31],
        ),
    ] = None
    tenant: Annotated[
        list[Text], Field(max_length=1000, description="Of these tenants only. Repeatable.")
    ] = Field(default_factory=list[str])
    account: Annotated[
        Text | None,
        Field(
            description="Of the tenants that belonged to this account, each for the windows that "
            "began while it did."
        ),
    ] = None
    by: Annotated[
        list[Text],
        Field(max_length=8, description="Keep figures apart by this attribute. Repeatable."),
    ] = Field(default_factory=list[str])
    where: Annotated[
        list[Text],
        Field(
            max_length=100,
            description="`NAME=VALUE` to keep, `NAME!=VALUE` to leave out. Repeatable; the same "
            "NAME twice means either, and none of the left out.",
            examples=[["model=code"]],
        ),
    ] = Field(default_factory=list[str])
    total: Annotated[
        bool,
        Field(
            description="One figure over all tenants (`tenant` is null). Without `by`, periods "
            "without usage are shown too; otherwise rows are only where something was used."
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class Put:
    """A question, ready to be answered, and how its answer is shown."""

    meter: Meter
    question: Question
    scope: Scope
    as_of: AsOf
    running: Mapping[str, Sequence[UsageRow]]
    zone: ZoneInfo
    bounds: Sequence[int]
    times: Mapping[int, str]

    def header(self, query: MeterQuery) -> dict[str, object]:
        """What an answer begins with."""
        return {
            "meter": self.meter.name,
            "unit": self.meter.unit,
            "from": self.times[self.bounds[0]],
            "to": self.times[self.bounds[-1]],
            "every": query.every,
            "zone": self.zone.key,
        }


def put(query: MeterQuery, parts: Parts, store: StoreReader, principal: Principal = ANYBODY) -> Put:
    """The question that a query means, of the principal's tenants only.

    Raises `InvalidQuestion`, `Problem`, `UnknownMeter`.
    """
    tenants = own_tenants(principal, query.tenant)
    if query.account is not None and tenants is not None:
        # Before anything else is said that would tell of the account.
        known_account(query.account, parts.directory, principal)
    catalogue = store.catalogue()
    found = catalogue.definitions(query.meter)
    zone, bounds = _bounds(query, tenants, parts.directory, lambda time: window_at(found, time))
    question = ask(
        found,
        bounds,
        by=query.by,
        where=conditions(query.where),
        total=query.total,
        metering_since=catalogue.metering_since,
        zone=zone,
    )
    scope = scope_of(query.tenant, query.account, parts.directory, principal)
    as_of = as_of_now(store, parts, catalogue)
    return Put(
        question.stretches[-1].meters[-1],
        question,
        scope,
        as_of,
        running_usage(store, question, scope=scope, as_of=as_of),
        zone,
        bounds,
        {bound: format_time(bound, zone) for bound in bounds},
    )


def as_of_now(store: StoreReader, parts: Parts, catalogue: Catalogue) -> AsOf:
    """What the store knows of running sessions, now."""
    topic, positions = store.topic(), store.positions()
    return AsOf(
        catalogue,
        {row.partition: row.appended for row in positions},
        folded_until(positions, topic.partitions if topic else 0),
        parts.now(),
    )


def conditions(where: Sequence[str]) -> list[Condition]:
    """``NAME=VALUE`` and ``NAME!=VALUE`` texts. Raises `InvalidQuestion` for anything else."""
    found: dict[tuple[str, definitions.Test], set[str]] = {}
    for condition in where:
        name, equals, value = condition.partition("=")
        test = definitions.Test.IN
        if name.endswith("!"):
            name, test = name[:-1], definitions.Test.NOT_IN
        if not equals or not name:
            raise InvalidQuestion(
                "where", f"{condition[:64]!r} is no condition; write NAME=VALUE or NAME!=VALUE"
            )
        found.setdefault((name, test), set()).add(value)
    return [Condition(name, test, tuple(sorted(some))) for (name, test), some in found.items()]


def scope_of(
    tenants: Sequence[str],
    account: str | None,
    directory: Directory,
    principal: Principal = ANYBODY,
) -> Scope:
    """Whose usage is asked for: of the principal's tenants only.

    Raises `Problem` for an account that is not there, and for a tenant of somebody else.
    """
    asked = own_tenants(principal, tenants)
    if account is None:
        return Scope(asked)
    known_account(account, directory, principal)
    members = directory.tenants_of(account)
    if asked is not None:
        members = [tenant for tenant in members if tenant in asked]
    histories = directory.histories(members)
    return Scope(members, {tenant: spans_of(histories[tenant], account) for tenant in histories})


def known_account(account: str, directory: Directory, principal: Principal = ANYBODY) -> Account:
    """An account. Raises `Problem` where there is none of that id, or none of the principal's."""
    found = directory.account(account)
    if found is None or not (
        principal.tenants is None or own_members(principal, account, directory)
    ):
        raise unknown_account(account)
    return found


def spans_of(history: History, account: str) -> list[tuple[int, int]]:
    """When a tenant belonged to an account: [from, until), ascending."""
    ends = [start for start, _ in history[1:]] + [EVER]
    return [
        (start, end) for (start, told), end in zip(history, ends, strict=True) if told == account
    ]


def place_of(figure: Figure) -> tuple[str | None, int, int]:
    """Who a figure is about, and when."""
    if figure.first is None or figure.last is None:
        return figure.tenant, figure.start, figure.end - 1
    return figure.tenant, figure.first, figure.last


def accounts_of(
    tenants: Sequence[tuple[str | None, int, int]], account: str | None, parts: Parts
) -> list[str | None]:
    """The one account of each (tenant, first, last instant); without, while those are away."""
    if account is not None:
        return [account] * len(tenants)
    names = sorted({tenant for tenant, _, _ in tenants if tenant is not None})
    try:
        histories = parts.directory.histories(names) if names else {}
    except AccountsUnavailable:
        parts.metrics.accounts_failures.inc()
        histories = {}
    return [
        None
        if tenant is None or tenant not in histories
        else sole_account(histories[tenant], first, last)
        for tenant, first, last in tenants
    ]


def decimal(amount: Amount | None) -> str | None:
    """An amount as plain decimal text."""
    return None if amount is None else format_amount(*amount)


def _bounds(
    query: MeterQuery,
    tenants: Sequence[str] | None,
    directory: Directory,
    window: Callable[[int], int],
) -> tuple[ZoneInfo, list[int]]:
    """The zone of the answer, and the boundaries of its periods."""
    every, anchor, cycle = query.every, query.anchor, None
    zone = find_zone("UTC" if query.zone is None else query.zone)
    if every == BILLING:
        every = "1mo"
        if anchor is None:
            account = _billed(query, tenants, directory, zone)
            anchor, cycle = account.billing_anchor, find_zone(account.zone)
            zone = zone if query.zone is not None else cycle
    cut = parse_every(every, anchor_day=1 if anchor is None else anchor)
    if anchor is not None and cut.unit is not Unit.MONTH:
        raise InvalidQuestion(
            "anchor", f"only months, quarters and years have one; {every[:40]!r} is none of them"
        )
    start = parse_time(query.start, zone, field="from")
    end = parse_time(query.end, zone, field="to")
    return zone, period_bounds(start, end, cut, cycle or zone, window=window, shown=zone)


def _billed(
    query: MeterQuery, tenants: Sequence[str] | None, directory: Directory, zone: ZoneInfo
) -> Account:
    """The account whose billing months are meant. Raises `InvalidQuestion` where it is not one."""
    if query.account is not None:
        return known_account(query.account, directory)
    if not tenants:
        raise InvalidQuestion(
            "every", "billing months are an account's; name an account, a tenant, or an anchor"
        )
    start = parse_time(query.start, zone, field="from")
    end = parse_time(query.end, zone, field="to")
    histories = directory.histories(tenants)
    names = {sole_account(histories.get(tenant, ()), start, end - 1) for tenant in tenants}
    found = [None if name is None else directory.account(name) for name in sorted(names, key=str)]
    known = [account for account in found if account is not None]
    runs = {(account.zone, account.billing_anchor) for account in known}
    if len(known) < len(found) or len(runs) != 1:
        raise InvalidQuestion(
            "every",
            "the tenants do not belong to one account throughout, or to accounts whose months "
            "begin alike; name an account, or an anchor and a zone",
        )
    return known[0]
