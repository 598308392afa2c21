"""Moves, merges, external ids and the feed of changes, over every accounts directory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from meterstream_services.accounts.errors import InvalidChanges
from meterstream_services.accounts.history import account_at
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Assign,
    Change,
    Kind,
    Merge,
    Move,
    Recorded,
    RemoveAccount,
    SetAccount,
    SetExternalId,
    Unmerge,
)
from meterstream_services.accounts.port import Applied

if TYPE_CHECKING:
    from meterstream_services.accounts.model import Content
    from meterstream_services.accounts.port import EditableDirectory

TWO = (SetAccount("a"), SetAccount("b"))


def test_a_move_asks_where_the_tenant_is(directory: EditableDirectory) -> None:
    """A tenant moves at an instant from the account that is named, and not from another."""
    directory.apply([*TWO, SetAccount("c"), Assign("t", "a", None), Assign("t", "c", 900)])

    moved = directory.apply([Move("t", "b", 500, source="a")])
    again = directory.apply([Move("t", "b", 500, source="a")])

    assert (moved, again) == (Applied(tenants_changed=1), Applied(unchanged=1))
    assert directory.histories(["t"])["t"] == ((0, "a"), (500, "b"), (900, "c"))
    with pytest.raises(InvalidChanges, match="belongs to 'b' then, not to 'c'"):
        directory.apply([Move("t", "a", 600, source="c")])
    with pytest.raises(InvalidChanges, match="belongs to none then"):
        directory.apply([Move("other", "a", 600, source="c")])


def test_a_dry_run_tells_what_a_move_changes(directory: EditableDirectory) -> None:
    """Asked for details, a dry run names what is and what would be, and keeps nothing."""
    directory.apply([*TWO, Assign("t", "a", None)])

    planned = directory.apply([Move("t", "b", 500)], dry_run=True, detailed=True)

    before, after = ((0, "a"),), ((0, "a"), (500, "b"))
    assert planned.records == (Recorded(Kind.TENANT, "t", before, after),)
    assert directory.histories(["t"])["t"] == before
    assert directory.changes(after=0).last == 3


def test_a_merge_moves_what_the_account_has_then(directory: EditableDirectory) -> None:
    """From its instant on, all tenants of the one are the other's; what was before stays."""
    directory.apply([*TWO, SetAccount("c"), Assign("now", "b", None), Assign("left", "b", 5)])
    directory.apply([Assign("left", "c", 50), Assign("later", "b", 500), Assign("other", "c", 1)])

    merged = directory.apply([Merge("b", "a", 100)])

    assert merged == Applied(accounts_changed=1, tenants_changed=2)
    assert directory.histories(["now", "left", "later", "other"]) == {
        "now": ((0, "b"), (100, "a")),
        "left": ((5, "b"), (50, "c")),
        "later": ((500, "a"),),
        "other": ((1, "c"),),
    }
    assert directory.account("b") == Account(
        "b", status=AccountStatus.MERGED, merged_into="a", merged_from=100
    )
    assert directory.tenants_of("a") == ["later", "now"]
    assert directory.tenants_of("b") == ["left", "now"]
    assert directory.apply([Merge("b", "a", 100)]) == Applied(unchanged=1)


def test_a_merge_can_be_undone(directory: EditableDirectory) -> None:
    """The account is active again, with the tenants that moved at the merge's instant."""
    directory.apply([*TWO, Assign("t", "b", None), Assign("u", "b", 100), Merge("b", "a", 200)])

    undone = directory.apply([Unmerge("b")])

    assert undone == Applied(accounts_changed=1, tenants_changed=2)
    assert directory.histories(["t", "u"]) == {"t": ((0, "b"),), "u": ((100, "b"),)}
    assert directory.account("b") == Account("b")
    assert directory.apply([Unmerge("b")]) == Applied(unchanged=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Assign("new", "b", None), "was merged into 'a'; name that one"),
        (Move("t", "b", 700), "was merged into 'a'; name that one"),
        (Merge("c", "b", 1), "was merged into 'a'; name that one"),
        (Merge("b", "c", 1), "was merged into 'a' already"),
        (Merge("c", "c", 1), "is the account itself"),
        (Merge("c", "ghost", 1), "is not there"),
        (Merge("ghost", "c", 1), "is not there"),
        (SetAccount("b", status=AccountStatus.ACTIVE), "undo the merge first"),
        (SetAccount("c", status=AccountStatus.MERGED), "is what a merge makes"),
        (Assign("t", "c", 2**62), "is no time"),
        (SetExternalId("stripe", "x", "ghost"), "is not there"),
        (SetExternalId("a/b", "x", "c"), "has a /"),
        (SetExternalId("", "x", "c"), "system"),
        (SetExternalId("stripe", "x\x00", "c"), "external_id"),
    ],
)
def test_what_makes_no_sense_is_refused(
    directory: EditableDirectory,
    change: Change,
    said: str,
) -> None:
    """Nothing is mapped to an account that is gone, merges make no circles, and nothing is kept."""
    directory.apply([*TWO, SetAccount("c"), Assign("t", "b", None), Merge("b", "a", 100)])
    last = directory.changes(after=0).last

    with pytest.raises(InvalidChanges, match=said):
        directory.apply([SetAccount("made"), change])

    assert directory.account("made") is None
    assert directory.changes(after=0).last == last


