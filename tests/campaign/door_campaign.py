"""Kill the gateway, its broker and its worker under load, and count what came through.

``python -m tests.campaign.door_campaign --cycles 20``. Clients of all kinds send while things die.
At the end what they were told is compared with the topic, which is counted here anew (once each
producer's number, once each key), and with the figures of the store.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from meterstream import Meter
from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.settings import WorkerSettings
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics
from meterstream_schemas.events import EventKind
from meterstream_services.listening import free_port
from tests.campaign import door_clients as clients
from tests.integration.counting import positions
from tests.integration.reading_topic import read_topic
from tests.integration.serve_process import Serve
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from meterstream_schemas.events import MeterEvent

LONG: Final = 180.0
_TOPIC: Final = "door.events"
_TYPES: Final = {
    "api.request": "native", "stripemeter.usage": "stripe", "agentmeter.api_request": "agent",
    "climeter.call": "cli", "unimeter.event": "uni",
}  # fmt: skip
_NAMES: Final = ("name", "metadata.name", "meta.name", "property.name")


class Result(NamedTuple):
    """What came of a campaign; no finding, no fault."""

    findings: list[str]
    faults: Counter[str]
    lines: list[str]


class Stack:
    """Broker, worker, gateway and clients of one campaign. Use as a context."""

    def __init__(self, place: Path, seed: int, spool_bytes_max: int) -> None:
        self.broker: Final = EmbeddedBroker(place / "broker")
        self._place: Final = place
        self._seed: Final = seed
        self._spool_bytes_max: Final = spool_bytes_max
        self._open: Final = ExitStack()
        self._worker: Final = ExitStack()

    def __enter__(self) -> Self:
        self.broker.start(LONG)
        self._open.callback(self.broker.stop)
        bootstrap = self.broker.bootstrap_servers
        ensure_topics(bootstrap, partitions=4, events_topic=_TOPIC)
        catalogue = self._place / "meters.yaml"
        meters = "".join(
            f"  - {{name: {name}, type: {kind}, aggregate: count}}\n"
            for kind, name in _TYPES.items()
        )
        catalogue.write_text(f"metering_since: 2026-01-01T00:00:00Z\nmeters:\n{meters}", "utf-8")
        self.settings = WorkerSettings(
            bootstrap_servers=bootstrap,
            topic=_TOPIC,
            group="door",
            catalogue=catalogue,
            store=self._place / "store.sqlite3",
            session_timeout_seconds=6,
            tick_seconds=0.0,
        )
        self._open.enter_context(self._worker)
        self.worker = self._worker.enter_context(running_worker(self.settings))
        port = free_port("127.0.0.1")
        options = ("--unimeter", f"127.0.0.1:{port}")
        bound = f"--spool-bytes-max={self._spool_bytes_max}"
        self.serve = Serve(self._place, bootstrap, _TOPIC, *options, bound)
        self._open.enter_context(self.serve)
        url, seed = self.serve.url, self._seed
        kinds = (
            clients.Native, clients.NativeTimeless, clients.NativeKeyless, clients.CloudEvents,
            clients.StripeMeter, clients.StripeMeterHeader, clients.AgentMeter, clients.CliMeter,
        )  # fmt: skip
        self.clients = [
            *(kind(url, seed) for kind in kinds),
            clients.Unimeter(url, seed, port=port),
            clients.UnimeterTimeless(url, seed, port=port),
        ]
        self.sdk = Meter("campaign", gateway_url=url, api_key="any", durability="spool",
                         spool=self._place / "sdk")  # fmt: skip
        self.recorded = 0
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sdk.close(0)
        self._open.close()

    def start_worker(self) -> None:
        """Another worker for the one that died."""
        self._worker.close()
        self.worker = self._worker.enter_context(running_worker(self.settings))

    def record(self, count: int) -> None:
        """Events of the SDK, which comes by the gateway too."""
        for _ in range(count):
            self.recorded += self.sdk.record(
                "api.request", tenant="sdk", attributes={"name": str(self.recorded)}
            )

    @contextmanager
    def halted(self) -> Generator[None]:
        """The broker answers nothing inside the block."""
        process = self.broker.pid
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)


def _killed(stack: Stack, chance: random.Random) -> None:
    stack.serve.kill()
    time.sleep(chance.random())
    stack.serve.start()


def _killed_twice(stack: Stack, chance: random.Random) -> None:
    _killed(stack, chance)
    _killed(stack, chance)


def _killed_while_halted(stack: Stack, chance: random.Random) -> None:
    with stack.halted():
        time.sleep(1 + 3 * chance.random())
        _killed(stack, chance)
        time.sleep(2 * chance.random())


def _ended(stack: Stack, _: random.Random) -> None:
    stack.serve.stop()
    stack.serve.start()


def _ended_while_halted(stack: Stack, chance: random.Random) -> None:
    with stack.halted():
        time.sleep(3 * chance.random())
        stack.serve.stop()
        stack.serve.start()


def _halted(stack: Stack, chance: random.Random) -> None:
    with stack.halted():
        time.sleep(1 + 7 * chance.random())


def _broker_killed(stack: Stack, chance: random.Random) -> None:
    stack.broker.kill()
    time.sleep(chance.random())
    stack.broker.start(LONG)


def _worker_killed(stack: Stack, _: random.Random) -> None:
    stack.worker.kill()
    stack.worker.join()
    stack.start_worker()


FAULTS: Final[dict[str, Callable[[Stack, random.Random], None]]] = {
    "gateway killed": _killed,
    "gateway killed twice": _killed_twice,
    "gateway killed while the broker is halted": _killed_while_halted,
    "gateway ended": _ended,
    "gateway ended while the broker is halted": _ended_while_halted,
    "broker halted": _halted,
    "broker killed": _broker_killed,
    "worker killed": _worker_killed,
}


def run(
    place: Path,
    faults: list[str],
    seed: int,
    say: Callable[[str], None],
    *,
    spool_bytes_max: int = 1 << 30,
) -> Result:
    """These faults in this order, and the judgement."""
    chance = random.Random(seed)
    with Stack(place, seed, spool_bytes_max) as stack:
        for fault in faults:
            stack.record(50)
            time.sleep(0.3 + 0.7 * chance.random())
            say(fault)
            FAULTS[fault](stack, chance)
        for client in stack.clients:
            client.end(LONG)
        findings = [f"{c.tenant}: {said}" for c in stack.clients for said in c.problems]
        if not stack.sdk.flush(LONG):
            findings.append(f"the SDK could not deliver: {stack.sdk.status()}")
        eventually(
            lambda: (
                (
                    stack.serve.metric("meterstream_gateway_spool_events") == 0
                    and not (place / "spool").exists()
                )
                or _left(place / "spool") <= 1
            ),
            timeout_seconds=LONG,
        )
        findings += [
            f"agent: {client.booked()} booked, {len(client.sent)} sent"
            for client in stack.clients
            if isinstance(client, clients.AgentMeter) and client.booked() != len(client.sent)
        ]
        stack.sdk.close(LONG)
        stack.serve.stop()
        if not stack.worker.is_alive():  # It was started while there was no broker.
            stack.start_worker()
        judge = Judge(stack)
        findings += judge.findings()
        return Result(findings, Counter(faults), judge.lines)


def _left(spool: Path) -> int:
    """Spools in a directory, the living one included."""
    return sum(each.is_dir() for each in spool.iterdir())


class Judge:
    """What the topic has, against what clients were told and against the store."""

    def __init__(self, stack: Stack) -> None:
        self._stack: Final = stack
        placed = read_topic(stack.broker.bootstrap_servers, _TOPIC)
        events = [each.event for each in placed if each.event.kind is not EventKind.MARK]
        self.records: Final = len(events)
        numbers = {(each.producer, each.lane, each.sequence): each for each in reversed(events)}
        self._once: Final[dict[str, list[MeterEvent]]] = {}
        for each in numbers.values():
            self._once.setdefault(each.tenant, []).append(each)
        self.lines: Final[list[str]] = []

    def findings(self) -> list[str]:
        """Every way in which figures are not exact."""
        settings = self._stack.settings
        eventually(
            lambda: (
                sum(r.counted + r.duplicates + r.refused for r in positions(settings.store))
                >= self.records
            ),
            timeout_seconds=LONG,
        )
        counted, letters = self._store()
        findings: list[str] = []
        for client in self._stack.clients:
            tenant = _tenant_of(client)
            events = self._once.get(tenant, [])
            found, line = judged(client, events, counted[tenant], letters[tenant])
            findings += found
            self.lines.append(line)
        sdk = len(self._once.get("sdk", []))
        if not self._stack.recorded == sdk == counted.get("sdk"):
            findings.append(f"sdk: {self._stack.recorded}, {sdk} and {counted.get('sdk')}")
        self.lines.append(f"sdk: {sdk} recorded and counted")
        return findings

    def _store(self) -> tuple[Counter[str], Counter[str]]:
        reader = open_reader(self._stack.settings.store)
        with_figures: Counter[str] = Counter()
        try:
            for name in _TYPES.values():
                meter = reader.catalogue().meter(name)
                for tenant in reader.tenants():
                    rows = reader.usage(meter, tenants=[tenant], start=0, end=2**60)
                    with_figures[tenant] += sum(row.events for row in rows)
            return with_figures, Counter(letter.tenant or "" for letter in reader.dead_letters())
        finally:
            reader.close()


def judged(
    client: clients.Client, events: list[MeterEvent], counted: int, letters: int
) -> tuple[list[str], str]:
    """Findings about one client, and a line of figures.

    ``events`` are its tenant's in the topic, each of a producer's numbers once; ``counted`` and
    ``letters`` is what the store has of them.
    """
    tenant, sent = client.tenant, client.sent
    found = Counter(_name(each) for each in events)
    keys = {each.key for each in events if each.key is not None}
    keyless = sum(each.key is None for each in events)
    lost = [s.name for s in sent if s.is_kept and not found[s.name]]
    findings: list[str] = []
    if lost:
        findings.append(f"{tenant}: {len(lost)} acknowledged and missing: {lost[:5]}")
    if counted != len(keys) + keyless:
        told = f"{len(keys)} keys and {keyless} events without in the topic"
        findings.append(f"{tenant}: {counted} counted, {told}")
    if client.has_ids and (keyless or len(keys) != len(sent)):
        findings.append(f"{tenant}: {len(keys)} keys of {len(sent)} events")
    if letters and client.has_times:
        findings.append(f"{tenant}: {letters} dead letters")
    if not client.has_ids:
        # Each sending without an answer may have arrived; one that was answered is one or none.
        findings += [
            f"{tenant}: {s.name} is there {found[s.name]} times: {s}"
            for s in sent
            if found[s.name] > s.is_kept + s.unanswered
        ]
    doubled = 0 if client.has_ids else sum(n - 1 for n in found.values() if n > 1)
    line = (
        f"{tenant}: {len(sent)} events, {sum(s.is_kept for s in sent)} acknowledged, "
        f"{sum(s.tries > 1 for s in sent)} sent again, {len(lost)} lost, {doubled} doubled after "
        f"an answer that was lost, {letters} dead letters"
    )
    return findings, line


def _tenant_of(client: clients.Client) -> str:
    if isinstance(client, clients.CliMeter):
        return f"climeter-{hashlib.sha256(b'campaign').hexdigest()[:16]}"
    return client.tenant


def _name(event: MeterEvent) -> str:
    return next((event.attributes[name] for name in _NAMES if name in event.attributes), "")


def main() -> int:
    """One campaign; exit status 0 without findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.door_campaign")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", action="append", default=[], choices=sorted(FAULTS))
    parser.add_argument("--spool-bytes", type=int, default=1 << 30, help="what the spool may have")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    names = options.only or list(FAULTS)
    faults = [chance.choice(names) for _ in range(options.cycles)]
    place = Path(tempfile.mkdtemp(prefix="door-campaign-"))
    _say(f"--seed {options.seed} --cycles {options.cycles}, in {place}")
    result = run(place, faults, options.seed, _say, spool_bytes_max=options.spool_bytes)
    for line in [
        *result.lines,
        str(dict(result.faults)),
        *map("FINDING: {}".format, result.findings),
    ]:
        _say(line)
    return 1 if result.findings else 0


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    sys.exit(main())
