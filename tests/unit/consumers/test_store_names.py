"""Two stores that count one group's log are told apart by what the group's offsets name."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterstream_aggregator.store.address import PostgresAddress
from meterstream_consumers.errors import OtherStore
from meterstream_consumers.store_names import (
    GroupOffset,
    StoreName,
    judge,
    judge_neighbours,
    name_of,
    undump,
)

OURS = StoreName("aaaa", "here", "/data/store.sqlite3")
THEIRS = StoreName("bbbb", "there", "/data/store.sqlite3")


def test_a_name_comes_back_from_its_metadata() -> None:
    """What is committed to Kafka is read by the others; what is no name of ours is none."""
    assert undump(OURS.dump()) == OURS
    for other in (None, "", "{}", "[]", "null", '{"store": "x"}', "set by hand"):
        assert undump(other) is None


def test_metadata_fits_into_kafka() -> None:
    """However long a path is, Kafka takes it."""
    assert len(StoreName("a" * 32, "h" * 5_000, "ü" * 500).dump()) < 4_096


def test_a_name_has_no_password() -> None:
    """It is read by everybody who may look at the group."""
    address = PostgresAddress("postgresql://worker:secret@db/usage")

    assert "secret" not in name_of("aaaa", address).dump()
    assert name_of("aaaa", Path("store.sqlite3")).where.startswith("/")


@pytest.mark.parametrize(
    ("found", "stored"),
    [
        (None, 5),
        (GroupOffset(100, None), None),
        (GroupOffset(100, OURS), 5),
        (GroupOffset(100, THEIRS), 100),
        (GroupOffset(0, THEIRS), None),
    ],
    ids=["nothing committed", "no name", "ours restored", "ours is as far", "nothing counted"],
)
def test_what_may_be_counted_on(found: GroupOffset | None, stored: int | None) -> None:
    """Nobody is refused who is not behind another store."""
    judge("group", 0, found, OURS, stored)


@pytest.mark.parametrize("stored", [None, 99])
def test_a_store_behind_another_is_refused(stored: int | None) -> None:
    """Told are both stores, where they stand, and what to do."""
    with pytest.raises(OtherStore) as refusal:
        judge("group", 0, GroupOffset(100, THEIRS), OURS, stored)

    told = str(refusal.value)
    for part in ("bbbb", "there", "offset 100", "aaaa", "here", "--store-replaced", "postgresql"):
        assert part in told


def test_another_store_beside_ours_is_noticed() -> None:
    """When it moves on; one that stands still may be what ours replaced."""
    before = {1: GroupOffset(50, THEIRS), 2: GroupOffset(7, OURS)}

    judge_neighbours("group", before, before | {2: GroupOffset(9, OURS)}, OURS)
    judge_neighbours("group", {}, before, OURS)
    with pytest.raises(OtherStore, match="partition 1 up to offset 51"):
        judge_neighbours("group", before, {1: GroupOffset(51, THEIRS)}, OURS)
