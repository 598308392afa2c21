"""What a campaign runs on: broker, database, networks between, workers and producers, all real.

Workers and producers are processes of their own. The broker has a listener for each worker and one
for the producers, whose addresses are those of proxies: nobody has a way around them.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from meterstream_infra import ports
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.database import EmbeddedDatabase
from meterstream_infra.errors import InfraError
from meterstream_infra.topics import ensure_topics
from tests.campaign.producer import Orders
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    import random

WORKERS: Final = 3
PRODUCERS: Final = 3
PARTITIONS: Final = 4
TOPIC: Final = "campaign.events"
LETTERS: Final = "meterstream.deadletters"
METERS: Final = Path(__file__).with_name("meters.yaml")
_COMMAND: Final = Path(sys.executable).with_name("meterstream")
_FAULT: Final = b"a fault in meterstream itself"
_STOP_SECONDS: Final = 120.0
_ADOPT_SECONDS: Final = 300.0
_WORKING_SECONDS: Final = 60.0
_RESTART_SECONDS: Final = 60.0
_BROKER_SECONDS: Final = 300.0


class ProxiedBroker(EmbeddedBroker):
    """The embedded broker with further listeners, each of which is advertised as a proxy's port."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._behind: Final[list[tuple[int, int]]] = []

    def listen(self, port: int, advertised: int) -> None:
        """One more listener, from the next start on."""
        self._behind.append((port, advertised))

    def _choose_ports(self) -> None:
        super()._choose_ports()
        path = self.data / "server.properties"
        lines: list[str] = []
        for line in path.read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            for number, (port, advertised) in enumerate(self._behind):
                if name == "listeners":
                    value += f",BEHIND{number}://127.0.0.1:{port}"
                elif name == "advertised.listeners":
                    value += f",BEHIND{number}://127.0.0.1:{advertised}"
                elif name == "listener.security.protocol.map":
                    value += f",BEHIND{number}:PLAINTEXT"
            lines.append(f"{name}={value}\n")
        path.write_text("".join(lines), "utf-8")


