"""What the log comes to: one slow walk over its records, event by event, by what was intended.

An event counts once per *intent*, however it is numbered: the first record of it in the log counts,
whatever tells it again is a repeat. This is not how a worker tells repeats (by numbers), so a fault
in numbering cannot hide here. Along the way the numbers are checked as well: one number stands for
one event, in one partition.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import fastavro
from fastavro.types import Schema

from tests.campaign.verifier.charging import Sessions
from tests.campaign.verifier.journals import Identity
from tests.campaign.verifier.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.campaign.verifier.journals import Journals
    from tests.campaign.verifier.records import Record
    from tests.campaign.verifier.rules import Rules

POISON: Final = "campaign-poison"
"""The header of records that are no events: the reason under which each must be refused."""
BOUNDARIES: Final = frozenset({"SESSION_START", "SESSION_HEARTBEAT", "SESSION_END"})
COUNTED, VOIDED, AWAITED = 0, 1, 2
_FRAMING: Final = 5


class Finding(NamedTuple):
    """One thing that is not as it must be."""

    what: str
    detail: str


@dataclass
class Incarnation:
    """What one partition was told by one producer."""

    counted: int = 0
    duplicates: int = 0
    refused: int = 0
    last_append: int = 0
    closed: bool = False
    numbers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    claimed: dict[int, int] = field(default_factory=dict[int, int])


@dataclass
class Tally:
    """What one partition holds."""

    appended: int = 0
    counted: int = 0
    duplicates: int = 0
    refused: int = 0


class KnownKey(NamedTuple):
    """What became of a caller's key, and by which event."""

    state: int
    id: str
    log_time: int
    time: int


