"""What a campaign against the gateway runs: broker, worker, gateway and clients, and their logs.

Whatever is killed here is seen to be dead, and counted: a fault that did not happen proves nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from meterstream import Meter
from meterstream_consumers import worker
from meterstream_consumers.settings import WorkerSettings
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics
from meterstream_services.listening import free_port
from tests.campaign import door_clients as clients
from tests.integration.serve_process import Serve
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.process import BaseProcess
    from types import TracebackType

LONG: Final = 180.0
TOPIC: Final = "door.events"
TYPES: Final = {
    "api.request": "native", "stripemeter.usage": "stripe", "agentmeter.api_request": "agent",
    "climeter.call": "cli", "unimeter.event": "uni",
}  # fmt: skip
"""Types of events and the meters that count them."""
_END_SECONDS: Final = 30


class Bounds(NamedTuple):
    """How gateway and worker are set up; None is the gateway's own default.

    ``session_seconds``: after how long the group gives a silent worker up. Short, it loses the
    group with every halted broker.
    """

    spool_bytes_max: int = 1 << 30
    patience_seconds: float | None = None
    session_seconds: int = 6


class Gateway(Serve):
    """A gateway that knows how it ended."""

    def start(self) -> None:
        """As `Serve.start`, which gives up after a minute: on a busy machine that is too soon."""
        try:
            super().start()
        except AssertionError:
            eventually(self._answers, timeout_seconds=LONG)

    @property
    def died_of(self) -> int | None:
        """The signal that ended it."""
        status = None if self._process is None else self._process.poll()
        return None if status is None else -status

    def spooled(self) -> int:
        """Events in its spool that the log does not have yet."""
        return int(self.metric("meterstream_gateway_spool_events"))

    def adopted(self) -> int:
        """Events that it sent from spools of dead gateways."""
        return int(self.metric("meterstream_gateway_adopted_events"))


class Worker:
    """A worker in a process of its own, with a log of its own."""

    def __init__(self, settings: WorkerSettings, output: Path) -> None:
        self._settings: Final = settings
        self._output: Final = output
        self._process: BaseProcess | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it runs. It ends by itself where it finds no broker at its start."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start it, or another one in its place."""
        self.stop()
        told = (self._settings, self._output)
        self._process = multiprocessing.get_context("spawn").Process(target=_work, args=told)
        self._process.start()

    def kill(self) -> int | None:
        """SIGKILL; the signal that ended it."""
        process = self._process
        assert process is not None
        process.kill()
        process.join()
        return None if process.exitcode is None else -process.exitcode

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        process.join(_END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _work(settings: WorkerSettings, output: Path) -> int:
    with output.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return worker.run(settings)


class Stack:
    """Broker, worker, gateway and clients of one campaign. Use as a context.

    ``happened`` counts what was done to them.
    """

    def __init__(self, place: Path, seed: int, bounds: Bounds) -> None:
        self.broker: Final = EmbeddedBroker(place / "broker")
        self.happened: Final[Counter[str]] = Counter()
        self.recorded = 0
        self.clients: Final[list[clients.Client]] = []
        self._place: Final = place
        self._seed: Final = seed
        self._bounds: Final = bounds
        self._open: Final = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Told of the problem: what fails while all is ended must not hide it.
        self._open.__exit__(kind, problem, traceback)

    def _start(self) -> None:
        self.broker.start(LONG)
        self._open.callback(self.broker.stop)
        bootstrap = self.broker.bootstrap_servers
        ensure_topics(bootstrap, partitions=4, events_topic=TOPIC)
        self.settings = WorkerSettings(
            bootstrap_servers=bootstrap,
            topic=TOPIC,
            group="door",
            catalogue=self._catalogue(),
            store=self._place / "store.sqlite3",
            session_timeout_seconds=self._bounds.session_seconds,
            # A static member gets its partitions back at once after its death.
            instance="door-worker",
            tick_seconds=0.0,
        )
        self.worker = Worker(self.settings, self._place / "worker.out")
        self._open.callback(self.worker.stop)
        self.worker.start()
        port = free_port("127.0.0.1")
        options = [
            f"--unimeter=127.0.0.1:{port}",
            f"--spool-bytes-max={self._bounds.spool_bytes_max}",
        ]
        if self._bounds.patience_seconds is not None:
            options.append(f"--patience={self._bounds.patience_seconds}")
        self.serve = Gateway(self._place, bootstrap, TOPIC, *options)
        self._open.enter_context(self.serve)
        self._start_clients(port)

    def _start_clients(self, unimeter_port: int) -> None:
        url, seed = self.serve.url, self._seed
        kinds = (
            clients.Native, clients.NativeTimeless, clients.NativeKeyless, clients.CloudEvents,
            clients.StripeMeter, clients.StripeMeterHeader, clients.AgentMeter, clients.CliMeter,
        )  # fmt: skip
        self.clients.extend(kind(url, seed) for kind in kinds)
        self.clients.append(clients.Unimeter(url, seed, port=unimeter_port))
        self.clients.append(clients.UnimeterTimeless(url, seed, port=unimeter_port))
        self.sdk = Meter("campaign", gateway_url=url, api_key="any", durability="spool",
                                spool=self._place / "sdk")  # fmt: skip
        self._open.callback(self.sdk.close, 0)
        journals = self._place / "journals"
        journals.mkdir()
        for client in self.clients:
            client.start(journals / f"{client.tenant}.jsonl")
            self._open.callback(client.close)
            self._open.callback(client.give_up)

    def _catalogue(self) -> Path:
        catalogue = self._place / "meters.yaml"
        meters = "".join(
            f"  - {{name: {name}, type: {kind}, aggregate: count}}\n"
            for kind, name in TYPES.items()
        )
        catalogue.write_text(f"metering_since: 2026-01-01T00:00:00Z\nmeters:\n{meters}", "utf-8")
        return catalogue

    def record(self, count: int) -> None:
        """Events of the SDK, which comes by the gateway too."""
        for _ in range(count):
            self.recorded += self.sdk.record(
                "api.request", tenant="sdk", attributes={"name": str(self.recorded)}
            )

    def kill_gateway(self) -> None:
        """SIGKILL."""
        self.serve.kill()
        assert self.serve.died_of == signal.SIGKILL, self.serve.died_of
        self.happened["gateway killed"] += 1

    def kill_broker(self) -> None:
        """SIGKILL."""
        self.broker.kill()
        assert self.broker.pid is None
        self.happened["broker killed"] += 1

    def kill_worker(self) -> None:
        """SIGKILL, if it did not end by itself for want of a broker."""
        if self.worker.is_alive and self.worker.kill() == signal.SIGKILL:
            self.happened["worker killed"] += 1

    @contextmanager
    def halted(self) -> Generator[None]:
        """The broker answers nothing inside the block."""
        process = self.broker.pid
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        try:
            eventually(lambda: _state(process) == "T")
            self.happened["broker halted"] += 1
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    def left_in_spools(self) -> int:
        """Spools on disk, that of the living gateway included."""
        spool = self._place / "spool"
        return sum(each.is_dir() for each in spool.iterdir()) if spool.exists() else 0


def _state(process: int) -> str:
    """What the kernel calls the state of a process: T where it is stopped."""
    status = Path(f"/proc/{process}/stat").read_text("utf-8")
    return status.rpartition(") ")[2][:1]
