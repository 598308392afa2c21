"""Options of the commands that ask about one meter, and the query they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

MeterOption = Annotated[str, typer.Option(help="Name of the meter.")]
FromOption = Annotated[str, typer.Option("--from", help="First instant, ISO 8601.")]
ToOption = Annotated[str, typer.Option("--to", help="First instant after the last, ISO 8601.")]
EveryOption = Annotated[
    str,
    typer.Option(help="15m, 1h, 1d, 1w, 1mo, 1q, 1y, billing (as the account's run) or total."),
]
TenantOption = Annotated[list[str] | None, typer.Option(help="Of these tenants only. Repeatable.")]
AccountOption = Annotated[str | None, typer.Option(help="Of one account's tenants only.")]
ZoneOption = Annotated[
    str | None,
    typer.Option(help="Zone of the periods and of the answer: UTC, or the account's if billing."),
]
AnchorOption = Annotated[
    int | None, typer.Option(help="Day on which months begin, 1 to 31: the last where too late.")
]
ByOption = Annotated[
    list[str] | None, typer.Option(help="Keep figures apart by this attribute. Repeatable.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUE to keep, NAME!=VALUE to leave out. Repeatable; the same NAME twice "
        "means either."
    ),
]
TotalOption = Annotated[bool, typer.Option("--total", help="One figure over all tenants.")]


def asked(  # noqa: PLR0917 - one call a command, in the order of its options
    meter: str,
    start: str,
    end: str,
    every: str,
    tenant: Sequence[str] | None,
    account: str | None,
    zone: str | None,
    anchor: int | None,
    by: Sequence[str] | None,
    where: Sequence[str] | None,
    *,
    total: bool,
) -> list[tuple[str, str]]:
    """The parameters of a question; what was not said is left to the API."""
    parameters = [("meter", meter), ("from", start), ("to", end), ("every", every)]
    parameters += [("zone", zone)] if zone is not None else []
    parameters += [("anchor", str(anchor))] if anchor is not None else []
    parameters += [("tenant", name) for name in tenant or []]
    parameters += [("account", account)] if account is not None else []
    parameters += [("by", name) for name in by or []]
    parameters += [("where", condition) for condition in where or []]
    parameters += [("total", "true")] if total else []
    return parameters
