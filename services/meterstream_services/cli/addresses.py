"""Where a command finds the API and the broker.

Arguments come before the environment, the environment before files, files before defaults; an
argument ``--data`` is an argument, so it wins over ``METERSTREAM_URL``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from meterstream_schemas.connection import FILE_NAME, Connection, read_connection
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress

DEFAULT_HTTP: Final = "127.0.0.1:8080"
DEFAULT_URL: Final = f"http://{DEFAULT_HTTP}"
STORE_NAME: Final = "store.sqlite3"
"""The store's file in a data directory."""
NO_STORE: Final = (
    "no store is named; pass --store PATH or URL, or --data DIR, or set METERSTREAM_STORE"
)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Directory of a running `meterstream up` (METERSTREAM_DATA)."),
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Address of the API (METERSTREAM_URL).")
]
BootstrapOption = Annotated[
    str | None,
    typer.Option("--bootstrap", help="Kafka's address (METERSTREAM_BOOTSTRAP_SERVERS)."),
]


class Found(NamedTuple):
    """An address and what named it, for `meterstream check`."""

    address: str
    origin: str


def find_url(
    *, url: str | None, data: Path | None, environment: Mapping[str, str] = os.environ
) -> Found:
    """The API's address. Raises `CommandError` when a named directory has no running `up`.

    That METERSTREAM_DATA is there and has none leads to the default, as `serve` alone answers.
    """
    if url:
        return Found(url, "--url")
    found = _from_file(data, "--data", "url", environment)
    if found is None and (named := environment.get("METERSTREAM_URL")):
        found = Found(named, "METERSTREAM_URL")
    directory = _data_of(environment)
    found = found or _from_file(directory, "METERSTREAM_DATA", "url", environment)
    if found is not None or directory is None:
        return found or Found(DEFAULT_URL, "default")
    why = _names_none("API", directory)
    if not directory.is_dir():
        raise CommandError(f"METERSTREAM_DATA: {why}")
    return Found(DEFAULT_URL, f"default: {why}")


def find_bootstrap(
    *, bootstrap: str | None, data: Path | None, environment: Mapping[str, str] = os.environ
) -> Found:
    """Kafka's address. Raises `CommandError` when nothing names one."""
    if bootstrap:
        return Found(bootstrap, "--bootstrap")
    found = _from_file(data, "--data", "bootstrap_servers", environment)
    if found is None and (named := environment.get("METERSTREAM_BOOTSTRAP_SERVERS")):
        found = Found(named, "METERSTREAM_BOOTSTRAP_SERVERS")
    directory = _data_of(environment)
    found = found or _from_file(directory, "METERSTREAM_DATA", "bootstrap_servers", environment)
    if found is None and directory is not None:
        raise CommandError(f"METERSTREAM_DATA: {_names_none('broker', directory)}")
    if found is None:
        raise CommandError(
            "no broker is named; pass --bootstrap HOST:PORT, or --data DIR of a running "
            "`meterstream up`, or set METERSTREAM_BOOTSTRAP_SERVERS or METERSTREAM_DATA"
        )
    return found


def store_address(text: str, *, option: str = "--store") -> StoreAddress:
    """A path, or the URL of a PostgreSQL database. Raises `CommandError` for another URL."""
    from meterstream_aggregator.store.address import parse_address  # noqa: PLC0415 - loaded by its command

    if not text:
        raise CommandError(
            f"{option} names nothing; write a path, or the URL of a PostgreSQL database",
            status=WRONG_ARGUMENTS,
        )
    try:
        address = parse_address(text)
    except ValueError as problem:
        raise CommandError(f"{option}: {problem}", status=WRONG_ARGUMENTS) from problem
    return address.absolute() if isinstance(address, Path) else address


def find_store(
    *, store: str | None, data: Path | None, environment: Mapping[str, str] = os.environ
) -> StoreAddress | None:
    """The store's address, or None when nothing names one. It need not be there."""
    if store:
        return store_address(store)
    directory = data or _data_of(environment)
    return None if directory is None else (directory / STORE_NAME).absolute()


def host_and_port(text: str, *, option: str) -> tuple[str, int]:
    """``HOST:PORT``, with brackets around an IPv6 host. Raises `CommandError`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not _is_port(port):
        raise CommandError(
            f"{option} {text[:200]}: is not an address; write HOST:PORT such as {DEFAULT_HTTP}",
            status=WRONG_ARGUMENTS,
        )
    return host, int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len("65535") and int(text) <= 65_535


def _data_of(environment: Mapping[str, str]) -> Path | None:
    text = environment.get("METERSTREAM_DATA")
    return Path(text) if text else None


def _from_file(
    data: Path | None, origin: str, field: str, environment: Mapping[str, str]
) -> Found | None:
    if data is None:
        return None
    try:
        connection: Connection | None = read_connection(data)
    except ValueError as problem:
        raise CommandError(str(problem)) from problem
    address = getattr(connection, field) if connection else ""
    if address:
        return Found(address, f"{data.absolute() / FILE_NAME}")
    named = "METERSTREAM_URL" if field == "url" else "METERSTREAM_BOOTSTRAP_SERVERS"
    if origin == "METERSTREAM_DATA" or environment.get(named):
        return None
    what, option = ("API", "--url") if field == "url" else ("broker", "--bootstrap")
    raise CommandError(f"--data: {_names_none(what, data)} (or name the address with {option})")


def _names_none(what: str, directory: Path) -> str:
    from meterstream.settings import names_none  # noqa: PLC0415 - when something is wrong only

    return names_none(what, directory)
