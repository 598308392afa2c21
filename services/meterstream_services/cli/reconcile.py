"""`meterstream reconcile`: what producers sent against what was counted."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.wording import counted

_COLUMNS: Final = (
    "producer", "seen", "counted", "duplicates", "refused", "conflicts", "missing_numbers",
    "closed", "silent_since", "last_append",
)  # fmt: skip
_NUMBERS: Final = _COLUMNS[1:7]


def reconcile(
    *,
    producer: Annotated[
        str | None, typer.Option(help="One producer's id: with the numbers of its lanes.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only producers of which numbers are missing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 when any number is missing.")
    ] = False,
    zone: Annotated[str, typer.Option(help="Zone of the answer.")] = "UTC",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 1000,
    after: Annotated[str | None, typer.Option(help="Go on behind a listing: its `next`.")] = None,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Numbers seen, counted, repeated, refused and missing, by producer. JSON is the API's own."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    parameters = [("zone", zone), ("limit", str(limit))]
    parameters += [("producer", producer)] if producer else []
    parameters += [("missing", "true")] if missing else []
    parameters += [("after", after)] if after else []
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/reconcile", parameters)
    document = output.parsed(answer)
    totals = document["totals"]
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
    elif output_format is Format.CSV:
        output.print_csv(_COLUMNS, _rows(document))
    else:
        _print(document, totals)
    raise typer.Exit(1 if strict and totals["missing_numbers"] else 0)


def _rows(document: dict[str, Any]) -> list[list[Any]]:
    return [[entry.get(name) for name in _COLUMNS] for entry in document["producers"]]


def _print(document: dict[str, Any], totals: dict[str, int]) -> None:
    if document["producers"]:
        output.print_table(_COLUMNS, _rows(document), numbers=_NUMBERS)
    lanes = [
        [entry["producer"], *(lane[name] for name in ("lane", "highest", "missing_numbers"))]
        for entry in document["producers"]
        for lane in entry["lanes"] or ()
    ]
    if lanes:
        columns = ["producer", "lane", "highest", "missing_numbers"]
        output.print_table(columns, lanes, numbers=columns[1:])
    for entry in document["producers"]:
        for run in entry["missing"]:
            numbers = (
                f"number {run['from']}"
                if run["from"] == run["to"]
                else f"numbers {run['from']} to {run['to']}"
            )
            print(
                f"missing: producer {output.shown(entry['producer'])}, lane {run['lane']}, "
                f"{numbers}, since {run['since']}"
            )
    print(
        f"{counted(totals['producers'], 'producer')}: {counted(totals['seen'], 'number')} seen, "
        f"{totals['counted']:,} counted, {counted(totals['duplicates'], 'duplicate')}, "
        f"{totals['refused']:,} refused ({counted(totals['conflicts'], 'conflict')}), "
        f"{totals['missing_numbers']:,} missing of {counted(totals['with_missing'], 'producer')}, "
        f"{totals['silent']:,} silent without closing"
    )
    if document.get("next"):
        print(f"there are more: --after {document['next']}")
    _print_open(document["producers"], shows_all=len(document["producers"]) == totals["producers"])


def _print_open(producers: list[dict[str, Any]], *, shows_all: bool) -> None:
    """At once, not only when a producer has been silent for long: what may be missing unseen."""
    still_open = [entry for entry in producers if not entry.get("closed")]
    if not still_open:
        return
    one = len(still_open) == 1
    heard = sorted(entry["last_append"] for entry in still_open if entry.get("last_append"))
    since = f", silent since {heard[0]}{'' if one else ' at the longest'}" if heard else ""
    print(
        f"{counted(len(still_open), 'producer')}{'' if shows_all else ' of these'} "
        f"{'has' if one else 'have'} not closed{since}: still running, or ended without a broker. "
        "What was lost behind the last number that arrived is not known by number, and not among "
        "the missing, until a mark tells it"
    )
