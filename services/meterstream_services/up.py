"""Everything on one machine: broker, workers and services over one data directory.

::

    DIR/up.lock            held by `up` and by every part it started; the next `up` waits for them
    DIR/broker/            the embedded Kafka's own directory
    DIR/store.sqlite3      usage, sessions, positions
    DIR/accounts.sqlite3   accounts
    DIR/keys.sqlite3       API keys
    DIR/clients.sqlite3    what clients define by calls
    DIR/unimeter.json      metrics that Unimeter's clients defined; DIR/watched.yaml: as meters
    DIR/spool/             events that the log does not have yet
    DIR/logs/              broker.log, worker.log, serve.log, notices.log
    DIR/processes.json     process ids by part, while it runs
    DIR/connection.toml    addresses, from readiness to the end

The order of a start: (1) refuse what cannot work: directory, catalogue, port; (2) broker, unless an
external one is named; (3) topics; (4) workers and services; (5) readiness; (6) connection.toml. The
end takes the same way back.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_schemas.connection import FILE_NAME, Connection, write_connection
from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services import keyless
from meterstream_services.broker_part import BrokerRunner
from meterstream_services.catalogues.joining import join_files
from meterstream_services.directories import LEFTOVER_SECONDS, UpError, hold, prepare_directory
from meterstream_services.lifeline import Lifeline
from meterstream_services.listening import check_port, free_port, in_url, is_ready, reachable
from meterstream_services.metric_meters import MetricMeters
from meterstream_services.restarts import RestartPolicy
from meterstream_services.supervisor import (
    ChildProcess,
    StopRequested,
    Supervisor,
    tail_of,
)

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress

READY_SECONDS: Final = 90.0
JOINED_NAME: Final = "catalogue.yaml"
"""In the data directory: what several catalogues make, for the workers."""
KEYS_NAME: Final = "keys.sqlite3"
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What runs, and where. ``bootstrap_servers`` names an external broker, which then is used.

    ``port`` 0 takes any free port. ``metrics`` is the address of the first worker's metrics,
    further workers take the ports behind it; without it each takes any free port. ``webhook`` says
    that notices go to the address and with the secret of the environment. ``store`` is a file of
    the data directory unless named. ``clients`` are ready catalogues to add, which may be
    all that there are; ``unimeter``, ``hosts`` and ``limits`` go to `serve` as they are.
    """

    data: Path
    catalogues: Sequence[Path]
    host: str = "127.0.0.1"
    port: int = 8080
    bootstrap_servers: str | None = None
    topic: str = EVENTS_TOPIC
    workers: int = 1
    partitions: int = 8
    metrics: tuple[str, int] | None = None
    registry_url: str | None = None
    webhook: bool = False
    policy: RestartPolicy | None = None
    store: StoreAddress | None = None
    clients: Sequence[Path] = ()
    unimeter: Sequence[str] = ()
    hosts: Sequence[str] = ()
    limits: Sequence[str] = ()


def run_up(settings: UpSettings, *, say: Callable[[str], None]) -> int:
    """Run until a signal comes; the exit status. Main thread only.

    Raises `UpError`, `CatalogueError` or an `InfraError` when it cannot start; nothing is left
    running then.
    """
    prepare_directory(settings.data)
    with hold(settings.data, say) as lock:
        # One that was killed leaves its addresses; nobody must take them for ours.
        (settings.data / FILE_NAME).unlink(missing_ok=True)
        named = (*settings.catalogues, *settings.clients)
        catalogue = join_files(named, settings.data / JOINED_NAME)
        load_catalogue(catalogue)
        port = settings.port or free_port(settings.host)
        check_port(settings.host, port)
        refusal = keyless.why_not(settings.host, settings.data / KEYS_NAME)
        if refusal is not None:
            raise UpError(refusal)
        store = settings.store or settings.data / "store.sqlite3"
        meters = MetricMeters(settings.data, catalogue, store, say=say)
        meters.join()
        return _Machine(settings, meters, port, say, lock).run()


