"""`meterstream up`, `worker` and `serve`: the processes."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
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
from meterstream_services.cli.log_options import LogFormat, LogFormatOption, as_json, line
from meterstream_services.cli.serve_options import (
    ClientsOption,
    HttpOption,
    KnownHostOption,
    LimitOption,
    StoreOption,
    UnimeterOption,
    directory_address,
    front_limits,
    kept_address,
    ready_clients,
    unimeter_port,
)
from meterstream_services.cli.thresholds import has_webhook
from meterstream_services.cli.worker_options import (
    AcceptGapOption,
    GroupOption,
    InstanceOption,
    Protocol,
    ProtocolOption,
    ReplacedOption,
)

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress

TopicOption = Annotated[
    str, typer.Option("--topic", envvar="METERSTREAM_TOPIC", help="Topic of the events.")
]
CatalogueOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--catalogue",
        envvar="METERSTREAM_CATALOGUE",
        help="The meters, a YAML file. Repeatable: the first says when metering begins, the others "
        "add meters and thresholds. In the variable, `:` stands between them.",
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry-url",
        envvar="METERSTREAM_REGISTRY_URL",
        help="Schema registry, if there is one.",
    ),
]
MetricsOption = Annotated[
    str | None, typer.Option("--metrics", help="HOST:PORT of the worker's Prometheus metrics.")
]
TickOption = Annotated[
    float,
    typer.Option(
        envvar="METERSTREAM_TICK_SECONDS",
        min=0,
        help="How long a partition may be idle before the log's time is written into it; 0: never.",
    ),
]
RunMaxOption = Annotated[
    int,
    typer.Option(
        envvar="METERSTREAM_DEADLETTER_RUN_MAX",
        min=0,
        help="Refused records in a row in a partition that a worker bears; 0: any number.",
    ),
]
RatioMaxOption = Annotated[
    float,
    typer.Option(
        envvar="METERSTREAM_DEADLETTER_RATIO_MAX",
        min=0,
        max=1,
        help="Share of the last 10,000 records of a partition that may be refused; 1: all.",
    ),
]

_ACCOUNTS = "accounts.sqlite3"
_JOINED = "catalogue.worker.yaml"
"""Beside the store: what several files make. Read at once; another worker may replace it."""
_SINCE_DIFFERS = re.compile(r"metering_since differs .*\((\S+) → ")


def up(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="METERSTREAM_DATA", help="Directory for everything kept."),
    ] = None,
    store: StoreOption = None,
    http: HttpOption = DEFAULT_HTTP,
    catalogue: CatalogueOption = None,
    bootstrap: Annotated[
        str | None,
        typer.Option(
            "--bootstrap",
            envvar="METERSTREAM_BOOTSTRAP_SERVERS",
            help="An external Kafka, used in place of the embedded one.",
        ),
    ] = None,
    topic: TopicOption = EVENTS_TOPIC,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    partitions: Annotated[
        int, typer.Option(min=1, max=256, help="Partitions of the topic, when it is made.")
    ] = 8,
    metrics: MetricsOption = None,
    registry_url: RegistryOption = None,
    clients: ClientsOption = None,
    unimeter: UnimeterOption = None,
    known_host: KnownHostOption = None,
    limit: LimitOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Run broker, worker and services on this machine, in the foreground.

    With METERSTREAM_WEBHOOK_URL and its secret, notices of thresholds are sent there as well.
    """
    # Imported here, as everywhere in these commands: `meterstream --help` must not wait for it.
    from meterstream_services.up import UpSettings, run_up  # noqa: PLC0415 - loaded by its command

    as_json(log_format)
    host, port = host_and_port(http, option="--http")
    for text in unimeter or ():
        unimeter_port(text)  # Said here, before anything is started.
    front_limits(limit or ())
    settings = UpSettings(
        data=_required(data, "--data", "METERSTREAM_DATA", "the directory for everything kept"),
        catalogues=()
        if clients and not catalogue
        else _catalogues(catalogue, "the meters' file, or --clients NAME for ready meters"),
        host=host,
        port=port,
        bootstrap_servers=bootstrap or None,
        topic=topic,
        workers=workers,
        partitions=partitions,
        metrics=host_and_port(metrics, option="--metrics") if metrics else None,
        registry_url=registry_url,
        store=store_address(store) if store else None,
        webhook=has_webhook(os.environ),
        clients=ready_clients(clients or ()),
        unimeter=tuple(unimeter or ()),
        hosts=tuple(known_host or ()),
        limits=tuple(limit or ()),
    )
    raise typer.Exit(run_up(settings, say=say))


def say(sentence: str) -> None:
    """A line of a running process on stdout, at once."""
    print(line(sentence, process="up"), flush=True)


def _catalogues(given: Sequence[Path] | None, what: str = "the meters' file") -> tuple[Path, ...]:
    first = _required(given[0] if given else None, "--catalogue", "METERSTREAM_CATALOGUE", what)
    return (first, *(each.absolute() for each in (given or ())[1:]))


def _with_way_out(sentence: str) -> str:
    """What the store says, and what a command can do about it."""
    found = _SINCE_DIFFERS.search(sentence)
    if found is None:
        return sentence
    return (
        f"{sentence}: give your own meters first and the others behind them, as --catalogue MINE "
        "--catalogue OTHER; or print a ready catalogue by `meterstream catalogue NAME "
        f"--metering-since {found[1]}`; or name a new data directory"
    )


