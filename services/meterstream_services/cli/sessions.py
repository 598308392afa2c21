"""`meterstream sessions`: which sessions there are, and in what state."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.output import Format, FormatOption

_COLUMNS = (
    "tenant", "type", "session", "subject", "state", "start", "end", "seconds", "conflicts",
)  # fmt: skip


def sessions(
    *,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Of these tenants only. Repeatable.")
    ] = None,
    session_type: Annotated[str | None, typer.Option("--type", help="Of one type only.")] = None,
    state: Annotated[
        str | None, typer.Option(help="open, closed, timed_out or unstarted only.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Still running at this instant or later.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Started before this instant.")] = None,
    zone: Annotated[str, typer.Option(help="Zone of the answer.")] = "UTC",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    after: Annotated[str | None, typer.Option(help="Go on behind a listing: its `next`.")] = None,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List sessions. JSON is the API's own answer."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    given = {
        "type": session_type,
        "state": state,
        "from": start,
        "to": end,
        "zone": zone,
        "limit": str(limit),
        "after": after,
    }
    parameters = [(name, value) for name, value in given.items() if value is not None]
    parameters += [("tenant", name) for name in tenant or []]
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/sessions", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document = output.parsed(answer)
    rows = [_cells(session) for session in document["sessions"]]
    if output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    elif rows:
        output.print_table(_COLUMNS, rows, numbers=["seconds", "conflicts"])
    else:
        print("no sessions")
    if output_format is Format.TABLE and document.get("next"):
        print(f"there are more: --after {document['next']}")


def _cells(session: dict[str, Any]) -> list[Any]:
    cells = [session.get(name) for name in _COLUMNS]
    seconds = session.get("seconds")
    cells[_COLUMNS.index("seconds")] = None if seconds is None else output.number(seconds)
    return cells
