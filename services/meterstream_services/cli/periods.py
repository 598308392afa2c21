"""`meterstream periods` and `meterstream adjustments`: what closed, and what came afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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

_PERIODS: Final = (
    "from", "to", "tenant", "account", "status", "final_at", "closing", "adjustments", "value",
    "events",
)  # fmt: skip
_ADJUSTMENTS: Final = (
    "from", "to", "tenant", "account", "arrived_from", "arrived_until", "amount", "events",
)  # fmt: skip
_NUMBERS: Final = frozenset({"closing", "adjustments", "value", "amount", "events"})


def periods(
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
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Closing figures of periods, whether they are final, and what was adjusted since.

    JSON is the API's own answer.
    """
    parameters = asked(
        meter, start, end, every, tenant, account, zone, anchor, by, where, total=total
    )
    answer = _ask("/v1/periods", parameters, url=url, data=data)
    _print(answer, _PERIODS, by or [], output_format, empty="no usage")


def adjustments(
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
    arrived_from: Annotated[
        str | None, typer.Option(help="Those that arrived at this instant or later.")
    ] = None,
    arrived_until: Annotated[
        str | None, typer.Option(help="Those that arrived before this instant.")
    ] = None,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """What came after its window had closed: to which period it belongs, and when it came.

    JSON is the API's own answer.
    """
    parameters = asked(
        meter, start, end, every, tenant, account, zone, anchor, by, where, total=total
    )
    parameters += [("arrived_from", arrived_from)] if arrived_from is not None else []
    parameters += [("arrived_until", arrived_until)] if arrived_until is not None else []
    answer = _ask("/v1/adjustments", parameters, url=url, data=data)
    _print(answer, _ADJUSTMENTS, by or [], output_format, empty="no adjustments")


def _ask(
    path: str, parameters: list[tuple[str, str]], *, url: str | None, data: Path | None
) -> bytes:
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    with Api(find_url(url=url, data=data).address) as api:
        return api.get_bytes(path, parameters)


def _print(
    answer: bytes, fixed: Sequence[str], by: list[str], output_format: Format, *, empty: str
) -> None:
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document = output.parsed(answer)
    rows = document["rows"]
    groups = {f"group.{name}" if name in fixed else name: name for name in by}
    columns = [*fixed[:4], *groups, *fixed[4:]]
    if output_format is Format.CSV:
        output.print_csv(columns, ([_cell(row, groups, name) for name in columns] for row in rows))
        return
    if not rows:
        print(f"{empty} of {output.shown(document['meter'])} there")
        return
    hidden = {name for name in ("tenant", "account") if all(row.get(name) is None for row in rows)}
    shown = [name for name in columns if name not in hidden]
    unit = f" ({document['unit']})" if document["unit"] else ""
    output.print_table(
        shown,
        [[_grouped(_cell(row, groups, name), name) for name in shown] for row in rows],
        numbers=_NUMBERS,
        title=f"{document['meter']}{unit}, times in {document['zone']}",
    )


def _cell(row: dict[str, Any], groups: dict[str, str], name: str) -> object:
    if name in groups:
        return (row.get("group") or {}).get(groups[name])
    cell = row.get(name)
    return output.number(cell) if name in _NUMBERS and cell is not None else cell


def _grouped(cell: object, name: str) -> object:
    return output.grouped(cell) if name in _NUMBERS and cell is not None else cell
