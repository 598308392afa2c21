"""`meterstream check`: which configuration is in force, and does it work.

Every part is tried and reported, also behind one that fails. Passwords in addresses are masked.
With ``--round-trip`` an event goes all the way to a figure and is taken back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import check_trip, output
from meterstream_services.cli.addresses import (
    BootstrapOption,
    DataOption,
    UrlOption,
    find_bootstrap,
    find_url,
)
from meterstream_services.cli.failures import CommandError, sentence_and_status
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.run import CatalogueOption
from meterstream_services.cli.unread import unread
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.roundtrip import Trip

BROKER_SECONDS: Final = 10.0
_SECRET_NAME: Final = re.compile("KEY|SECRET|PASSWORD|TOKEN|CREDENTIAL")
_SECRET_IN_URL: Final = re.compile(r"(?<=//)[^/@\s]+(?=@)")


class Finding(NamedTuple):
    """One line of the report. ``is_good`` is None for what is only said."""

    what: str
    value: str
    origin: str
    is_good: bool | None
    detail: str


def check(
    *,
    catalogue: CatalogueOption = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Topic of the events.")] = None,
    trip: check_trip.RoundTripOption = False,
    tenant: check_trip.TenantOption = check_trip.SERVICE,
    meter: check_trip.MeterOption = None,
    event_type: check_trip.TypeOption = None,
    keep: check_trip.KeepOption = False,
    timeout: check_trip.TimeoutOption = 30.0,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Print the configuration in force and try broker, topic, API and catalogue.

    Exit status 1: something failed. --round-trip leaves nothing in any figure but with --keep.
    """
    findings = [
        *_environment(),
        *_broker(bootstrap, data, topic),
        *_api(url, data),
        *_catalogue(catalogue),
    ]
    options = check_trip.Options(
        url, bootstrap, data, topic, tenant, meter, event_type, keep, timeout
    )
    travelled = check_trip.travel(options) if trip else None
    _print(findings, travelled, output_format)
    is_good = travelled is None or travelled.is_good
    raise typer.Exit(0 if is_good and all(found.is_good is not False for found in findings) else 1)


def _print(findings: Sequence[Finding], travelled: Trip | None, output_format: Format) -> None:
    columns = ["what", "value", "origin", "result", "detail"]
    rows = [
        [found.what, found.value, found.origin, _result(found.is_good), found.detail]
        for found in findings
    ]
    if output_format is Format.JSON:
        document: dict[str, Any] = {
            "checks": [dict(zip(columns, row, strict=True)) for row in rows]
        }
        if travelled is not None:
            document["round_trip"] = check_trip.trip_document(travelled)
        output.print_json(document)
    elif output_format is Format.CSV:
        stages = travelled.stages if travelled else ()
        output.print_csv(
            columns,
            [
                *rows,
                *(
                    [f"round trip: {stage.stage}", f"{stage.seconds:.3f}", "",
                     _result(stage.is_good), stage.detail]
                    for stage in stages
                ),
            ],
        )  # fmt: skip
    else:
        output.print_table(columns, rows)
        if travelled is not None:
            check_trip.print_trip(travelled)


def _environment() -> Iterator[Finding]:
    for name in sorted(os.environ):
        if name.startswith("METERSTREAM_"):
            yield Finding("setting", masked(name, os.environ[name]), name, None, "")


def _broker(bootstrap: str | None, data: Path | None, topic: str | None) -> Iterator[Finding]:
    named = os.environ.get("METERSTREAM_TOPIC")
    name = topic or named or EVENTS_TOPIC
    origin = "--topic" if topic else "METERSTREAM_TOPIC" if named else "default"
    gateway = os.environ.get("METERSTREAM_GATEWAY_URL")
    if gateway and not (bootstrap or data or os.environ.get("METERSTREAM_BOOTSTRAP_SERVERS")):
        yield Finding(
            "gateway", masked("", gateway), "METERSTREAM_GATEWAY_URL", None,
            "the SDK sends events there and to no broker",
        )  # fmt: skip
        return
    try:
        address, where = find_bootstrap(bootstrap=bootstrap, data=data)
    except CommandError as problem:
        yield Finding("broker", "", "", False, str(problem))
        return

    def try_topic() -> str:
        from meterstream_infra.topics import check_topic  # noqa: PLC0415 - loaded by its command

        identity = check_topic(address, name, timeout_seconds=BROKER_SECONDS)
        return f"{counted(identity.partitions, 'partition')}, LogAppendTime, id {identity.topic_id}"

    def try_broker() -> str:
        from meterstream_infra.topics import wait_for_broker  # noqa: PLC0415 - loaded by its command

        wait_for_broker(address, timeout_seconds=BROKER_SECONDS)
        return "answers"

    broker = _tried("broker", masked("", address), where, try_broker)
    yield broker
    if broker.is_good:
        yield _tried("topic", name, origin, try_topic)


def _api(url: str | None, data: Path | None) -> Iterator[Finding]:
    hints: list[str | None] = []
    try:
        address, origin = find_url(url=url, data=data)
    except CommandError as problem:
        yield Finding("API", "", "", False, str(problem))
        return

    def try_api() -> str:
        from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

        with Api(address, timeout_seconds=BROKER_SECONDS) as api:
            meters = api.get("/v1/meters")["meters"]
            hints.append(unread(api))
        names = ", ".join(meter["name"] for meter in meters)
        return f"answers, {counted(len(meters), 'meter')}: {names}"

    yield _tried("API", masked("", address), origin, try_api)
    for hint in hints:
        if hint:
            yield Finding("dead letters", "", "API", None, hint)


def _catalogue(catalogues: Sequence[Path] | None) -> Iterator[Finding]:
    def load(catalogue: Path) -> str:
        from meterstream_aggregator.catalogue_file import load_catalogue  # noqa: PLC0415 - loaded by its command

        loaded = load_catalogue(catalogue)
        return f"{counted(len(loaded.meters), 'meter')}, version {loaded.version}"

    for each in catalogues or ():
        yield _tried("catalogue", str(each), "--catalogue", partial(load, each))


def _tried(what: str, value: str, origin: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(what, value, origin, True, attempt())
    except Exception as problem:  # noqa: BLE001 - every failure is a finding, told like elsewhere
        return Finding(what, value, origin, False, sentence_and_status(problem)[0])


def masked(name: str, value: str) -> str:
    """A setting's value as it may be shown: no secret by its name, none inside an address."""
    if _SECRET_NAME.search(name.upper()):
        return "***"
    return _SECRET_IN_URL.sub("***", value)


def _result(is_good: bool | None) -> str:
    return {True: "ok", False: "FAILED", None: ""}[is_good]