class Walk:
    """The walk, and what was found on it."""

    def __init__(self, rules: Rules, journals: Journals, schema: Path) -> None:
        self._rules: Final = rules
        self._journals: Final = journals
        self._schema: Final = _plain_schema(schema)
        self.usage: Final = Usage(rules)
        self.sessions: Final = Sessions(rules, self.usage)
        self.findings: list[Finding] = []
        self.tallies: dict[int, Tally] = defaultdict(Tally)
        self.incarnations: dict[tuple[int, str], Incarnation] = defaultdict(Incarnation)
        self.seen: dict[Identity, str] = {}
        """What became of each event: counted or a reason."""
        self.letters: dict[tuple[int, int], tuple[str, int, bytes | None]] = {}
        """By place: the reason, the append time and the bytes of what must be a dead letter."""
        self.keys: dict[tuple[int, str, str], KnownKey] = {}
        self.refused_numbers: set[tuple[int, str, int, int]] = set()
        self.places: dict[tuple[int, int], tuple[str, int, int]] = {}
        self.records = 0
        self._number_of: dict[tuple[str, int, int], tuple[Identity, int]] = {}
        self._numbers: Counter[Identity] = Counter()

    def take(self, records: Iterable[Record]) -> None:
        """Walk over all records: by partition, in order."""
        for record in records:
            self.records += 1
            tally = self.tallies[record.partition]
            tally.appended = max(tally.appended, record.append_time)
            if POISON in record.headers:
                self._refuse(record, record.headers[POISON], tally.appended)
                continue
            value = record.value or b""
            try:
                event: Any = fastavro.schemaless_reader(
                    io.BytesIO(value[_FRAMING:]), self._schema, None
                )
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is no event
                self._find("phantom", f"{_place(record)} is no event: {problem}")
                continue
            self._event(record, event, tally.appended)
        for partition, tally in self.tallies.items():
            self.sessions.end(partition, tally.appended)

    def numbers_of(self, identity: Identity) -> int:
        """Under how many numbers an event was sent."""
        return self._numbers[identity]

    def _event(self, record: Record, event: dict[str, Any], log_time: int) -> None:
        if event["kind"] == "MARK":
            self._mark(record, event, log_time)
            return
        own = event["time"] if event["kind"] == "SESSION_HEARTBEAT" else 0
        identity = Identity(event["attributes"].get("id", ""), event["kind"], own)
        if self._is_intended(record, event, identity):
            if event["producer"]:
                self._number(record, event, identity, log_time)
            self._judge(record, event, identity, log_time)

    def _number(
        self, record: Record, event: dict[str, Any], identity: Identity, log_time: int
    ) -> None:
        """What an event is numbered, and whether nothing else is."""
        number = (event["producer"], event["lane"], event["sequence"])
        self.places[record.partition, record.offset] = number
        if number not in self._number_of:
            self._numbers[identity] += 1
        known = self._number_of.setdefault(number, (identity, record.partition))
        if known[0] != identity:
            self._find("altered", f"{number} tells of {known[0]} and of {identity}")
        if known[1] != record.partition:
            self._find("moved", f"{number} is in partitions {known[1]} and {record.partition}")
        producer = self.incarnations[record.partition, event["producer"]]
        producer.last_append = log_time
        producer.numbers[event["lane"]].add(event["sequence"])

    def _judge(
        self, record: Record, event: dict[str, Any], identity: Identity, log_time: int
    ) -> None:
        foreign = not event["producer"]
        of = record.partition, event["producer"]
        producer = Incarnation() if foreign else self.incarnations[of]
        tally = self.tallies[record.partition]
        known = identity in self.seen and not foreign
        outcome = "repeat" if known else self._outcome(record, event, log_time)
        if outcome == "repeat":
            tally.duplicates += 1
            producer.duplicates += 1
            return
        if outcome in {"count", "take back", "wait"}:
            self.seen[identity] = "counted"
            tally.counted += 1
            producer.counted += 1
        else:
            self.seen[identity] = outcome
            producer.refused += 1
            self.refused_numbers.add(
                (record.partition, event["producer"], event["lane"], event["sequence"])
            )
            self._refuse(record, outcome, log_time)
            return
        if event["kind"] in BOUNDARIES:
            self.sessions.take(record.partition, event, log_time)
        elif outcome != "wait":
            sign = 1 if outcome == "count" else -1
            self.usage.take(record.partition, record.offset, event, log_time, sign)

    def _outcome(self, record: Record, event: dict[str, Any], log_time: int) -> str:
        boundary = event["kind"] in BOUNDARIES
        read_by = self._rules.sessions if boundary else self._rules.usage
        if not read_by(event["type"]):
            return "unknown_type"
        if event["key"] is None:
            return "count"
        place = (record.partition, event["tenant"], event["key"])
        known, void = self.keys.get(place), event["kind"] == "VOID"
        if known is not None and known.id != event["attributes"]["id"]:
            return "key_conflict"
        if known is None:
            outcome, state = ("wait", AWAITED) if void else ("count", COUNTED)
        elif known.state == COUNTED and void:
            outcome, state = "take back", VOIDED
        elif known.state == AWAITED and not void:
            outcome, state = "wait", VOIDED
        else:
            return "repeat"
        self.keys[place] = KnownKey(state, event["attributes"]["id"], log_time, event["time"])
        return outcome

    def _mark(self, record: Record, event: dict[str, Any], log_time: int) -> None:
        name = event["producer"]
        if not name:
            return
        if name not in self._journals.producers:
            self._find("phantom", f"{_place(record)} is a mark of nobody known, {name!r}")
        producer = self.incarnations[record.partition, name]
        producer.last_append = log_time
        producer.closed = producer.closed or event["attributes"].get("closing") == "true"
        lane, claimed = event["lane"], event["sequence"]
        producer.claimed[lane] = max(claimed, producer.claimed.get(lane, 0))

    def _is_intended(self, record: Record, event: dict[str, Any], identity: Identity) -> bool:
        """Whether somebody meant this, and just this."""
        pulse = identity.kind == "SESSION_HEARTBEAT" and identity.id in self._journals.pulses
        meant = self._journals.intents.get(
            identity if not pulse else Identity(identity.id, "SESSION_START")
        )
        if meant is None or (
            event["producer"] not in ({""} if meant.is_foreign else self._journals.producers)
        ):
            self._find("phantom", f"{_place(record)} tells of {identity}, which nobody meant")
            return False
        if record.key != event["tenant"].encode():
            self._find("moved", f"{_place(record)} has the key {record.key!r}")
        said = (
            event["tenant"], event["type"], Fraction(event["quantity"], 10 ** event["scale"]),
            event["session"], event["subject"], event["attributes"], event["key"],
        )  # fmt: skip
        amount = Fraction(meant.quantity, 10**meant.scale)
        if said != (*meant[1:3], amount, *meant[7:]) or not (
            meant.time <= event["time"] <= (meant.time if meant.until is None else meant.until)
        ):
            self._find("altered", f"{_place(record)} tells {event}, and meant was {meant}")
        return True

    def _refuse(self, record: Record, reason: str, log_time: int) -> None:
        self.tallies[record.partition].refused += 1
        self.letters[record.partition, record.offset] = (reason, log_time, record.value)

    def _find(self, what: str, detail: str) -> None:
        self.findings.append(Finding(what, detail))


def _place(record: Record) -> str:
    return f"record {record.offset} of partition {record.partition}"


def _plain_schema(path: Path) -> Schema:
    """The schema of the file, with times left as the numbers they are."""
    content = json.loads(path.read_text("utf-8"))
    for told in content["fields"]:
        if isinstance(told["type"], dict) and "logicalType" in told["type"]:
            told["type"] = told["type"]["type"]
    return fastavro.parse_schema(content)