def test_what_was_said_before_a_merge_may_be_said_again(directory: EditableDirectory) -> None:
    """The statements of an older import, repeated after a merge, change nothing."""
    older: list[Change] = [SetAccount("b", name="B"), Assign("t", "b", None), Assign("u", "b", 7)]
    directory.apply([SetAccount("a"), *older, Merge("b", "a", 100)])

    assert directory.apply(older) == Applied(unchanged=3)


def test_an_external_id_means_one_account(directory: EditableDirectory) -> None:
    """An id of a system leads to its account, which may have many; it is never taken silently."""
    directory.apply(
        [
            *TWO,
            SetExternalId("stripe", "cus_1", "a"),
            SetExternalId("stripe", "cus_2", "a"),
            SetExternalId("crm", "cus_1", "b"),
        ]
    )

    assert directory.account_of("stripe", "cus_1") == "a"
    assert directory.account_of("crm", "cus_1") == "b"
    assert directory.account_of("crm", "cus_2") is None
    assert directory.external_ids("a") == [("stripe", "cus_1"), ("stripe", "cus_2")]
    assert directory.apply([SetExternalId("stripe", "cus_1", "a")]) == Applied(unchanged=1)
    with pytest.raises(InvalidChanges, match="means account 'a' in 'stripe' already"):
        directory.apply([SetExternalId("stripe", "cus_1", "b")])
    moved = directory.apply(
        [SetExternalId("stripe", "cus_1", None), SetExternalId("stripe", "cus_1", "b")]
    )
    assert moved == Applied(external_ids_changed=2)
    assert directory.account_of("stripe", "cus_1") == "b"


def test_an_account_goes_with_its_external_ids(directory: EditableDirectory) -> None:
    """Removing an account frees its ids for another."""
    directory.apply([*TWO, SetExternalId("crm", "1", "b")])

    directory.apply([RemoveAccount("b")])
    directory.apply([SetExternalId("crm", "1", "a")])

    assert directory.account_of("crm", "1") == "a"


def test_changes_are_told_once_and_in_order(directory: EditableDirectory) -> None:
    """The feed has each change whole, without gaps, and a repeat of what is so not at all."""
    directory.apply([SetAccount("a", name="A"), Assign("t", "a", None)])
    directory.apply([SetAccount("a", name="A")])
    directory.apply([SetAccount("a", name="B"), SetExternalId("crm", "x/1", "a")])

    feed = directory.changes(after=0)

    assert [(r.sequence, r.kind.value, r.id) for r in feed.records] == [
        (1, "account", "a"),
        (2, "tenant", "t"),
        (3, "account", "a"),
        (4, "external_id", "crm/x/1"),
    ]
    assert feed.last == 4
    assert (feed.records[2].was, feed.records[2].now) == (Account("a", "A"), Account("a", "B"))
    assert (feed.records[1].was, feed.records[1].now) == ((), ((0, "a"),))
    assert all(record.time > 10**15 for record in feed.records)
    assert directory.changes(after=4).records == []
    assert directory.changes(after=10**18).records == []
    assert [r.sequence for r in directory.changes(after=1, limit=2).records] == [2, 3]


def test_a_mirror_follows_the_changes(directory: EditableDirectory) -> None:
    """Whoever applies each change, page by page, has what the directory has."""
    directory.apply([*TWO, Assign("t", "b", None), SetExternalId("crm", "1", "b")])
    directory.apply([Assign("u", "a", 5), Merge("b", "a", 100)])
    directory.apply([SetAccount("c"), RemoveAccount("c"), Assign("u", None, 50)])

    mirror: dict[tuple[str, str], Content] = {}
    after = 0
    while page := directory.changes(after=after, limit=2).records:
        for record in page:
            assert mirror.get((record.kind, record.id)) == (record.was or None)
            mirror[record.kind, record.id] = record.now
        after = page[-1].sequence

    assert mirror == {
        ("account", "a"): directory.account("a"),
        ("account", "b"): directory.account("b"),
        ("tenant", "t"): ((0, "b"), (100, "a")),
        ("tenant", "u"): ((5, "a"), (50, None)),
        ("external_id", "crm/1"): "b",
    }


def test_writers_at_once_leave_no_gap(directory: EditableDirectory) -> None:
    """A reader that follows while many write misses nothing and sees nothing twice."""
    seen: list[int] = []
    done = threading.Event()

    def follow() -> None:
        finishing = False
        while not finishing:
            finishing = done.is_set()
            found = directory.changes(after=seen[-1] if seen else 0).records
            seen.extend(record.sequence for record in found)

    def write(writer: int) -> None:
        for number in range(10):
            directory.apply([SetAccount(f"{writer}-{number}")])

    follower = threading.Thread(target=follow)
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in [follower, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    follower.join()

    assert seen == list(range(1, 41))


def test_histories_at_merges_answer_for_each_instant(directory: EditableDirectory) -> None:
    """Before a chain of merges each account answers for its time, after it the last one."""
    directory.apply([*TWO, SetAccount("c"), Assign("t", "c", None)])
    directory.apply([Merge("c", "b", 100), Merge("b", "a", 200)])

    history = directory.histories(["t"])["t"]

    assert [account_at(history, time) for time in (99, 100, 199, 200)] == ["c", "b", "b", "a"]
