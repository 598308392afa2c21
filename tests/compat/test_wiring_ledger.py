"""Ledger and definitions: amounts exact, changes in one step, kept beyond the process."""

from __future__ import annotations

import threading
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import pytest

from meterstream.compat import ledger as ledgers
from meterstream.compat.definitions import LocalDefinitions
from meterstream.compat.json_file import FileUnfit
from meterstream.compat.ledger import Insufficient, LocalLedger

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> LocalLedger:
    """An empty ledger of either kind."""
    return LocalLedger(tmp_path / "new" / "ledger.json" if request.param == "file" else None)


def test_balances_are_exact(ledger: LocalLedger) -> None:
    """What was moved adds up to the last digit; the journal tells the newest first."""
    assert ledger.balance("acme") is None

    for _ in range(10):
        ledger.move("acme", Decimal("0.1"), description="top up", details={"by": "ops"})
    ledger.move("other", Decimal(5))

    assert ledger.balance("acme") == 1
    assert len(ledger.payments("acme")) == 10
    newest = ledger.payments(limit=1)[0]
    assert (newest.account, newest.amount, newest.time.tzinfo is None) == (
        "other",
        Decimal(5),
        False,
    )
    assert ledger.payments("acme", limit=2)[0].details == {"by": "ops"}


def test_long_amounts_are_not_rounded(ledger: LocalLedger) -> None:
    """Sums keep every digit, also in a host that works with few."""
    with localcontext(prec=5):
        ledger.move("acme", Decimal(123456789012345678901234567890))
        ledger.move("acme", Decimal("0.000000000000000001"))
        ledger.change_allowance("p", "u", add=Decimal("1234567.89"))

    assert str(ledger.balance("acme")) == "123456789012345678901234567890.000000000000000001"
    allowance = ledger.allowance("p", "u")
    assert allowance is not None
    assert allowance.used == Decimal("1234567.89")


def test_what_is_no_amount_is_refused(ledger: LocalLedger) -> None:
    """NaN and infinities move nothing."""
    with pytest.raises(ValueError, match="NaN is no amount"):
        ledger.move("acme", Decimal("NaN"))
    with pytest.raises(ValueError, match="Infinity is no amount"):
        ledger.change_allowance("p", "u", threshold=Decimal("Infinity"))

    assert ledger.balance("acme") is None


def test_a_payment_is_made_once_by_its_id(ledger: LocalLedger) -> None:
    """A repeated id returns what was noted and moves nothing."""
    first = ledger.move("acme", Decimal(3), id="p1")

    again = ledger.move("acme", Decimal(3), id="p1")

    assert again == first
    assert ledger.balance("acme") == 3


def test_nothing_is_taken_below_the_floor(ledger: LocalLedger) -> None:
    """An uncovered movement is refused with both amounts, and leaves no trace."""
    ledger.move("acme", Decimal("0.3"))

    with pytest.raises(Insufficient, match=r"'acme' has 0\.3, which does not cover 0\.4") as told:
        ledger.move("acme", Decimal("-0.4"), floor=Decimal(0))

    assert (told.value.balance, told.value.amount) == (Decimal("0.3"), Decimal("0.4"))
    assert ledger.balance("acme") == Decimal("0.3")
    assert len(ledger.payments()) == 1


def test_allowances_are_set_used_and_reset(ledger: LocalLedger) -> None:
    """Threshold and use of a user of a project; a reset keeps the threshold."""
    assert ledger.allowance("p", "u") is None

    ledger.change_allowance("p", "u", threshold=Decimal(100))
    used = ledger.change_allowance("p", "u", add=Decimal("15.50"))
    assert (used.threshold, used.used) == (Decimal(100), Decimal("15.5"))
    assert ledger.allowance("p", "other") is None

    again = ledger.change_allowance("p", "u", reset=True)
    assert (again.threshold, again.used, again.since > used.since) == (
        Decimal(100),
        Decimal(0),
        True,
    )
    assert ledger.allowance("p", "u") == again


def test_the_journal_is_bounded(ledger: LocalLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest payments leave; the balance stays."""
    monkeypatch.setattr(ledgers, "PAYMENTS_MAX", 3)

    for _ in range(5):
        ledger.move("acme", Decimal(1))

    assert len(ledger.payments()) == 3
    assert ledger.balance("acme") == 5


def test_threads_lose_no_movement(tmp_path: Path) -> None:
    """Movements through two ledgers on one file, from many threads, are all there."""
    path = tmp_path / "ledger.json"
    both = [LocalLedger(path), LocalLedger(path)]

    def move(number: int) -> None:
        for _ in range(5):
            both[number % 2].move("acme", Decimal(1))

    threads = [threading.Thread(target=move, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert LocalLedger(path).balance("acme") == 30


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that holds something else is told by its name and never overwritten."""
    path = tmp_path / "definitions.json"
    path.write_text("not json")

    with pytest.raises(FileUnfit, match=r"definitions\.json"):
        LocalDefinitions(path).put("metric", "m", {})

    assert path.read_text() == "not json"
    path.write_text("[]")
    with pytest.raises(FileUnfit, match="not a JSON object"):
        LocalDefinitions(path).get("metric", "m")


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Where no file can be, the error names it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(FileUnfit, match="cannot be locked"):
        LocalLedger(tmp_path / "file" / "ledger.json").move("acme", Decimal(1))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_definitions_are_kept_by_kind_and_name(kind: str, tmp_path: Path) -> None:
    """Put, replaced, listed in order, removed; other kinds are untouched."""
    definitions = LocalDefinitions(tmp_path / "d.json" if kind == "file" else None)

    definitions.put("metric", "b", {"n": 1})
    definitions.put("metric", "a", {"n": 2})
    definitions.put("metric", "b", {"n": 3})
    definitions.put("project", "b", {"n": 4})

    assert list(definitions.all("metric").items()) == [("b", {"n": 3}), ("a", {"n": 2})]
    assert definitions.remove("metric", "b")
    assert not definitions.remove("metric", "b")
    assert definitions.get("metric", "b") is None
    assert definitions.get("project", "b") == {"n": 4}
    assert definitions.all("other") == {}
