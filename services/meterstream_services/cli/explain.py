"""`meterstream explain`: what one figure is made of; with --events, by the log itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import (
    BootstrapOption,
    DataOption,
    UrlOption,
    find_bootstrap,
    find_store,
    find_url,
)
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.run import RegistryOption
from meterstream_services.cli.serve_options import StoreOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_services.eventlist import Listed

_EVENT_COLUMNS: Final = (
    "partition", "offset", "appended", "time", "producer", "lane", "sequence", "key", "kind",
    "outcome", "amount", "arrival", "why",
)  # fmt: skip

_FACTS: Final = (
    "tenant", "meter", "unit", "from", "to", "value", "closing", "adjustment", "events", "average",
    "running", "status", "final_at",
)  # fmt: skip
_TABLES: Final = {
    "windows": ("start", "group", "events", "amount"),
    "adjustments": ("start", "group", "arrival", "events", "amount"),
    "ranges": ("partition", "first", "last"),
    "producers": ("producer", "first", "last", "events", "highest", "closed"),
}
_RIGHT: Final = ("events", "amount", "partition", "first", "last", "highest", "offset", "sequence")
_SIDES: Final = frozenset({"store", "events"})


def explain(
    *,
    tenant: Annotated[str, typer.Option(help="Whose figure.")],
    meter: Annotated[str, typer.Option(help="Name of the meter.")],
    start: Annotated[str, typer.Option("--from", help="First instant, ISO 8601.")],
    end: Annotated[str, typer.Option("--to", help="First instant after the last, ISO 8601.")],
    zone: Annotated[str, typer.Option(help="Zone of --from and --to.")] = "UTC",
    group: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the groups to explain. Repeatable."),
    ] = None,
    events: Annotated[
        bool,
        typer.Option(
            "--events", help="List the very events from the log, and check that they add up."
        ),
    ] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--all-partitions",
            help="With --events: look for events in every partition, not only the tenant's.",
        ),
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Most entries shown of each list.")
    ] = 100,
    output_format: FormatOption = Format.TABLE,
    store: StoreOption = None,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    url: UrlOption = None,
    registry_url: RegistryOption = None,
) -> None:
    """Rows, rules, producers and log positions of one figure.

    With --events it reads the store and Kafka; exit status 1 when the events do not add up.
    """
    words: dict[str, Any] = {
        "tenant": tenant,
        "meter": meter,
        "start": start,
        "end": end,
        "group": group or [],
    }
    if events:
        path = find_store(store=store, data=data)
        if path is None:
            raise CommandError(
                "--events reads the store itself; pass --store PATH or URL, or --data DIR",
                status=WRONG_ARGUMENTS,
            )
        address = find_bootstrap(bootstrap=bootstrap, data=data).address
        words |= {"limit": limit, "everywhere": everywhere}
        listed = _listed(path, address, registry_url, zone, words)
        if output_format is Format.JSON:
            output.print_json(_told(listed))
        elif output_format is Format.CSV:
            output.print_csv(_EVENT_COLUMNS, _cells(listed))
        else:
            print_document(listed.document)
            _print_events(listed)
        raise typer.Exit(0 if listed.adds_up else 1)
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    parameters = [("tenant", tenant), ("meter", meter), ("from", start), ("to", end)]
    parameters += [("zone", zone), ("limit", str(limit))]
    parameters += [("group", each) for each in group or []]
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/explain", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
    else:
        print_document(output.parsed(answer))


def _listed(
    store: StoreAddress, address: str, registry_url: str | None, zone: str, words: dict[str, Any]
) -> Listed:
    from meterstream_services.eventlist import list_events  # noqa: PLC0415 - loaded by its command
    from meterstream_services.proving import Log  # noqa: PLC0415 - loaded by its command
    from meterstream_services.zones import find_zone  # noqa: PLC0415 - loaded by its command

    log = Log(bootstrap_servers=address, registry_url=registry_url)
    now = time.time_ns() // 1000
    return list_events(store, log, now=now, zone=find_zone(zone), **words)


def _told(listed: Listed) -> dict[str, Any]:
    return listed.document | {
        "event_list": listed.events,
        "of_events": listed.of_events,
        "mismatches": listed.mismatches,
        "adds_up": listed.adds_up,
        "doubts": listed.doubts,
    }


def _cells(listed: Listed) -> list[list[Any]]:
    return [[event[name] for name in _EVENT_COLUMNS] for event in listed.events]


def print_document(document: dict[str, Any]) -> None:
    """An explanation for people."""
    facts = [(name, document[name]) for name in _FACTS if document[name] is not None]
    facts += [(f"group {name}", ", ".join(of)) for name, of in document["group"].items()]
    log = document["log"]
    facts += [
        ("topic", f"{log['topic']} (id {log['topic_id']})"),
        ("partitions", ", ".join(map(str, log["partitions"]))),
        ("lane", log["lane"]),
    ]
    facts += [("catalogue", _catalogue(row)) for row in log["catalogues"]]
    facts += [("definition", _definition(row)) for row in document["definitions"]]
    for name in ("windows", "adjustments", "items", "sessions"):
        if document[name]["count"]:
            facts.append((name, f"{document[name]['count']:,} (hash {document[name]['hash']})"))
    facts += [("callers' keys", f"{document['keys']['count']:,}")]
    facts += [("figure hash", document["figure_hash"]), ("hash", document["hash"])]
    output.print_table(["what", "value"], facts)
    for name, columns in _TABLES.items():
        rows = document["log"]["ranges"]["first"] if name == "ranges" else document[name]["first"]
        if rows:
            cells = [[_cell(row.get(column)) for column in columns] for row in rows]
            output.print_table(columns, cells, numbers=_RIGHT, title=name)


def _print_events(listed: Listed) -> None:
    kept = [name for name in _EVENT_COLUMNS if any(event[name] for event in listed.events)]
    if listed.events:
        rows = [[event[name] for name in kept] for event in listed.events]
        output.print_table(kept, rows, numbers=_RIGHT, title="events")
    for doubt in listed.doubts:
        print(f"note: {doubt}")
    told = listed.of_events
    summed = f"{counted(told['events'], 'event')}, value {told['value']}, closing {told['closing']}"
    if listed.adds_up:
        print(f"adds up: the log has {summed}, adjustment {told['adjustment']}")
        return
    print(f"DOES NOT ADD UP: the log has {summed}, adjustment {told['adjustment']}")
    for each in listed.mismatches:
        where = ", ".join(f"{name} {_cell(each[name])}" for name in each if name not in _SIDES)
        print(f"  {where}: store {each['store']}, events {each['events']}")


def _catalogue(row: dict[str, Any]) -> str:
    return f"{row['version']} from offset {row['from_offset']} of partition {row['partition']}"


def _definition(row: dict[str, Any]) -> str:
    until = f" until {row['until']}" if row["until"] else ""
    return (
        f"{row['version']}: {row['aggregate']} of {row['type']}, value {row['value']}, from "
        f"{row['since']}{until}"
    )


def _cell(value: Any) -> Any:  # noqa: ANN401 - whatever the document has
    return ", ".join(map(str, value)) if isinstance(value, list) else value
