"""`meterstream usage`: what was used, by whom, when."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.meter_options import (
    AccountOption,
    AnchorOption,
    ByOption,
    EveryOption,
    FromOption,
    MeterOption,
    TenantOption,
    ToOption,
    TotalOption,
    WhereOption,
    ZoneOption,
    asked,
)
from meterstream_services.cli.output import Format, FormatOption

_FIXED: Final = (
    "from", "to", "tenant", "account", "value", "events", "closing", "adjustment", "status",
)  # fmt: skip
_FURTHER: Final = ("average", "running", "peak", "peak_at")
"""Columns of some meters only."""


def usage(
    *,
    meter: MeterOption,
    start: FromOption,
    end: ToOption,
    every: EveryOption = "total",
    tenant: TenantOption = None,
    account: AccountOption = None,
    zone: ZoneOption = None,
    anchor: AnchorOption = None,
    by: ByOption = None,
    where: WhereOption = None,
    total: TotalOption = False,
    peak: Annotated[
        bool, typer.Option("--peak", help="Of session meters: the most sessions at one time.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Bars in the terminal.")] = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Usage by period, tenant and group. JSON is the API's own answer, byte for byte."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    parameters = asked(
        meter, start, end, every, tenant, account, zone, anchor, by, where, total=total
    )
    parameters += [("peak", "true")] if peak else []
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/usage", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document = output.parsed(answer)
    if output_format is Format.CSV:
        _print_csv(document, by or [])
    elif not document["rows"]:
        print(f"no usage of {output.shown(document['meter'])} there")
    elif plot:
        from meterstream_services.cli.plot import print_plot  # noqa: PLC0415 - loaded by its command

        print_plot(document)
    else:
        _print_table(document, by or [])


def _columns(document: dict[str, Any], by: list[str]) -> list[str]:
    """The fixed columns, the groups asked for, and what only some meters have."""
    further = [name for name in _FURTHER if any(name in row for row in document["rows"])]
    return [*_FIXED[:4], *(_group_column(name) for name in by), *_FIXED[4:], *further]


def _print_csv(document: dict[str, Any], by: list[str]) -> None:
    columns = _columns(document, by)
    output.print_csv(columns, (_cells(row, by, columns) for row in document["rows"]))


def _print_table(document: dict[str, Any], by: list[str]) -> None:
    rows = document["rows"]
    hidden = {name for name in ("tenant", "account") if all(row.get(name) is None for row in rows)}
    hidden |= {"closing", "adjustment"} if not any(_is_adjusted(row) for row in rows) else set()
    columns = _columns(document, by)
    kept = [index for index, name in enumerate(columns) if name not in hidden]
    numbers = {"value", "events", "closing", "adjustment", "average", "running", "peak"}
    unit = f" ({document['unit']})" if document["unit"] else ""
    output.print_table(
        [columns[index] for index in kept],
        [
            [
                output.grouped(cell) if columns[index] in numbers and cell is not None else cell
                for index, cell in enumerate(_cells(row, by, columns))
                if index in kept
            ]
            for row in rows
        ],
        numbers=numbers,
        title=f"{document['meter']}{unit}, times in {document['zone']}",
    )


def _cells(row: dict[str, Any], by: list[str], columns: list[str]) -> list[Any]:
    group = row.get("group") or {}
    amounts = [
        None if row.get(name) is None else output.number(row[name])
        for name in ("closing", "adjustment")
    ]
    value = row.get("value")
    return [
        row["from"],
        row["to"],
        row.get("tenant"),
        row.get("account"),
        *(group.get(name) for name in by),
        None if value is None else output.number(value),
        row["events"],
        *amounts,
        row["status"],
        *(_further(row.get(name)) for name in _FURTHER if name in columns),
    ]


def _further(cell: object) -> object:
    return output.number(cell) if isinstance(cell, str) and ":" not in cell else cell


def _group_column(name: str) -> str:
    return f"group.{name}" if name in {*_FIXED, *_FURTHER} else name


def _is_adjusted(row: dict[str, Any]) -> bool:
    return row.get("adjustment") not in {None, "0"}
