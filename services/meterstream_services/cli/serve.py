"""`meterstream serve`: questions, accounts, and the door for events."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli.addresses import (
    DEFAULT_HTTP,
    STORE_NAME,
    BootstrapOption,
    DataOption,
    find_bootstrap,
    host_and_port,
    store_address,
)
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.log_options import LogFormat, LogFormatOption, as_json
from meterstream_services.cli.serve_checks import check_directories
from meterstream_services.cli.serve_options import (
    HttpOption,
    KnownHostOption,
    LimitOption,
    PatienceOption,
    RegistryOption,
    SpoolBytesOption,
    SpoolOption,
    StoreOption,
    TopicOption,
    UnimeterOption,
    accounts_address,
    front_limits,
    kept_address,
    kept_beside,
    unimeter_port,
)

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_services.http.settings import Gateway

_BYTES_MAX = 1 << 30


def serve(
    *,
    http: HttpOption = DEFAULT_HTTP,
    data: DataOption = None,
    store: StoreOption = None,
    accounts: Annotated[
        str | None,
        typer.Option(
            "--accounts",
            envvar="METERSTREAM_ACCOUNTS",
            metavar="PATH|URL",
            help="The accounts: a file of SQLite, a database, a file that you write (.yaml, .json, "
            ".csv), or the URL of a service that knows them; default DIR/accounts.sqlite3.",
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            "--keys",
            envvar="METERSTREAM_KEYS",
            metavar="PATH|URL",
            help="The API keys; default keys.sqlite3 beside the accounts, or their database.",
        ),
    ] = None,
    book: Annotated[
        str | None,
        typer.Option(
            "--book",
            envvar="METERSTREAM_BOOK",
            metavar="PATH|URL",
            help="What clients define by calls: projects, metrics, wallets; default "
            "clients.sqlite3 beside the accounts, or their database.",
        ),
    ] = None,
    bootstrap: BootstrapOption = None,
    topic: TopicOption = EVENTS_TOPIC,
    registry_url: RegistryOption = None,
    spool: SpoolOption = None,
    spool_bytes_max: SpoolBytesOption = _BYTES_MAX,
    patience: PatienceOption = 5.0,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Take no events, answer questions only.")
    ] = False,
    unimeter: UnimeterOption = None,
    known_host: KnownHostOption = None,
    limit: LimitOption = None,
    metrics_open: Annotated[
        bool, typer.Option("--metrics-open", help="/metrics takes no key, wherever it is asked.")
    ] = False,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file with the certificate and its chain: HTTPS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its private key.")] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Take events and answer questions over HTTP, until SIGTERM.

    Without a broker, by --bootstrap or METERSTREAM_BOOTSTRAP_SERVERS, only questions are answered.
    """
    from meterstream_services.http.app import run as run_http  # noqa: PLC0415 - loaded by its command
    from meterstream_services.http.settings import Settings  # noqa: PLC0415 - loaded by its command

    host, port = host_and_port(http, option="--http")
    if (tls_certificate is None) != (tls_key is None):
        raise CommandError(
            "--tls-certificate and --tls-key belong together; pass both", status=WRONG_ARGUMENTS
        )
    kept = kept_address(store, data, STORE_NAME, option="--store")
    directory = accounts_address(accounts, data)
    beside = kept_beside(directory, kept)
    settings = Settings(
        store=kept,
        accounts=directory,
        host=host,
        port=port,
        hosts=tuple(known_host or ()),
        metrics_open=metrics_open,
        limits=front_limits(limit or ()),
        log_json=as_json(log_format),
        gateway=None
        if read_only
        else _gateway(
            bootstrap,
            data,
            topic=topic,
            registry_url=registry_url,
            spool=spool,
            spool_bytes_max=spool_bytes_max,
            patience_seconds=patience,
        ),
        keys=_beside(beside, keys, "keys.sqlite3", option="--keys"),
        book=_beside(beside, book, "clients.sqlite3", option="--book"),
        unimeter=tuple(unimeter_port(text) for text in unimeter or ()),
        definitions=beside.parent / "unimeter.json" if isinstance(beside, Path) else None,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
    check_directories(accounts=settings.accounts, keys=settings.keys, book=settings.book)
    raise typer.Exit(run_http(settings))


def _beside(place: StoreAddress, named: str | None, name: str, *, option: str) -> StoreAddress:
    """What is named itself, else a file beside that one, or the same database."""
    if named is not None:
        return store_address(named, option=option)
    return place.parent / name if isinstance(place, Path) else place


def _gateway(
    bootstrap: str | None,
    data: Path | None,
    *,
    topic: str,
    registry_url: str | None,
    spool: Path | None,
    spool_bytes_max: int,
    patience_seconds: float,
) -> Gateway | None:
    """Where events go; None where nothing names a broker. A misspelt name is an error."""
    from meterstream_services.http.settings import Gateway  # noqa: PLC0415 - loaded by its command

    named = bootstrap or os.environ.get("METERSTREAM_BOOTSTRAP_SERVERS")
    if not named:
        return None
    directory = data or Path(os.environ.get("METERSTREAM_DATA", ""))
    if spool is None and directory == Path():
        raise CommandError(
            "--spool is missing: events that the log does not have yet need a directory; pass it, "
            "or --data DIR for DIR/spool, or --read-only to take no events",
            status=WRONG_ARGUMENTS,
        )
    return Gateway(
        bootstrap_servers=find_bootstrap(bootstrap=named, data=None).address,
        spool=(spool or directory / "spool").absolute(),
        topic=topic,
        registry_url=registry_url,
        spool_bytes_max=spool_bytes_max,
        patience_seconds=patience_seconds,
    )
