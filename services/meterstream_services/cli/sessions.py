"""`meterstream sessions`: which sessions there are, and in what state."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.output import Format, FormatOption

_COLUMNS = (
    "tenant", "type", "session", "subject", "state", "start", "end", "seconds", "at_stake",
    "conflicts",
)  # fmt: skip


def sessions(
    *,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Of these tenants only. Repeatable.")
    ] = None,
    session_type: Annotated[str | None, typer.Option("--type", help="Of one type only.")] = None,
    state: Annotated[
        str | None, typer.Option(help="open, closed, timed_out, unstarted or conflicting only.")
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Those that still run.")] = False,
    timed_out: Annotated[
        bool, typer.Option("--timed-out", help="Those given up without an end.")
    ] = False,
    conflicting: Annotated[
        bool, typer.Option("--conflicting", help="Those whose boundaries disagree.")
    ] = False,
    unstarted: Annotated[
        bool, typer.Option("--unstarted", help="Those with an end and no start.")
    ] = False,
    subject: Annotated[str | None, typer.Option(help="Of one subject only.")] = None,
    account: Annotated[str | None, typer.Option(help="Of one account's tenants only.")] = None,
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

    flags = {
        "open": only_open,
        "timed_out": timed_out,
        "conflicting": conflicting,
        "unstarted": unstarted,
    }
    states = [name for name, chosen in flags.items() if chosen] + ([state] if state else [])
    if len(set(states)) > 1:
        raise typer.BadParameter(f"{' and '.join(states)} exclude each other; ask for one of them")
    given = {
        "type": session_type,
        "state": states[0] if states else None,
        "subject": subject,
        "account": account,
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
        output.print_table(_COLUMNS, rows, numbers=["seconds", "at_stake", "conflicts"])
        _print_total(document)
    else:
        print("no sessions")
    if output_format is Format.TABLE and document.get("next"):
        print(f"there are more: --after {document['next']}")


def _cells(session: dict[str, Any]) -> list[Any]:
    return [
        output.number(session[name])
        if name in {"seconds", "at_stake"} and session.get(name) is not None
        else session.get(name)
        for name in _COLUMNS
    ]


def _print_total(document: dict[str, Any]) -> None:
    """How many are shown, and the seconds of them that no end vouches for."""
    count = len(document["sessions"])
    at_stake = output.grouped(document.get("at_stake", "0"))
    print(f"{count} session{'' if count == 1 else 's'}, {at_stake} seconds at stake")
