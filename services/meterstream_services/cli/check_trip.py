"""The part of `meterstream check --round-trip`: one event through everything, stage by stage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import find_bootstrap, find_url
from meterstream_services.cli.failures import CommandError, sentence_and_status

if TYPE_CHECKING:
    from meterstream import Meter, Outcome
    from meterstream_services.roundtrip import Trip

SERVICE: Final = "meterstream-check"
STAGE_COLUMNS: Final = ("stage", "seconds", "result", "detail")


RoundTripOption = Annotated[
    bool,
    typer.Option(
        "--round-trip",
        help="Record an event with the SDK, wait until a figure shows it, and take it back.",
    ),
]
TenantOption = Annotated[str, typer.Option(help="Of the round trip: whose event it is.")]
MeterOption = Annotated[
    str | None, typer.Option(help="Of the round trip: the meter that has to show it.")
]
TypeOption = Annotated[
    str | None, typer.Option("--type", help="Of the round trip: the event's type.")
]
KeepOption = Annotated[
    bool, typer.Option("--keep", help="Of the round trip: do not take the event back.")
]
TimeoutOption = Annotated[
    float, typer.Option(min=0.1, help="Of the round trip: seconds for each stage.")
]


class Options(NamedTuple):
    """What the command was told."""

    url: str | None
    bootstrap: str | None
    data: Path | None
    topic: str | None
    tenant: str
    meter: str | None
    event_type: str | None
    keep: bool
    timeout_seconds: float


def travel(options: Options) -> Trip:
    """Send the event and follow it. Addresses are found as for every other command."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command
    from meterstream_services.roundtrip import (  # noqa: PLC0415 - as above
        Stage,
        Trip,
        Wish,
        round_trip,
    )

    url, bootstrap, data, topic = options[:4]
    name = topic or os.environ.get("METERSTREAM_TOPIC") or EVENTS_TOPIC

    def make(on_outcome: Callable[[Outcome], object]) -> Meter:
        from meterstream import Meter  # noqa: PLC0415 - loaded by its command

        # An option wins over the environment here, as in every command; without one the SDK finds
        # its way as it does in a service.
        named = bootstrap or data
        servers = find_bootstrap(bootstrap=bootstrap, data=data).address if named else None
        return Meter(
            SERVICE,
            bootstrap_servers=servers,
            topic=name,
            data=data,
            strict=True,
            on_outcome=on_outcome,
        )

    try:
        address = find_url(url=url, data=data).address
    except CommandError as problem:
        nowhere = Stage("chosen", 0.0, False, str(problem))
        return Trip((nowhere,), None, options.tenant, "", None, None)
    with Api(address, timeout_seconds=max(options.timeout_seconds, 1.0)) as api:
        return round_trip(api, make, Wish(name, *options[4:]), _told)


def stage_rows(trip: Trip) -> list[list[object]]:
    """The stages as rows of `STAGE_COLUMNS`."""
    words = {True: "ok", False: "FAILED", None: ""}
    return [
        [stage.stage, f"{stage.seconds:.3f}", words[stage.is_good], stage.detail]
        for stage in trip.stages
    ]


def trip_document(trip: Trip) -> dict[str, Any]:
    """The whole trip for `--format json`."""
    return {
        "result": "ok" if trip.is_good else "FAILED",
        "meter": trip.probe.meter if trip.probe else None,
        "type": trip.probe.type if trip.probe else None,
        "tenant": trip.tenant,
        "key": trip.key,
        "partition": trip.partition,
        "offset": trip.offset,
        "seconds": f"{sum(stage.seconds for stage in trip.stages):.3f}",
        "stages": [dict(zip(STAGE_COLUMNS, row, strict=True)) for row in stage_rows(trip)],
    }


def print_trip(trip: Trip) -> None:
    """The stages as a table, and one sentence about the whole."""
    output.print_table(STAGE_COLUMNS, stage_rows(trip), numbers=["seconds"])
    if trip.is_good:
        taken_back = trip.stages[-1].is_good
        rest = "and was taken back" if taken_back else f"and stays: {trip.stages[-1].detail}"
        print(f"an event of this configuration reached its figure {rest}")


def _told(problem: Exception) -> str:
    return sentence_and_status(problem)[0]
