"""To which account a tenant belonged when."""

from __future__ import annotations

from meterstream_services.accounts.history import (
    Spell,
    assigned,
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


def test_entries_that_repeat_do_not_split_a_spell() -> None:
    """A stretch with one account is one, however often it was said."""
    history = ((0, "a"), (10, "a"), (20, None), (25, None), (30, "a"))

    assert spell_at(history, 15) == Spell("a", 0, 20)
    assert spell_at(history, 27) == Spell(None, 20, 30)
    assert sole_account(history, 5, 15) == "a"


def test_an_assignment_lasts_until_the_next_known_change() -> None:
    """What was already said of later instants stays said."""
    assert assigned(((0, "a"), (30, "b")), "c", 10) == ((0, "a"), (10, "c"), (30, "b"))
    assert assigned(((0, "a"), (30, "b")), None, 30) == ((0, "a"), (30, None))