def _required(value: Path | None, option: str, variable: str, what: str) -> Path:
    if value is None:
        raise CommandError(
            f"{option} is missing: {what}; pass it or set {variable}", status=WRONG_ARGUMENTS
        )
    return value.absolute()


def worker(
    *,
    catalogue: CatalogueOption = None,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    store: StoreOption = None,
    topic: TopicOption = EVENTS_TOPIC,
    group: GroupOption = None,
    group_protocol: ProtocolOption = Protocol.CLASSIC,
    instance: InstanceOption = None,
    store_replaced: ReplacedOption = False,
    accept_gap: AcceptGapOption = None,
    metrics: MetricsOption = None,
    registry_url: RegistryOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_json: Annotated[bool, typer.Option("--log-json", help="--log-format json.")] = False,
    tick_seconds: TickOption = 10.0,
    deadletter_run_max: RunMaxOption = 10_000,
    deadletter_ratio_max: RatioMaxOption = 0.5,
    accounts: Annotated[
        str | None,
        typer.Option(
            "--accounts",
            envvar="METERSTREAM_ACCOUNTS",
            metavar="PATH|URL",
            help="The accounts, for thresholds: a file, a database or a service; default "
            "accounts.sqlite3 beside the store's file, or DIR/accounts.sqlite3.",
        ),
    ] = None,
) -> None:
    """Fold the events of a topic into the store, until SIGTERM.

    Exit status 78: something must be mended first; 79: a flood of dead letters, of which nothing
    was committed; 80: the log lost records before they were folded. Starting again helps with none.
    """
    from meterstream_aggregator.errors import CatalogueError, StoreMismatch  # noqa: PLC0415 - loaded by its command
    from meterstream_consumers.errors import DeadLetterFlood, LogGap, LogUnusable  # noqa: PLC0415 - loaded by its command
    from meterstream_consumers.gaps import parse_gap  # noqa: PLC0415 - loaded by its command
    from meterstream_consumers.settings import GroupProtocol, WorkerSettings, group_of  # noqa: PLC0415 - loaded by its command
    from meterstream_consumers.worker import run  # noqa: PLC0415 - loaded by its command
    from meterstream_infra.errors import TopicUnfit  # noqa: PLC0415 - loaded by its command
    from meterstream_schemas.errors import SettingRefused  # noqa: PLC0415 - loaded by its command
    from meterstream_services.accounts.lookup import account_lookup  # noqa: PLC0415 - loaded by its command
    from meterstream_services.catalogues.joining import join_files  # noqa: PLC0415 - loaded by its command
    from meterstream_services.ends import FLOODED, MUST_BE_MENDED, STOPPED_BY_GAP  # noqa: PLC0415 - loaded by its command

    if metrics:
        host_and_port(metrics, option="--metrics")
    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    catalogues = _catalogues(catalogue)
    kept = kept_address(store, data, STORE_NAME, option="--store")
    beside = _beside(kept, data)
    with _place_of_joined(catalogues, beside) as place:
        try:
            settings = WorkerSettings(
                bootstrap_servers=address,
                catalogue=join_files(catalogues, place),
                store=kept,
                topic=topic,
                group=group or group_of(topic),
                group_protocol=GroupProtocol(group_protocol.value),
                instance=instance,
                store_replaced=store_replaced,
                accepted_gaps=tuple(map(parse_gap, accept_gap or ())),
                metrics=metrics,
                registry_url=registry_url,
                log_json=as_json(log_format, asked=log_json),
                tick_seconds=tick_seconds,
                deadletter_run_max=deadletter_run_max,
                deadletter_ratio_max=deadletter_ratio_max,
            )
            directory = (
                directory_address(accounts)
                if accounts
                else (beside / _ACCOUNTS if beside else None)
            )
            status = run(settings, account_lookup(directory) if directory else None)
        except LogGap as problem:
            raise CommandError(str(problem), status=STOPPED_BY_GAP) from problem
        except (CatalogueError, StoreMismatch, LogUnusable, TopicUnfit, SettingRefused) as problem:
            # `up` reads the status: it starts no worker anew that a person must help.
            raise CommandError(_with_way_out(str(problem)), status=MUST_BE_MENDED) from problem
        except DeadLetterFlood as problem:
            raise CommandError(str(problem), status=FLOODED) from problem
    raise typer.Exit(status)


@contextmanager
def _place_of_joined(catalogues: Sequence[Path], beside: Path | None) -> Generator[Path]:
    """Where several catalogues become one: beside the store, else in a directory for the while.

    None is made where none is needed: a worker that is killed would leave it behind.
    """
    if beside is not None or len(catalogues) == 1:
        yield (beside or Path()) / _JOINED
        return
    with tempfile.TemporaryDirectory(prefix="meterstream-") as scratch:
        yield Path(scratch) / _JOINED


def _beside(store: StoreAddress, data: Path | None) -> Path | None:
    """Where files are that go with a store: its directory, else that of the data, if any."""
    if isinstance(store, Path):
        return store.parent
    directory = data or Path(os.environ.get("METERSTREAM_DATA", ""))
    return None if directory == Path() else directory.absolute()
