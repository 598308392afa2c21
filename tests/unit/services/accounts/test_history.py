"""To which account a tenant belonged when."""

from __future__ import annotations

from meterstream_services.accounts.history import (
    Spell,
    assigned,
    normal,
    sole_account,
    spell_at,
)

HISTORY = ((10, "a"), (20, None), (30, "b"))


def test_spells_have_ends() -> None:
    """Each instant lies in one spell, with the instants between which it lasts."""
    assert spell_at(HISTORY, 9) == Spell(None, None, 10)
    assert spell_at(HISTORY, 10) == Spell("a", 10, 20)
    assert spell_at(HISTORY, 20) == Spell(None, 20, 30)
    assert spell_at(HISTORY, 99) == Spell("b", 30, None)


def test_a_tenant_never_mapped_has_no_account() -> None:
    """An empty history is one spell without account and without ends."""
    assert spell_at((), 5) == Spell(None, None, None)


def test_the_sole_account_of_a_stretch() -> None:
    """A stretch has one account only when nothing changes inside it."""
    assert sole_account(HISTORY, 10, 19) == "a"
    assert sole_account(HISTORY, 10, 20) is None
    assert sole_account(HISTORY, 30, 10**18) == "b"
    assert sole_account(HISTORY, 0, 9) is None
    assert sole_account(((0, "a"), (10, "b"), (20, "a")), 5, 25) is None


def test_an_assignment_lasts_until_the_next_known_change() -> None:
    """What was already planned for later stays planned."""
    assert assigned(((0, "a"), (30, "b")), "c", 10) == ((0, "a"), (10, "c"), (30, "b"))
    assert assigned(((0, "a"), (30, "b")), "b", 10) == ((0, "a"), (10, "b"))
    assert assigned(((0, "a"), (10, "b"), (20, "a")), "a", 10) == ((0, "a"),)


def test_the_normal_form_says_nothing_twice() -> None:
    """Changes that change nothing, and an end before any beginning, are left out."""
    assert normal([(5, "a"), (1, None), (7, "a"), (9, None), (11, None)]) == ((5, "a"), (9, None))
