"""Options of `meterstream serve` and of `up`, and what their texts mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterstream_services.cli.addresses import host_and_port, store_address
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.serve_checks import (
    check_hosts,
    check_registry,
    check_spool,
    check_topic,
)

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_services.accounts.opening import DirectoryAddress
    from meterstream_services.http.front_limits import FrontLimits
    from meterstream_services.http.settings import UnimeterPort

HttpOption = Annotated[
    str, typer.Option("--http", help="HOST:PORT to answer on; port 0 takes a free one.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="METERSTREAM_STORE",
        metavar="PATH|URL",
        help="The store: a file, or postgresql://USER@HOST/DATABASE?schema=NAME, whose password "
        "METERSTREAM_STORE_PASSWORD or METERSTREAM_STORE_PASSWORD_FILE may give; default "
        "DIR/store.sqlite3.",
    ),
]
UnimeterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unimeter",
        envvar="METERSTREAM_UNIMETER",
        metavar="[TENANT=]HOST:PORT[,advertise=HOST:PORT][,layout=vendor][,events_per_second=N]",
        help="Answer Unimeter's clients on this TCP port, which knows no keys: whoever reaches it "
        "speaks for TENANT, or, without one, for every account as a tenant of its own. Clients "
        "are told to connect to the address that they reached, unless it says another; lists are "
        "laid out as the published Python client reads them, or as the vendor writes them. The "
        "port takes 500,000 events a second unless it says another number. Repeatable.",
    ),
]
KnownHostOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A further name that clients call this service by. Repeatable.",
        callback=check_hosts,
    ),
]
TopicOption = Annotated[
    str,
    typer.Option(
        "--topic",
        envvar="METERSTREAM_TOPIC",
        help="Topic of the events.",
        callback=check_topic,
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry-url",
        envvar="METERSTREAM_REGISTRY_URL",
        help="Schema registry, if there is one.",
        callback=check_registry,
    ),
]
SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--spool",
        envvar="METERSTREAM_SPOOL",
        help="Directory for events that the log does not have yet; default DIR/spool.",
        callback=check_spool,
    ),
]
SpoolBytesOption = Annotated[
    int, typer.Option(min=65_536, max=1 << 50, help="How large the spool may become.")
]
PatienceOption = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0.1,
        max=60.0,
        metavar="SECONDS",
        help="How long a request waits for the log. Clients without keys that give up before it "
        "and 3 s more send again and count twice.",
    ),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        envvar="METERSTREAM_LIMITS",
        metavar="NAME=VALUE",
        help="What one client, one address or all of them may take of the HTTP port, as "
        "connections_max=500; a name that is not known is answered with all there are. "
        "Repeatable; in the variable, spaces stand between them.",
    ),
]
ClientsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--clients",
        metavar="NAME|all",
        help="Add the ready catalogue of this client: climeter, unimeter, stripemeter, meter_lib, "
        "agentmeter, or all of them. Repeatable.",
    ),
]

_ADVERTISED_MAX = 23
_UNIMETER_WORDS = ("advertise", "layout", "events_per_second")
_UNIMETER_SHOWN = ("advertise=HOST:PORT", "layout=vendor", "events_per_second=N")


def unimeter_port(text: str) -> UnimeterPort:
    """``[TENANT=]HOST:PORT`` and what may follow, see `UnimeterOption`. Raises `CommandError`."""
    from meterstream_services.http.settings import UnimeterPort  # noqa: PLC0415 - loaded by its command

    place, *further = text.split(",")
    tenant, equals, address = place.rpartition("=")
    if equals:
        _check_tenant(text, tenant)
    host, port = host_and_port(address, option="--unimeter")
    told: dict[str, str] = {}
    for each in further:
        name, _, value = each.partition("=")
        if name not in _UNIMETER_WORDS or (name == "layout" and value != "vendor"):
            raise _wrong_port(text, f"{each!r} is not known; write {' or '.join(_UNIMETER_SHOWN)}")
        if name in told:
            raise _wrong_port(text, f"{name} stands there twice; write it once")
        told[name] = value
    advertised = told.get("advertise")
    if advertised is not None:
        _check_advertised(text, advertised)
    rate = told.get("events_per_second")
    return UnimeterPort(
        host,
        port,
        tenant or None,
        advertised,
        "layout" in told,
        None if rate is None else _rate(text, rate),
    )


def _check_tenant(text: str, tenant: str) -> None:
    from meterstream_schemas.checks import check_text  # noqa: PLC0415 - loaded by its command
    from meterstream_schemas.errors import InvalidEvent  # noqa: PLC0415 - loaded by its command
    from meterstream_schemas.events import TENANT_BYTES_MAX  # noqa: PLC0415 - loaded by its command

    if not tenant:
        raise _wrong_port(text, "names no tenant before the =; write TENANT=HOST:PORT")
    try:
        check_text(tenant, field="tenant", bytes_max=TENANT_BYTES_MAX)
    except InvalidEvent as problem:
        raise _wrong_port(text, f"the tenant {problem.problem}") from problem


def _check_advertised(text: str, advertised: str) -> None:
    _, port = host_and_port(advertised, option="--unimeter advertise")
    if not port:
        raise _wrong_port(text, "clients cannot connect to port 0; advertise the one they reach")
    if len(advertised) > _ADVERTISED_MAX or not advertised.isascii():
        raise _wrong_port(
            text,
            f"the protocol has {_ADVERTISED_MAX} characters for an address; "
            "advertise an IPv4 address",
        )


def _rate(text: str, rate: str) -> int:
    from meterstream_services.keys.model import RATE_MAX  # noqa: PLC0415 - loaded by its command

    if not (rate.isascii() and rate.isdigit()) or not 1 <= int(rate[:20]) <= RATE_MAX:
        raise _wrong_port(
            text, f"events_per_second={rate[:40]} is no rate; write a whole number, 1 to {RATE_MAX}"
        )
    return int(rate)


def _wrong_port(text: str, problem: str) -> CommandError:
    return CommandError(f"--unimeter {text[:200]}: {problem}", status=WRONG_ARGUMENTS)


def front_limits(texts: Sequence[str]) -> FrontLimits:
    """What these texts allow clients, the rest by default. Raises `CommandError`."""
    from meterstream_services.http.front_limits import parse_limits  # noqa: PLC0415 - loaded by its command

    try:
        return parse_limits(list(texts))
    except ValueError as problem:
        raise CommandError(f"--limit {problem}", status=WRONG_ARGUMENTS) from problem


def ready_clients(names: Sequence[str]) -> tuple[Path, ...]:
    """The ready catalogues of these clients. Raises `CommandError` for an unknown one."""
    from meterstream_services.catalogues import ready  # noqa: PLC0415 - loaded by its command

    found = ready()
    wanted = dict.fromkeys(found if "all" in names else names)
    for name in wanted:
        if name not in found:
            raise CommandError(
                f"--clients {name}: no client is called that; there are: {', '.join(found)}",
                status=WRONG_ARGUMENTS,
            )
    return tuple(found[name] for name in wanted)


def accounts_address(named: str | None, data: Path | None) -> DirectoryAddress:
    """Where the accounts are: a file, a database or a service that is named, else DIR's own."""
    if named is None:
        return kept_address(None, data, "accounts.sqlite3", option="--accounts")
    return directory_address(named)


