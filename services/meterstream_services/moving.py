"""From one generation of the events topic to the next: what is to be done, and what proves it done.

A store belongs to one topic, because numbers, keys and sessions are judged per partition. So the
next generation has a store of its own, and producers change over by starting anew: an incarnation
stays with the topic and the partitions that it began with. Nothing is copied, so nothing can be
doubled; nothing is lost when the old topic is *drained*: each of its producers has closed, none of
their numbers is missing, and the store has folded the log to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.logreader import LogReader
from meterstream_infra.errors import TopicUnfit
from meterstream_infra.topics import TopicIdentity, check_topic
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.told import PositionRow, ProducerRow


class Hindrance(NamedTuple):
    """Something that keeps a topic from being drained."""

    what: str
    where: str
    remedy: str


def refuse_same(old: str, new: str) -> None:
    """Raise `TopicUnfit` when the new generation would be the old one."""
    if old == new:
        raise TopicUnfit(
            new,
            setting="the new topic's name",
            found="that of the old one",
            wanted="another",
            remedy="name it with --to, such as meterstream.events.2",
        )


def next_steps(old: TopicIdentity, new: TopicIdentity) -> list[str]:
    """What a person does next, in order."""
    return [
        f"Start workers for {new.topic} with a new store; leave those of {old.topic} running.",
        (
            f"Set METERSTREAM_TOPIC={new.topic} for every producer and gateway, and start them "
            "anew, one by one: each closes with the old topic and begins with the new one."
        ),
        (
            f"Spools of processes that died before hold events for {old.topic}: send them with "
            "`meterstream spool send`."
        ),
        f"Repeat `meterstream topics drained --topic {old.topic} --store STORE` until it says so.",
        (
            f"Then stop the workers of {old.topic} and keep its store: it answers for its time, "
            "and a period that both have counted is the sum of both."
        ),
    ]


def hindrances(bootstrap_servers: str, topic: str, store: StoreAddress) -> list[Hindrance]:
    """What keeps the topic from being drained into this store; empty when it is. Blocks.

    Raises what `check_topic`, `LogReader` and `open_reader` raise.
    """
    identity = check_topic(bootstrap_servers, topic)
    reader = open_reader(store)
    try:
        with reader.snapshot():
            bound = reader.topic()
            positions, producers = reader.positions(), reader.producers()
    finally:
        reader.close()
    if bound is None or tuple(bound) != tuple(identity):
        return [
            Hindrance(
                "the store is not this topic's",
                str(store),
                f"name the store that was made from topic id {identity.topic_id}",
            )
        ]
    # The log is asked after the store: what came meanwhile is a hindrance, not overlooked.
    with LogReader(bootstrap_servers, topic) as log:
        bounds = log.bounds(range(identity.partitions))
    ends = {partition: end for partition, (_, end) in bounds.items()}
    return [*_unfolded(positions, ends), *_unsettled(producers)]


def _unfolded(positions: list[PositionRow], ends: dict[int, int]) -> Iterator[Hindrance]:
    """Partitions with records behind the store's position. A worker's ticks may be among them."""
    folded = {row.partition: max(row.next_offset or 0, 0) for row in positions}
    for partition, end in sorted(ends.items()):
        left = end - folded.get(partition, 0)
        if left > 0:
            yield Hindrance(
                f"{counted(left, 'record')} not folded",
                f"partition {partition}",
                "let the worker run to the end of the log",
            )


def _unsettled(producers: list[ProducerRow]) -> Iterator[Hindrance]:
    """Producers that may still send, or whose numbers are not all there."""
    for row in sorted(producers, key=lambda row: (row.producer, row.partition)):
        where = f"producer {row.producer}, partition {row.partition}"
        if row.missing:
            numbers = sum(last - first + 1 for _, first, last, _ in row.missing)
            yield Hindrance(
                f"{counted(numbers, 'number')} missing",
                where,
                "`meterstream spool send`, if its spool is still there; see `reconcile`",
            )
        elif not row.closed:
            yield Hindrance(
                "has not closed",
                where,
                "start its process anew with the new topic; of one that died, send the spool",
            )
