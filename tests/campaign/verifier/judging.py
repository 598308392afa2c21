"""The judgement: journals against the log, and the log's walk against the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.campaign.verifier.stored import StoredProducer
from tests.campaign.verifier.walking import BOUNDARIES, Finding, Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.campaign.verifier.charging import Facts
    from tests.campaign.verifier.journals import Journals
    from tests.campaign.verifier.records import Record
    from tests.campaign.verifier.stored import Stored
    from tests.campaign.verifier.walking import Incarnation

_HEADERS: Final = ("reason", "detail", "topic", "partition", "offset", "append-time")


class Topics(NamedTuple):
    """What was read of the broker: the name of the events' topic, and where partitions end."""

    name: str
    ends: dict[int, int]


def against_journals(journals: Journals, walk: Walk) -> Iterator[Finding]:
    """Promised events that are not there, and places where something else is."""
    for identity in sorted(journals.promised() - walk.seen.keys()):
        yield Finding("lost", f"{identity} was promised and is nowhere in the log")
    for place, number in sorted(journals.places.items()):
        there = walk.places.get(place)
        if there is None:
            yield Finding("lost", f"{number} was acknowledged at {place}; nothing is there")
        elif there != number:
            yield Finding("altered", f"{number} was acknowledged at {place}; {there} is there")
    for identity in sorted(walk.seen.keys()):
        meant = journals.intents.get(identity)
        repeats = meant is not None and meant.key is not None
        if not repeats and identity.kind not in BOUNDARIES:
            numbers = walk.numbers_of(identity)
            if numbers > 1:
                yield Finding("doubled", f"{identity} was sent under {numbers} numbers")


def against_store(walk: Walk, stored: Stored, topics: Topics) -> Iterator[Finding]:
    """Every table against what the log comes to; nothing more and nothing less."""
    yield from _compare("usage", walk.usage.rows(), stored.usage)
    yield from _compare("item", walk.usage.items, stored.items)
    yield from _compare("session", _sessions(walk), stored.sessions)
    yield from _compare("subject", _subjects(walk), stored.subjects)
    letters = {place: said[:2] for place, said in walk.letters.items()}
    yield from _compare("dead letter", letters, stored.letters)
    keys = {place: (known.state, known.log_time, known.time) for place, known in walk.keys.items()}
    yield from _compare("key", keys, stored.keys)
    told = {key: _producer(each) for key, each in walk.incarnations.items()}
    yield from _compare("producer", told, stored.producers)
    numbers = walk.refused_numbers
    yield from _compare(
        "refused number", dict.fromkeys(numbers, 1), dict.fromkeys(stored.refused_numbers, 1)
    )
    positions = {
        partition: (end, tally.appended, tally.counted, tally.duplicates, tally.refused)
        for partition, end in topics.ends.items()
        if (tally := walk.tallies[partition]).appended
    }
    yield from _compare("position", positions, {p: tuple(r) for p, r in stored.positions.items()})
    if stored.waiting:
        yield Finding("dead letter", f"{stored.waiting} messages have not left the outbox")


def against_letters(walk: Walk, letters: Iterable[Record], topic: str) -> Iterator[Finding]:
    """The dead-letter topic: each at least once, as it was, with its reason; and nothing else."""
    missing = set(walk.letters)
    for letter in letters:
        told = {name: letter.headers.get(f"meterstream-{name}") for name in _HEADERS}
        try:
            place = (int(told["partition"] or ""), int(told["offset"] or ""))
        except ValueError:
            yield Finding("dead letter", f"one says no place: {letter.headers}")
            continue
        known = walk.letters.get(place)
        if known is None or told["topic"] != topic:
            yield Finding("dead letter", f"{place} of {told['topic']} must not be one")
            continue
        missing.discard(place)
        reason, _, value = known
        if told["reason"] != reason or not told["detail"]:
            yield Finding("dead letter", f"{place} says {told}, and should {reason}")
        if letter.value != value:
            yield Finding("dead letter", f"{place} is not what the log holds there")
        if letter.key != f"{place[0]}-{place[1]}".encode():
            yield Finding("dead letter", f"{place} has the key {letter.key!r}")
    for place in sorted(missing):
        yield Finding("dead letter", f"{place} ({walk.letters[place][0]}) never left")


def _compare(what: str, log: Mapping[Any, Any], store: Mapping[Any, Any]) -> Iterator[Finding]:
    for key in log:
        if key not in store:
            yield Finding(what, f"{key}: the log comes to {log[key]}, the store has nothing")
        elif log[key] != store[key]:
            yield Finding(what, f"{key}: the log comes to {log[key]}, the store has {store[key]}")
    for key in store:
        if key not in log:
            yield Finding(what, f"{key}: the store has {store[key]}, the log comes to nothing")


def _sessions(walk: Walk) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for owner, facts in walk.sessions.facts.items():
        if not owner.named:
            continue
        first = facts.starts[0] if facts.starts else None
        fitting = [end for end in facts.ends if first is not None and end >= first.time]
        end = fitting[0] if fitting else None
        found[owner[:4]] = (
            first.time if first else None,
            end,
            facts.sign,
            facts.last_append,
            (first.subject or None) if first else None,
            dict(first.attributes) if first else {},
            _claims(facts, end),
        )
    return found


def _claims(facts: Facts, end: int | None) -> Any:  # noqa: ANN401 - as JSON has it
    if len(facts.starts) < 2 and facts.ends in ([], [end]):
        return None
    return [[[s.time, s.subject, [*map(list, s.attributes)]] for s in facts.starts], facts.ends]


def _subjects(walk: Walk) -> dict[Any, Any]:
    return {
        owner[:4]: (
            [
                [start.time, dict(start.attributes)] if start.attributes else start.time
                for start in facts.starts
            ],
            facts.ends,
            facts.beat,
            facts.last_append,
        )
        for owner, facts in walk.sessions.facts.items()
        if not owner.named
    }


def _producer(told: Incarnation) -> StoredProducer:
    numbers = {lane: _runs(sorted(seen)) for lane, seen in told.numbers.items() if seen}
    return StoredProducer(
        numbers, told.claimed, told.closed,
        told.counted, told.duplicates, told.refused, told.last_append,
    )  # fmt: skip


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
