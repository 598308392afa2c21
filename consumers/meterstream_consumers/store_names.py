"""Which store a group's positions were made by: told in the metadata of its Kafka offsets.

A group's partitions may move to any of its members, so all of them must count into one store. Two
workers with a file each would count half the log each, and nobody would see it from either half. So
every offset that is committed to Kafka names the store; Kafka's group is the one thing that all
members share. `judge` refuses what two stores must have made.

Offsets are committed best effort, hence late at times: what is refused is proved, but a store that
never got to commit is not seen.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from meterstream_aggregator.store.address import StoreAddress
from meterstream_consumers.errors import OtherStore


class StoreName(NamedTuple):
    """A store as its group's other members can name it. ``where`` has no password."""

    identity: str
    host: str
    where: str

    def dump(self) -> str:
        """As metadata of an offset; Kafka takes 4096 bytes of it."""
        told = {"store": self.identity, "host": self.host[:255], "where": self.where[:1000]}
        return json.dumps(told)


class GroupOffset(NamedTuple):
    """What a group has committed for a partition."""

    offset: int
    by: StoreName | None


def name_of(identity: str, address: StoreAddress) -> StoreName:
    """The name of our store."""
    where = str(address.absolute() if isinstance(address, Path) else address)
    return StoreName(identity, socket.gethostname(), where)


def undump(metadata: str | None) -> StoreName | None:
    """The store that an offset names; None where it names none."""
    try:
        told = json.loads(metadata or "")
        return StoreName(str(told["store"]), str(told["host"]), str(told["where"]))
    except (ValueError, KeyError, TypeError):
        return None


def judge(
    group: str, partition: int, found: GroupOffset | None, ours: StoreName, stored: int | None
) -> None:
    """Raise `OtherStore` when another store is ahead of ours in a partition.

    ``stored`` is where ours stands, None where it never folded anything. One of the same identity
    that was further is ours before it was restored: what follows is folded again.
    """
    if found is not None and _is_foreign(found, ours) and found.offset > (stored or 0):
        at = "has never folded any of it" if stored is None else f"stands at offset {stored}"
        raise OtherStore(_sentence(group, partition, found, ours, at=at))


def judge_neighbours(
    group: str,
    before: Mapping[int, GroupOffset],
    now: Mapping[int, GroupOffset],
    ours: StoreName,
) -> None:
    """Raise `OtherStore` when another store moves on in partitions that are not this worker's.

    Both stores' workers notice: neither of the two halves may pass for the whole.
    """
    for partition, found in now.items():
        earlier = before.get(partition)
        if _is_foreign(found, ours) and earlier is not None and found.offset > earlier.offset:
            at = "is counted into beside it"
            raise OtherStore(_sentence(group, partition, found, ours, at=at))


def _is_foreign(found: GroupOffset, ours: StoreName) -> bool:
    return found.by is not None and found.by.identity != ours.identity


def _sentence(group: str, partition: int, found: GroupOffset, ours: StoreName, *, at: str) -> str:
    theirs = found.by
    assert theirs is not None, "a foreign offset names its store"
    return (
        f"consumer group {group!r} has counted partition {partition} up to offset {found.offset} "
        f"into another store, {theirs.where} on {theirs.host} (identity {theirs.identity}); this "
        f"one, {ours.where} on {ours.host} (identity {ours.identity}), {at}: two stores would hold "
        "a part of the figures each. A SQLite store is for the workers of one machine; for several "
        "machines give all workers one PostgreSQL store with --store postgresql://…; if this "
        "store replaces the other, start its workers with --store-replaced, once"
    )
