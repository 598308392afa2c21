"""What the topic has, against what clients were told and against the store."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream_aggregator.store.opening import open_reader
from meterstream_schemas.events import EventKind
from tests.campaign import door_clients as clients
from tests.campaign.door_stack import LONG, TOPIC, TYPES, Stack
from tests.integration.counting import positions
from tests.integration.reading_topic import read_topic
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_schemas.events import MeterEvent
    from tests.integration.reading_topic import Placed

_NAMES: Final = ("name", "metadata.name", "meta.name", "property.name")
_SDK: Final = "sdk"


class Verdict(NamedTuple):
    """About one client: findings, and how many of its events were lost and doubled.

    ``doubled_with_ids``: keys that were counted more than once; ``doubled_without`` is what a
    client without ids may expect after an answer that was lost.
    """

    tenant: str
    findings: list[str]
    events: int
    acknowledged: int
    sent_again: int
    lost: int
    doubled_with_ids: int
    doubled_without: int
    dead_letters: int

    @property
    def line(self) -> str:
        """All of it, to be read."""
        return (
            f"{self.tenant}: {self.events} events, {self.acknowledged} acknowledged, "
            f"{self.sent_again} sent again, {self.lost} lost, "
            f"{self.doubled_with_ids} doubled with ids, "
            f"{self.doubled_without} doubled after an answer that was lost, "
            f"{self.dead_letters} dead letters"
        )


class Judge:
    """Reads the topic at once, and the store as soon as it has all of it."""

    def __init__(self, stack: Stack) -> None:
        self._stack: Final = stack
        self.placed: Final = read_topic(stack.broker.bootstrap_servers, TOPIC)
        events = [each.event for each in self.placed if each.event.kind is not EventKind.MARK]
        self._records: Final = len(events)
        numbers = {(each.producer, each.lane, each.sequence): each for each in reversed(events)}
        self._once: Final[dict[str, list[MeterEvent]]] = {}
        for each in numbers.values():
            self._once.setdefault(each.tenant, []).append(each)
        self.verdicts: Final[list[Verdict]] = []

    def findings(self) -> list[str]:
        """Every way in which figures are not exact."""
        findings: list[str] = []
        try:
            eventually(lambda: self._folded() >= self._records, timeout_seconds=LONG)
        except AssertionError:
            findings.append(f"the worker stands at {self._folded()} of {self._records} records")
        counted, letters = self._store()
        for client in self._stack.clients:
            tenant = tenant_of(client)
            events = self._once.get(tenant, [])
            verdict = judged(client, events, counted[tenant], letters[tenant])
            findings += verdict.findings
            self.verdicts.append(verdict)
        recorded, arrived = self._stack.recorded, len(self._once.get(_SDK, []))
        if not recorded == arrived == counted[_SDK]:
            told = f"{arrived} in the topic, {counted[_SDK]} counted"
            findings.append(f"{_SDK}: {recorded} recorded, {told}")
        self.verdicts.append(
            Verdict(
                _SDK, [], recorded, recorded, 0,
                lost=max(0, recorded - arrived),
                doubled_with_ids=max(0, counted[_SDK] - recorded),
                doubled_without=0,
                dead_letters=letters[_SDK],
            )
        )  # fmt: skip
        return findings

    def _folded(self) -> int:
        rows = positions(self._stack.settings.store)
        return sum(row.counted + row.duplicates + row.refused for row in rows)

    def _store(self) -> tuple[Counter[str], Counter[str]]:
        reader = open_reader(self._stack.settings.store)
        with_figures: Counter[str] = Counter()
        try:
            for name in TYPES.values():
                meter = reader.catalogue().meter(name)
                for tenant in reader.tenants():
                    rows = reader.usage(meter, tenants=[tenant], start=0, end=2**60)
                    with_figures[tenant] += sum(row.events for row in rows)
            return with_figures, Counter(letter.tenant or "" for letter in reader.dead_letters())
        finally:
            reader.close()


def judged(client: clients.Client, events: list[MeterEvent], counted: int, letters: int) -> Verdict:
    """What is to be said of one client.

    ``events`` are its tenant's in the topic, each of a producer's numbers once; ``counted`` and
    ``letters`` is what the store has of them.
    """
    tenant, sent = client.tenant, client.sent
    found = Counter(name_of(each) for each in events)
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
    # Keys of other names, if there are any, are more than one of an event.
    doubled = max(0, counted - len(sent)) if client.has_ids else 0
    return Verdict(
        tenant=tenant,
        findings=findings,
        events=len(sent),
        acknowledged=sum(s.is_kept for s in sent),
        sent_again=sum(s.tries > 1 for s in sent),
        lost=len(lost),
        doubled_with_ids=doubled,
        doubled_without=0 if client.has_ids else sum(n - 1 for n in found.values() if n > 1),
        dead_letters=letters,
    )


def tenant_of(client: clients.Client) -> str:
    """The tenant that the events of a client are metered for."""
    if isinstance(client, clients.CliMeter):
        return f"climeter-{hashlib.sha256(b'campaign').hexdigest()[:16]}"
    return client.tenant


def name_of(event: MeterEvent) -> str:
    """The name that its client gave to an event."""
    return next((event.attributes[name] for name in _NAMES if name in event.attributes), "")


def copies(placed: list[Placed], tenant: str) -> dict[str, list[str]]:
    """Of a tenant's events by name where each record of it lies, and under which number and key."""
    found: dict[str, list[str]] = {}
    for each in placed:
        event = each.event
        if event.tenant == tenant and event.kind is not EventKind.MARK:
            number = f"{event.producer} {event.lane} {event.sequence}"
            place = f"{each.partition} {each.offset}"
            told = f"record {place}, number {number}, key {event.key}, time {event.time}"
            found.setdefault(name_of(event), []).append(told)
    return found
