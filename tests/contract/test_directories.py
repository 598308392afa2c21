"""What every accounts directory promises, run over all of them."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream_services.accounts.errors import InvalidChanges, PreconditionFailed
from meterstream_services.accounts.history import account_at
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Assign,
    Change,
    RemoveAccount,
    SetAccount,
    tag_of,
)
from meterstream_services.accounts.port import Applied, EditableDirectory, Expected

HOSTILE = ["../etc/passwd", "a'; DROP TABLE account;--", "tenant/account", "ünïcödé", "🛰", "%", "_"]


def test_an_account_is_kept_whole(directory: EditableDirectory) -> None:
    """What was set comes back, field by field; what was not given has its default."""
    applied = directory.apply(
        [
            SetAccount("plain"),
            SetAccount(
                "full",
                name="Acme GmbH & Söhne",
                zone="America/New_York",
                billing_anchor=31,
                labels=(("plan", "pro"), ("crm", "7")),
                status=AccountStatus.SUSPENDED,
            ),
        ]
    )

    assert applied == Applied(accounts_created=2)
    assert directory.account("plain") == Account("plain")
    assert directory.account("full") == Account(
        "full",
        "Acme GmbH & Söhne",
        "America/New_York",
        31,
        (("crm", "7"), ("plan", "pro")),
        AccountStatus.SUSPENDED,
    )
    assert directory.account("other") is None


def test_fields_not_given_stay(directory: EditableDirectory) -> None:
    """Changing one field leaves the others as they were."""
    directory.apply([SetAccount("a", name="A", zone="Asia/Tokyo")])

    assert directory.apply([SetAccount("a", billing_anchor=15)]) == Applied(accounts_changed=1)
    assert directory.account("a") == Account("a", "A", "Asia/Tokyo", 15)


def test_repeating_a_change_changes_nothing(directory: EditableDirectory) -> None:
    """The same changes a second time are all counted as unchanged."""
    changes: list[Change] = [
        SetAccount("a", name="A"),
        Assign("t", "a", None),
        Assign("u", "a", 50),
    ]

    first = directory.apply(changes)
    second = directory.apply(changes)

    assert first == Applied(accounts_created=1, tenants_changed=2)
    assert second == Applied(unchanged=3)


def test_accounts_are_listed_page_by_page(directory: EditableDirectory) -> None:
    """Pages by id join to the whole list."""
    ids = sorted(f"account-{n}" for n in range(25))
    directory.apply([SetAccount(known) for known in reversed(ids)])

    listed: list[str] = []
    while page := directory.accounts(after=listed[-1] if listed else None, limit=10):
        listed.extend(account.id for account in page)

    assert listed == ids


def test_a_tenant_moves_at_an_instant(directory: EditableDirectory) -> None:
    """Before the move the old account applies, from it on the new one."""
    directory.apply([SetAccount("a"), SetAccount("b"), Assign("t", "a", None)])
    directory.apply([Assign("t", "b", 1000)])

    history = directory.histories(["t", "unknown"])

    assert history == {"t": ((0, "a"), (1000, "b"))}
    assert [account_at(history["t"], time) for time in (0, 999, 1000, 10**18)] == [*"aabb"]
    assert directory.tenants_of("a") == ["t"]
    assert directory.tenants_of("b") == ["t"]


def test_a_mapping_can_end(directory: EditableDirectory) -> None:
    """A tenant that is mapped to none belongs to nobody from then on."""
    directory.apply([SetAccount("a"), Assign("t", "a", 10), Assign("t", None, 20)])

    history = directory.histories(["t"])["t"]

    assert [account_at(history, time) for time in (9, 10, 19, 20)] == [None, "a", "a", None]


def test_a_mapping_can_be_taken_back(directory: EditableDirectory) -> None:
    """Unmapping from the very beginning of a mapping frees the account of it."""
    directory.apply([SetAccount("a"), Assign("t", "a", 10), Assign("t", None, 10)])

    assert directory.histories(["t"]) == {"t": ((10, None),)}
    assert directory.tenants_of("a") == []
    assert directory.apply([RemoveAccount("a")]) == Applied(accounts_removed=1)


def test_statements_about_instants_do_not_disturb_each_other(directory: EditableDirectory) -> None:
    """The same statements give the same history in any order, and again change nothing."""
    directory.apply([SetAccount("a"), SetAccount("b")])
    said = [(5, "a"), (20, "a"), (10, "b"), (30, None)]
    for tenant, order in (("t", said), ("u", said[::-1])):
        directory.apply([Assign(tenant, account, start) for start, account in order])
        again = directory.apply([Assign(tenant, account, start) for start, account in order])
        assert again == Applied(unchanged=4)

    histories = directory.histories(["t", "u"])

    assert histories["t"] == histories["u"] == ((5, "a"), (10, "b"), (20, "a"), (30, None))


def test_a_mapping_in_force_needs_an_instant(directory: EditableDirectory) -> None:
    """Mapping a mapped tenant elsewhere without saying from when is refused."""
    directory.apply([SetAccount("a"), SetAccount("b"), Assign("t", "a", 10)])

    for account in ("b", "a", None):
        with pytest.raises(InvalidChanges, match="is mapped already; say from when"):
            directory.apply([Assign("t", account, None)])


def test_tenants_belong_to_accounts_that_are_there(directory: EditableDirectory) -> None:
    """A mapping to an account that nobody made is refused."""
    with pytest.raises(InvalidChanges, match="'ghost' is not there; make the account first"):
        directory.apply([Assign("t", "ghost", None)])


def test_all_or_nothing(directory: EditableDirectory) -> None:
    """One flaw among many changes keeps all of them out, and every flaw is told by its place."""
    changes: list[Change] = [
        SetAccount("good"),
        SetAccount("bad", zone="Mars/Base"),
        Assign("t", "good", None),
        Assign("u", "ghost", None),
    ]

    with pytest.raises(InvalidChanges) as caught:
        directory.apply(changes)

    assert [(flaw.place, flaw.field) for flaw in caught.value.flaws] == [
        (1, "zone"),
        (3, "account"),
    ]
    assert directory.accounts() == []
    assert directory.histories(["t"]) == {}


def test_a_dry_run_keeps_nothing(directory: EditableDirectory) -> None:
    """A dry run says what would happen, and does not do it."""
    applied = directory.apply([SetAccount("a"), Assign("t", "a", None)], dry_run=True)

    assert applied == Applied(accounts_created=1, tenants_changed=1)
    assert directory.account("a") is None


def test_an_account_with_history_stays(directory: EditableDirectory) -> None:
    """An account that a tenant ever belonged to cannot be removed, others can."""
    directory.apply([SetAccount("a"), SetAccount("b"), Assign("t", "a", 10), Assign("t", "b", 20)])
    directory.apply([SetAccount("idle")])

    with pytest.raises(InvalidChanges, match="set its status to closed instead"):
        directory.apply([RemoveAccount("a")])
    assert directory.apply([RemoveAccount("idle")]) == Applied(accounts_removed=1)

    assert [account.id for account in directory.accounts()] == ["a", "b"]


def test_what_was_read_must_still_be_there(directory: EditableDirectory) -> None:
    """A change that rests on an outdated reading is refused; one on the present goes through."""
    directory.apply([SetAccount("a", name="one")])
    tag = tag_of(directory.account("a"))
    directory.apply([SetAccount("a", name="two")])

    with pytest.raises(PreconditionFailed, match="changed by somebody else"):
        directory.apply([SetAccount("a", name="three")], expected=Expected(account="a", tag=tag))
    with pytest.raises(PreconditionFailed, match="is there already"):
        directory.apply([SetAccount("a")], expected=Expected(account="a", tag="0"))
    with pytest.raises(PreconditionFailed, match="is not there"):
        directory.apply([SetAccount("z")], expected=Expected(account="z"))
    now = tag_of(directory.account("a"))
    directory.apply([SetAccount("a", name="three")], expected=Expected(account="a", tag=now))

    found = directory.account("a")
    assert found is not None
    assert found.name == "three"


def test_tenants_have_tags_too(directory: EditableDirectory) -> None:
    """A mapping can be made on the condition that there is none, once."""
    directory.apply([SetAccount("a"), SetAccount("b")])
    none = Expected(tenant="t", tag="0")

    directory.apply([Assign("t", "a", 0)], expected=none)
    with pytest.raises(PreconditionFailed):
        directory.apply([Assign("t", "b", 0)], expected=none)

    assert directory.histories(["t"]) == {"t": ((0, "a"),)}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_only_names(directory: EditableDirectory, text: str) -> None:
    """Tenants and names of any shape are kept as they are and touch nothing else."""
    directory.apply([SetAccount("a", name=text), SetAccount("b")])
    directory.apply([Assign(text, "a", None), Assign("other", "b", None)])

    found = directory.account("a")
    assert found is not None
    assert found.name == text
    assert directory.histories([text]) == {text: ((0, "a"),)}
    assert directory.tenants_of("b") == ["other"]


@pytest.mark.parametrize(
    "change",
    [
        SetAccount(""),
        SetAccount("a/b"),
        SetAccount(".."),
        SetAccount("a\x00b"),
        SetAccount("x" * 129),
        SetAccount("a", zone="utc+1"),
        SetAccount("a", billing_anchor=0),
        SetAccount("a", billing_anchor=32),
        SetAccount("a", name="x" * 257),
        SetAccount("a", labels=tuple((f"l{n}", "") for n in range(33))),
        SetAccount("a", labels=(("", "x"),)),
        Assign("", "a", None),
        Assign("\ud800", None, None),
    ],
)
def test_malformed_changes_are_refused(directory: EditableDirectory, change: Change) -> None:
    """What cannot be an account, a tenant or a zone is refused before anything is written."""
    with pytest.raises(InvalidChanges):
        directory.apply([SetAccount("before"), change])

    assert directory.accounts() == []


def test_many_tenants_are_looked_up_at_once(directory: EditableDirectory) -> None:
    """More tenants than a statement can name are found all the same."""
    tenants = [f"t{n}" for n in range(1203)]
    directory.apply([SetAccount("a"), *(Assign(tenant, "a", None) for tenant in tenants)])

    assert set(directory.histories([*tenants, "unknown"])) == set(tenants)
    assert directory.tenants_of("a") == sorted(tenants)


def test_writers_take_turns(directory: EditableDirectory) -> None:
    """Of many threads that change one account on the condition of the same reading, one wins."""
    directory.apply([SetAccount("a", name="start")])
    expected = Expected(account="a", tag=tag_of(directory.account("a")))
    outcomes: list[str] = []
    begin = threading.Barrier(6)

    def change(name: str) -> None:
        begin.wait()
        try:
            directory.apply([SetAccount("a", name=name)], expected=expected)
            outcomes.append(name)
        except PreconditionFailed:
            outcomes.append("")

    threads = [threading.Thread(target=change, args=(f"n{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winners = [name for name in outcomes if name]
    found = directory.account("a")
    assert len(outcomes) == 6
    assert found is not None
    assert winners == [found.name]


_steps = st.lists(
    st.tuples(
        st.sampled_from(["t", "u"]),
        st.sampled_from(["a", "b", None]),
        st.integers(0, 8),
    ),
    max_size=12,
)


@given(steps=_steps, split=st.integers(0, 12))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_histories_equal_a_plain_timeline(
    directory: EditableDirectory,
    steps: list[tuple[str, str | None, int]],
    split: int,
) -> None:
    """Any sequence of moves gives, at every instant, what writing them on a timeline gives."""
    world = random.Random(repr(steps)).getrandbits(64)
    named = {tenant: f"{tenant}-{world}-{split}" for tenant in ("t", "u")}
    said: dict[str, dict[int, str | None]] = {tenant: {} for tenant in named}
    for tenant, account, start in steps:
        said[tenant][start] = account
    changes = [Assign(named[tenant], account, start) for tenant, account, start in steps]

    directory.apply([SetAccount("a"), SetAccount("b")])
    directory.apply(changes[:split])
    directory.apply(changes[split:])

    histories = directory.histories(list(named.values()))
    for tenant, name in named.items():
        timeline: list[str | None] = []
        for instant in range(10):
            timeline.append(said[tenant].get(instant, timeline[-1] if timeline else None))
        told = histories.get(name, ())
        assert [account_at(told, instant) for instant in range(10)] == timeline