class Stack:
    """Everything of one campaign under one directory. Use as a context."""

    def __init__(self, place: Path, store: str, chance: random.Random, rate: int) -> None:
        self.place: Final = place
        self.chance: Final = chance
        self.rate: Final = rate
        self._kind: Final = store
        self._open: Final = ExitStack()
        self.broker: Final = ProxiedBroker(place / "broker")
        self.database: EmbeddedDatabase | None = None
        self.networks: Final[dict[str, Proxy]] = {}
        self.workers: Final[dict[int, subprocess.Popen[bytes]]] = {}
        self.producers: Final[dict[int, subprocess.Popen[bytes]]] = {}
        self.journals: Final = place / "journals"
        self.spool: Final = place / "spool"
        self._said: Final = place / "said"
        self._told_before: Final[dict[int, int]] = {}
        """By worker, how long its log was when it was started."""
        self._adopters: Final[list[subprocess.Popen[bytes]]] = []
        self.killed: Final[Counter[str]] = Counter()
        """How many died by force, by kind."""
        self.lives = 0
        """How many producers there were."""
        self.gave_up: Final[Counter[str]] = Counter()
        """How many workers ended by themselves, by exit status."""
        self.command: Final = _COMMAND

    def __enter__(self) -> Self:
        for directory in (self.journals, self._said):
            directory.mkdir(parents=True)
        try:
            self._begin()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers.values(), *self.producers.values(), *self._adopters]:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self._open.close()

    @property
    def store(self) -> str:
        """The store's own address, past every proxy."""
        return self._store_at(None)

    def _begin(self) -> None:
        for name in [*(f"worker-{number}" for number in range(WORKERS)), "producers"]:
            port = ports.draw_free_port()
            proxy = self._open.enter_context(Proxy(port))
            self.networks[name] = proxy
            self.broker.listen(port, proxy.port)
        self.start_broker()
        self._open.callback(self.broker.stop)
        ensure_topics(self.broker.bootstrap_servers, partitions=PARTITIONS, events_topic=TOPIC)
        if self._kind == "postgres":
            self.database = EmbeddedDatabase(self.place / "database")
            self.database.start()
            self._open.callback(self.database.stop)
            port = int(self.database.url.rpartition(":")[2].partition("/")[0])
            for number in range(WORKERS):
                self.networks[f"store-{number}"] = self._open.enter_context(Proxy(port))
            subprocess.run([str(_COMMAND), "migrate", "--store", self.store], check=True)
        for number in range(WORKERS):
            self.start_worker(number)
        for number in range(PRODUCERS):
            self.start_producer(number)

    def start_worker(self, number: int, *, tick_seconds: float = 1.0) -> None:
        """Start a worker. All but the last keep their name in the group over restarts."""
        command = [
            str(_COMMAND), "worker", "--catalogue", str(METERS), "--topic", TOPIC,
            "--bootstrap", f"127.0.0.1:{self.networks[f'worker-{number}'].port}",
            "--store", self._store_at(number), "--group", "campaign",
            "--tick-seconds", str(tick_seconds), "--log-json",
        ]  # fmt: skip
        if number < WORKERS - 1:
            command += ["--instance", f"worker-{number}"]
        said = self._said / f"worker-{number}.log"
        self._told_before[number] = said.stat().st_size if said.exists() else 0
        self.workers[number] = self._start(f"worker-{number}", command)

    def a_working_worker(self) -> int:
        """One of those that have taken a partition since they were started, waiting for it."""
        deadline = time.monotonic() + _WORKING_SECONDS
        while True:
            working = [number for number in self.workers if self._is_working(number)]
            if working or time.monotonic() > deadline:
                return self.chance.choice(working or [*self.workers])
            time.sleep(0.1)

    def _is_working(self, number: int) -> bool:
        with (self._said / f"worker-{number}.log").open("rb") as said:
            said.seek(self._told_before[number])
            return b"took partition" in said.read() and self.workers[number].poll() is None

    def start_producer(
        self, number: int, *, spool: Path | None = None, adopt: bool = False
    ) -> None:
        """Start a producer under a new tag, with a journal of its own."""
        self.lives += 1
        tag = f"p{self.lives:04d}"
        orders = Orders(
            servers=f"127.0.0.1:{self.networks['producers'].port}",
            topic=TOPIC,
            spool=str(spool or self.spool),
            journal=str(self.journals / f"{tag}.journal"),
            tag=tag,
            seed=self.chance.randrange(2**31),
            rate=max(1, self.rate // PRODUCERS),
            durability=self.chance.choice(("spool", "spool", "fsync")),
            adopt=adopt,
        )
        command = [sys.executable, "-m", "tests.campaign.producer", json.dumps(orders)]
        self.producers[number] = self._start(f"producer-{number}", command)

    def stop_producers(self) -> None:
        """End all producers in order; then one sends what the dead left behind."""
        for process in self.producers.values():
            process.terminate()
        for number, process in self.producers.items():
            end(f"producer {number}", process)
        self.producers.clear()
        self.adopt_meanwhile(self.spool)
        for process in self._adopters:
            if process.wait(_ADOPT_SECONDS):
                raise AssertionError("what the dead left could not be sent")

    def adopt_meanwhile(self, spool: Path) -> None:
        """A process that sends everything that is left in a spool's directory, and ends."""
        self.start_producer(-1, spool=spool, adopt=True)
        self._adopters.append(self.producers.pop(-1))

    def stop_workers(self) -> None:
        """End all workers in order."""
        for process in self.workers.values():
            process.terminate()
        for number, process in self.workers.items():
            end(f"worker {number}", process)
        self.workers.clear()

    def supervise(self) -> None:
        """Start workers again that gave up, as whatever runs them does. A producer never may.

        Raises `AssertionError` when one met a fault of its own rather than one of ours.
        """
        for number, process in self.workers.items():
            if process.poll() is not None:
                self.gave_up[f"worker with status {process.returncode}"] += 1
                self.start_worker(number)
        if ended := [n for n, process in self.producers.items() if process.poll() is not None]:
            raise AssertionError(f"producers {ended} ended by themselves")
        for said in self._said.iterdir():
            if _FAULT in said.read_bytes() or b"Traceback" in said.read_bytes():
                raise AssertionError(f"{said} tells of a fault in meterstream")

    def kill(self, pid: int) -> None:
        """SIGKILL to the database's first process."""
        os.kill(pid, signal.SIGKILL)

    def start_broker(self) -> None:
        """Start the broker; a busy machine takes its time."""
        self.broker.start(_BROKER_SECONDS)

    def start_database(self) -> None:
        """Start the database, once those that a dead one left behind are gone."""
        assert self.database is not None
        deadline = time.monotonic() + _RESTART_SECONDS
        while True:
            try:
                self.database.start()
            except InfraError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def wait_until_caught_up(self, seconds: float, *, at_least: int = 0) -> float:
        """Until all that the log holds now is folded; how long that took."""
        began = time.monotonic()
        ends = self._ends()
        while sum(ends.values()) < at_least:
            time.sleep(0.1)
            ends = self._ends()
        while True:
            folded = self._ask("SELECT partition, coalesce(next_offset, 0) FROM position")
            behind = {p: end - folded.get(p, 0) for p, end in ends.items()}
            if all(events <= 0 for events in behind.values()):
                return time.monotonic() - began
            self.supervise()
            if time.monotonic() - began > seconds:
                raise AssertionError(f"after {seconds} s the workers are behind by {behind}")
            time.sleep(0.1)

    def wait_until_told(self, seconds: float) -> None:
        """Until no dead letter waits to leave."""
        deadline = time.monotonic() + seconds
        while waiting := self._ask("SELECT 0, count(*) FROM outbox").get(0, 1):
            if time.monotonic() > deadline:
                raise AssertionError(f"{waiting} messages do not leave the outbox")
            time.sleep(0.1)

    def _ends(self) -> dict[int, int]:
        """Where the log ends now; asked again while the broker is only just there."""
        deadline = time.monotonic() + _RESTART_SECONDS
        consumer = Consumer(
            {"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "campaign-watch"}
        )
        try:
            while True:
                try:
                    return {
                        p: consumer.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=10)[1]
                        for p in range(PARTITIONS)
                    }
                except KafkaException:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
        finally:
            consumer.close()

    def _ask(self, question: str) -> dict[int, int]:
        """Pairs of numbers, as the store has them; nothing while it cannot be asked."""
        try:
            if self.database is None:
                lite = sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=10)
                try:
                    return dict(lite.execute(question).fetchall())
                finally:
                    lite.close()
            with psycopg.connect(self.plain_url, connect_timeout=3) as postgres:
                postgres.execute("SET search_path TO campaign")
                return dict(postgres.execute(question.encode()).fetchall())
        except (sqlite3.Error, psycopg.Error):
            return {}

    @property
    def plain_url(self) -> str:
        """The database's own address, as libpq takes it."""
        assert self.database is not None
        return self.database.url

    def _store_at(self, number: int | None) -> str:
        if self.database is None:
            return str(self.place / "store.sqlite3")
        url = self.database.url
        if number is not None:
            head, _, tail = url.rpartition(":")
            url = f"{head}:{self.networks[f'store-{number}'].port}/{tail.partition('/')[2]}"
        return f"{url}?schema=campaign&connect_timeout=3"

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._said / f"{name}.log").open("ab") as said:
            return subprocess.Popen(
                command,
                cwd=Path(__file__).resolve().parents[2],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )


def end(name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for an end in order. One that had only just begun may not know how to do that yet."""
    began = time.monotonic()
    try:
        status = process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{name} does not end by SIGTERM") from None
    if status not in {0, -signal.SIGTERM}:
        raise AssertionError(
            f"{name} ended with {status} after {time.monotonic() - began:.1f} s of SIGTERM"
        )
