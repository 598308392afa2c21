"""`meterstream import`: a file's rows as events, followed until they are counted."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import (
    BootstrapOption,
    DataOption,
    UrlOption,
    find_bootstrap,
    find_url,
)
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.progress import watcher
from meterstream_services.cli.run import RegistryOption, TopicOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.client import Api
    from meterstream_services.importer.report import Job, Report

BROKER_SECONDS: Final = 20.0
"""How long an import waits for the broker's first answer."""
REFUSALS_SHOWN: Final = 20
"""Refused rows that a table shows; json and csv have all that the report keeps."""


def import_command(
    *,
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, plain or gzip.")],
    event_type: Annotated[str, typer.Option("--type", help="Type of the events.")],
    tenant: Annotated[str, typer.Option(help="COL, or =constant.")],
    time_column: Annotated[
        str | None, typer.Option("--time", help="COL of the event's time, ISO 8601.")
    ] = None,
    quantity: Annotated[
        str | None, typer.Option(help="COL, or =n; default =1. An empty cell adds nothing.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="COL of the session's id.")] = None,
    start: Annotated[str | None, typer.Option(help="COL of the session's start.")] = None,
    end: Annotated[
        str | None, typer.Option(help="COL of the session's end; empty while it runs.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="COL, or =constant.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="NAME=COL, or NAME==constant. Repeat it for more.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="COL with the file's own idempotency key; default: the row's content."),
    ] = None,
    zone: Annotated[
        str, typer.Option(help="Zone of times without an offset, such as America/New_York.")
    ] = "UTC",
    source: Annotated[
        str, typer.Option(help="A word that tells equal rows of different files apart.")
    ] = "",
    layout: Annotated[
        str | None, typer.Option("--input", help="csv or jsonl; default: by the file's name.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between CSV cells; default a comma, a tab for .tsv.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the events are counted.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds without any progress before the wait ends.")
    ] = 300.0,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
    bootstrap: BootstrapOption = None,
    topic: TopicOption = EVENTS_TOPIC,
    registry_url: RegistryOption = None,
) -> None:
    """Import a file of usage or of sessions. Importing it again changes nothing."""
    from meterstream_services.importer.mapping import check_mapping  # noqa: PLC0415 - loaded by its command
    from meterstream_services.importer.reading import Layout  # noqa: PLC0415 - loaded by its command
    from meterstream_services.importer.report import Job  # noqa: PLC0415 - loaded by its command

    if layout is not None and layout not in set(Layout):
        raise CommandError(f"--input {layout}: write csv or jsonl", status=WRONG_ARGUMENTS)
    job = Job(
        file,
        check_mapping(
            event_type=event_type,
            tenant=tenant,
            time=time_column,
            quantity=quantity,
            session=session,
            start=start,
            end=end,
            subject=subject,
            attributes=attribute or [],
            key=key,
            zone=find_zone(zone),
            source=source,
        ),
        layout=Layout(layout) if layout else None,
        delimiter=_delimiter(delimiter),
        patience_seconds=timeout,
    )
    started = time.monotonic()
    api = _api(find_url(url=url, data=data).address, event_type) if wait else None
    report = _run(
        job,
        api,
        bootstrap_servers=find_bootstrap(bootstrap=bootstrap, data=data).address,
        topic=topic,
        registry_url=registry_url,
    )
    _print(report, file, output_format, seconds=time.monotonic() - started)
    raise typer.Exit(0 if report.is_clean else 1)


def find_zone(name: str) -> ZoneInfo:
    """An IANA zone. Raises `CommandError` for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise CommandError(
            f"--zone {name}: is not an IANA zone; write one such as Europe/Berlin or UTC",
            status=WRONG_ARGUMENTS,
        ) from problem


def _run(
    job: Job, api: Api | None, *, bootstrap_servers: str, topic: str, registry_url: str | None
) -> Report:
    # Imported here: Kafka's client takes its time, and mistakes in the options need not wait.
    from meterstream import Meter  # noqa: PLC0415 - loaded by its command
    from meterstream.errors import BufferFull  # noqa: PLC0415 - loaded by its command
    from meterstream_infra.topics import check_topic  # noqa: PLC0415 - loaded by its command
    from meterstream_services.importer.counting import await_counts  # noqa: PLC0415 - loaded by its command
    from meterstream_services.importer.errors import NotCounted  # noqa: PLC0415 - loaded by its command
    from meterstream_services.importer.sending import import_file  # noqa: PLC0415 - loaded by its command

    check_topic(bootstrap_servers, topic, timeout_seconds=BROKER_SECONDS)
    # The report tells what was refused, and the wait what the broker lacks: not twice.
    logging.getLogger("meterstream").addHandler(logging.NullHandler())
    meter = Meter(
        "meterstream-import",
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        registry_url=registry_url,
        strict=True,  # a refused row is said by its error
        overflow="block",  # a file waits for the broker, it drops nothing
        block_seconds=job.patience_seconds,
    )
    with watcher() as shown:
        try:
            report = import_file(job, meter, shown)
        except BufferFull as problem:
            raise CommandError(
                f"the broker took no event for {job.patience_seconds:g} s "
                f"({meter.status().last_error}); importing the file again is safe"
            ) from problem
        finally:
            meter.close(timeout=job.patience_seconds)
        if api is not None:
            try:
                await_counts(job, report, api, shown)
            except NotCounted as problem:
                report.unfinished = str(problem)
    return report


def _api(url: str, event_type: str) -> Api:
    """The API, reachable: an import that cannot wait says so before it sends anything."""
    from meterstream_services.client import Api, ApiUnreachable  # noqa: PLC0415 - loaded by its command

    api = Api(url)
    try:
        meters = api.get("/v1/meters")["meters"]
    except ApiUnreachable as problem:
        raise CommandError(f"{problem}; or import with --no-wait. Nothing was sent") from problem
    if event_type not in {meter["type"] for meter in meters}:
        types = ", ".join(sorted({meter["type"] for meter in meters}))
        print(
            f"meterstream: no meter reads the type {event_type!r}, its events will be dead "
            f"letters; the catalogue reads: {types}",
            file=sys.stderr,
        )
    return api


def _delimiter(text: str | None) -> str | None:
    if text is None or text in {"tab", "\\t"}:
        return "\t" if text else None
    if len(text) != 1 or text in '"\r\n':
        raise CommandError(
            f"--delimiter {text}: write one character, or tab", status=WRONG_ARGUMENTS
        )
    return text


def _print(report: Report, file: Path, output_format: Format, *, seconds: float) -> None:
    refusals = [
        {"row": r.row, "line": r.line, "column": r.column, "value": r.value, "reason": r.reason}
        for r in report.refusals
    ]
    totals: dict[str, Any] = {
        "rows": report.rows,
        "events": report.events,
        "counted": report.counted,
        "duplicates": report.duplicates,
        "refused": report.refused,
    }
    if output_format is Format.JSON:
        rest = {
            "quantities_empty": report.quantities_empty,
            "producer": report.producer,
            "seconds": round(seconds, 3),
            "unfinished": report.unfinished or None,
            "refusals": refusals,
        }
        output.print_json({"file": str(file)} | totals | rest)
    elif output_format is Format.CSV:
        output.print_csv(["file", *totals], [[str(file), *totals.values()]])
    else:
        output.print_table(
            list(totals), [[_shown(value) for value in totals.values()]], numbers=list(totals)
        )
        _print_refusals(refusals, report)
    if report.unfinished:
        print(f"meterstream: {report.unfinished}", file=sys.stderr)


def _print_refusals(refusals: list[dict[str, Any]], report: Report) -> None:
    if refusals:
        columns = ["row", "line", "column", "value", "reason"]
        rows = [[refusal[name] for name in columns] for refusal in refusals[:REFUSALS_SHOWN]]
        output.print_table(columns, rows, numbers=["row", "line"], title="refused")
    hidden = report.refused - min(len(refusals), REFUSALS_SHOWN)
    if hidden > 0:
        print(f"and {hidden:,} more; --format json lists up to 1,000")
    if report.quantities_empty:
        print(
            f"{counted(report.quantities_empty, 'row')} without a quantity: counted as events, "
            "adding nothing"
        )


def _shown(value: int | None) -> str:
    return "not awaited" if value is None else f"{value:,}"
