"""`meterstream usage`: what was used, by whom, when."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.output import Format, FormatOption

_FIXED: Final = (
    "from", "to", "tenant", "account", "value", "events", "closing", "adjustment", "status",
)  # fmt: skip


def usage(
    *,
    meter: Annotated[str, typer.Option(help="Name of the meter.")],
    start: Annotated[str, typer.Option("--from", help="First instant, ISO 8601.")],
    end: Annotated[str, typer.Option("--to", help="First instant after the last, ISO 8601.")],
    every: Annotated[str, typer.Option(help="15m, 1h, 1d, 1w, 1mo or total.")] = "total",
    tenant: Annotated[
        list[str] | None, typer.Option(help="Of these tenants only. Repeatable.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Of one account's tenants only.")] = None,
    zone: Annotated[str, typer.Option(help="Zone of the periods and of the answer.")] = "UTC",
    by: Annotated[
        list[str] | None, typer.Option(help="Keep figures apart by this attribute. Repeatable.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE to keep. Repeatable; the same NAME twice means either."),
    ] = None,
    total: Annotated[bool, typer.Option("--total", help="One figure over all tenants.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Bars in the terminal.")] = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Usage by period, tenant and group. JSON is the API's own answer, byte for byte."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    parameters = [("meter", meter), ("from", start), ("to", end), ("every", every), ("zone", zone)]
    parameters += [("tenant", name) for name in tenant or []]
    parameters += [("account", account)] if account is not None else []
    parameters += [("by", name) for name in by or []]
    parameters += [("where", condition) for condition in where or []]
    parameters += [("total", "true")] if total else []
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


def _print_csv(document: dict[str, Any], by: list[str]) -> None:
    columns = [*_FIXED[:4], *(_group_column(name) for name in by), *_FIXED[4:]]
    output.print_csv(columns, (_cells(row, by) for row in document["rows"]))


def _print_table(document: dict[str, Any], by: list[str]) -> None:
    rows = document["rows"]
    hidden = {name for name in ("tenant", "account") if all(row.get(name) is None for row in rows)}
    hidden |= {"closing", "adjustment"} if not any(_is_adjusted(row) for row in rows) else set()
    columns = [*_FIXED[:4], *(_group_column(name) for name in by), *_FIXED[4:]]
    kept = [index for index, name in enumerate(columns) if name not in hidden]
    numbers = {"value", "events", "closing", "adjustment"}
    unit = f" ({document['unit']})" if document["unit"] else ""
    output.print_table(
        [columns[index] for index in kept],
        [
            [
                output.grouped(cell) if columns[index] in numbers and cell is not None else cell
                for index, cell in enumerate(_cells(row, by))
                if index in kept
            ]
            for row in rows
        ],
        numbers=numbers,
        title=f"{document['meter']}{unit}, times in {document['zone']}",
    )


def _cells(row: dict[str, Any], by: list[str]) -> list[Any]:
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
    ]


def _group_column(name: str) -> str:
    return f"group.{name}" if name in _FIXED else name


def _is_adjusted(row: dict[str, Any]) -> bool:
    return row.get("adjustment") not in {None, "0"}