def directory_address(text: str) -> DirectoryAddress:
    """The directory of accounts that ``--accounts`` names. Raises `CommandError`."""
    from meterstream_services.accounts.opening import parse_directory  # noqa: PLC0415 - loaded by its command

    if not text:
        raise CommandError(
            "--accounts names nothing; write a path or a URL", status=WRONG_ARGUMENTS
        )
    try:
        address = parse_directory(text)
    except ValueError as problem:
        raise CommandError(f"--accounts: {problem}", status=WRONG_ARGUMENTS) from problem
    return address.absolute() if isinstance(address, Path) else address


def kept_beside(accounts: DirectoryAddress, store: StoreAddress) -> StoreAddress:
    """Beside what keys and clients' documents are kept: the accounts, if those are our own tables.

    Else the store: a file that somebody else writes, or a service, is no place for them.
    """
    from meterstream_services.accounts.opening import is_own  # noqa: PLC0415 - loaded by its command

    return accounts if is_own(accounts) else store


def kept_address(named: str | None, data: Path | None, name: str, *, option: str) -> StoreAddress:
    """A file or database that is named itself, or the file under the data directory."""
    if named is not None:
        return store_address(named, option=option)
    directory = data or Path(os.environ.get("METERSTREAM_DATA", ""))
    if data is not None and directory == Path():
        raise CommandError(
            "--data is empty or a dot, which are one to us; write the directory's whole path",
            status=WRONG_ARGUMENTS,
        )
    if directory == Path():
        or_set = " or set METERSTREAM_STORE" if option == "--store" else ""
        raise CommandError(
            f"{option} is missing; pass it{or_set}, or --data DIR for DIR/{name}",
            status=WRONG_ARGUMENTS,
        )
    return (directory / name).absolute()