class _Machine:
    """One run of `up`, with the directory held."""

    def __init__(
        self,
        settings: UpSettings,
        meters: MetricMeters,
        port: int,
        say: Callable[[str], None],
        lock: IO[str],
    ) -> None:
        self._settings = settings
        self._meters = meters
        self._port = port
        self._say = say
        self._lock = lock
        self._logs = settings.data / "logs"
        self._metrics: dict[int, tuple[str, int]] = {}
        self._lifeline = Lifeline()
        self._supervisor = Supervisor(say=say, changed=self._note, policy=settings.policy)

    def run(self) -> int:
        supervisor = self._supervisor
        self._logs.mkdir(exist_ok=True)
        try:
            with supervisor.signals():
                try:
                    return self._run()
                except StopRequested:
                    return 0
                finally:
                    (self._settings.data / FILE_NAME).unlink(missing_ok=True)
                    if supervisor.has_parts:
                        self._say("stopping")
                    supervisor.stop()
                    (self._settings.data / "processes.json").unlink(missing_ok=True)
        finally:
            self._lifeline.close()

    def _run(self) -> int:
        bootstrap = self._settings.bootstrap_servers or self._start_broker()
        self._ensure_topics(bootstrap)
        for number in range(1, self._settings.workers + 1):
            self._start(_worker_name(number), partial(self._worker, bootstrap, number))
        self._start("serve", partial(self._serve, bootstrap))
        if self._settings.webhook:
            self._start("notices", lambda: ["notices", "--bootstrap", bootstrap])
        if not self._wait_until_ready():
            return 1
        if self._supervisor.stop_requested:
            return 0
        url = f"http://{in_url(reachable(self._settings.host))}:{self._port}"
        write_connection(self._settings.data, Connection(bootstrap, url))
        self._tell(bootstrap, url)
        return self._watch()

    def _watch(self) -> int:
        """Go on until a signal comes; when metrics change, workers start again with them."""
        workers = [_worker_name(number) for number in range(1, self._settings.workers + 1)]
        while self._supervisor.watch(until=self._meters.changed):
            if self._supervisor.stop_requested:
                return 0
            self._say("Unimeter's metrics changed: the workers start again")
            with self._supervisor.paused(workers):
                self._meters.join()
        return 1

    def _start_broker(self) -> str:
        # Imported here: with an external broker none of it is needed.
        from meterstream_infra.broker import EmbeddedBroker  # noqa: PLC0415

        log = self._logs / "broker.log"
        broker = EmbeddedBroker(self._settings.data / "broker", progress=self._say, log=log)
        runner = BrokerRunner(broker, log, patience_seconds=LEFTOVER_SECONDS)
        self._supervisor.start("broker", runner)
        return broker.bootstrap_servers

    def _ensure_topics(self, bootstrap: str) -> None:
        # Imported here: Kafka's client takes its time, and mistakes above need not wait for it.
        from meterstream_infra.topics import ensure_topics  # noqa: PLC0415

        ensure_topics(
            bootstrap, partitions=self._settings.partitions, events_topic=self._settings.topic
        )

    def _start(self, name: str, arguments: Callable[[], Sequence[str]]) -> None:
        runner = ChildProcess(
            lambda: [sys.executable, "-m", "meterstream_services.cli.main", *arguments()],
            log=self._logs / f"{name}.log",
            lifeline=self._lifeline,
            inherited=(self._lock.fileno(),),
        )
        self._supervisor.start(name, runner)

    def _worker(self, bootstrap: str, number: int) -> Sequence[str]:
        settings = self._settings
        host, port = settings.metrics or ("127.0.0.1", 0)
        # A port of our choice is chosen anew at each start: somebody may have taken the last one.
        port = port + number - 1 if port else free_port(host)
        self._metrics[number] = (host, port)
        arguments = [
            "worker",
            *("--bootstrap", bootstrap),
            *("--topic", settings.topic),
            *self._store(),
            *("--accounts", str(settings.data / "accounts.sqlite3")),
            *("--catalogue", str(self._meters.catalogue)),
            *("--instance", f"worker-{number}"),
            *("--metrics", f"{in_url(host)}:{port}"),
        ]
        if settings.registry_url:
            arguments += ["--registry-url", settings.registry_url]
        return arguments

    def _store(self) -> Sequence[str]:
        """How a process is told of the store; its password never stands among arguments."""
        store = self._settings.store or self._settings.data / "store.sqlite3"
        if isinstance(store, Path):
            return ("--store", str(store))
        os.environ["METERSTREAM_STORE"] = store.full()
        return ()

    def _serve(self, bootstrap: str) -> Sequence[str]:
        settings = self._settings
        arguments = [
            "serve",
            *("--http", f"{in_url(settings.host)}:{self._port}"),
            *self._store(),
            *("--accounts", str(settings.data / "accounts.sqlite3")),
            *("--keys", str(settings.data / KEYS_NAME)),
            *("--book", str(settings.data / "clients.sqlite3")),
            *("--bootstrap", bootstrap),
            *("--topic", settings.topic),
            *("--spool", str(settings.data / "spool")),
        ]
        if settings.registry_url:
            arguments += ["--registry-url", settings.registry_url]
        for text in settings.unimeter:
            arguments += ["--unimeter", text]
        for name in settings.hosts:
            arguments += ["--known-host", name]
        for text in settings.limits:
            arguments += ["--limit", text]
        return arguments

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + READY_SECONDS

        def ready_or_late() -> bool:
            addresses = [
                (self._settings.host, self._port),
                *(at for number, at in self._metrics.items() if not self._is_held(number)),
            ]
            return time.monotonic() > deadline or all(is_ready(*address) for address in addresses)

        if not self._supervisor.watch(until=ready_or_late):
            return False
        if not self._supervisor.stop_requested and time.monotonic() > deadline:
            raise UpError(
                f"not ready within {READY_SECONDS:g} s; the logs are in {self._logs}, the end of "
                f"worker.log{tail_of(self._logs / 'worker.log')}"
            )
        return True

    def _is_held(self, number: int) -> bool:
        """A worker that a flood of dead letters stopped: what it says must not be waited for."""
        return self._supervisor.is_held(_worker_name(number))

    def _tell(self, bootstrap: str, url: str) -> None:
        data = self._settings.data
        workers = "".join(
            f"                 http://{in_url(reachable(host))}:{port}/metrics   (worker)\n"
            for host, port in self._metrics.values()
        )
        ports = "".join(f"  Unimeter       {text}   (TCP)\n" for text in self._settings.unimeter)
        kind = "external" if self._settings.bootstrap_servers else "embedded Kafka"
        self._say(
            f"ready\n"
            f"  API            {url}/v1/usage   (documentation: {url}/docs)\n"
            f"  health         {url}/health/ready\n"
            f"  metrics        {url}/metrics\n{workers}{ports}"
            f"  broker         {bootstrap}   ({kind})\n"
            f"  keys           {keyless.told(data / KEYS_NAME, data)}\n"
            f"  logs           {self._logs}\n"
            f"  ask            meterstream status --data {data}\n"
            f"  record         METERSTREAM_DATA={data.absolute()} in your service's environment\n"
            f"Ctrl-C stops everything."
        )

    def _note(self, processes: Mapping[str, int]) -> None:
        path = self._settings.data / "processes.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"up": os.getpid(), **processes}) + "\n", "utf-8")
        partial.replace(path)


def _worker_name(number: int) -> str:
    return "worker" if number == 1 else f"worker-{number}"
