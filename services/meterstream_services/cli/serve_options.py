"""Options of `meterstream serve` and of `up`, and what their texts mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterstream_services.cli.addresses import host_and_port, store_address
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError

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
        metavar="[TENANT=]HOST:PORT[,advertise=HOST:PORT][,layout=vendor]",
        help="Answer Unimeter's clients on this TCP port, which knows no keys: whoever reaches it "
        "speaks for TENANT, or, without one, for every account as a tenant of its own. Clients "
        "are told to connect to the address that they reached, unless it says another; lists are "
        "laid out as the published Python client reads them, or as the vendor writes them. "
        "Repeatable.",
    ),
]
KnownHostOption = Annotated[
    list[str] | None,
    typer.Option(help="A further name that clients call this service by. Repeatable."),
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


def unimeter_port(text: str) -> UnimeterPort:
    """``[TENANT=]HOST:PORT[,advertise=HOST:PORT][,layout=vendor]``. Raises `CommandError`."""
    from meterstream_services.http.settings import UnimeterPort  # noqa: PLC0415 - loaded by its command

    place, *further = text.split(",")
    tenant, equals, address = place.rpartition("=")
    if equals and not tenant:
        raise CommandError(
            f"--unimeter {text}: names no tenant before the =; write TENANT=HOST:PORT",
            status=WRONG_ARGUMENTS,
        )
    host, port = host_and_port(address, option="--unimeter")
    advertised, counted = None, False
    for each in further:
        name, _, value = each.partition("=")
        if name == "advertise":
            host_and_port(value, option="--unimeter advertise")
            advertised = value
        elif each == "layout=vendor":
            counted = True
        else:
            raise CommandError(
                f"--unimeter {text}: {each!r} is not known; write advertise=HOST:PORT or "
                "layout=vendor",
                status=WRONG_ARGUMENTS,
            )
    if advertised is not None and len(advertised) > _ADVERTISED_MAX:
        raise CommandError(
            f"--unimeter {text}: the protocol has {_ADVERTISED_MAX} characters for an address; "
            "advertise an IPv4 address",
            status=WRONG_ARGUMENTS,
        )
    return UnimeterPort(host, port, tenant or None, advertised, counted)


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
    if directory == Path():
        or_set = " or set METERSTREAM_STORE" if option == "--store" else ""
        raise CommandError(
            f"{option} is missing; pass it{or_set}, or --data DIR for DIR/{name}",
            status=WRONG_ARGUMENTS,
        )
    return (directory / name).absolute()
