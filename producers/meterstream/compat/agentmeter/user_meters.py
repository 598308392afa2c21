"""Limits of users and what they have used, kept in the ledger.

Usage is the ledger's alone: the exact costs of events recorded with this module since the last
reset, and what was added by hand. The usage API is not asked, so nothing can be counted twice and a
reset holds from the very moment. Processes share it where they share a ledger: the local one is a
file under METERSTREAM_DATA.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from meterstream.compat import wiring
from meterstream.compat.agentmeter.books import settle
from meterstream.compat.agentmeter.errors import AgentMeterLedgerError
from meterstream.compat.agentmeter.money import Number, exact, exactly
from meterstream.compat.agentmeter.results import UserMeter

if TYPE_CHECKING:
    from meterstream.compat.ledger import Allowance


def get(project: str, user: str) -> UserMeter:
    """As it stands; nothing set and nothing used where the ledger knows nothing."""
    settle()
    try:
        return _shown(project, user, wiring.ledger().allowance(project, user))
    except Exception as problem:
        raise AgentMeterLedgerError(f"the ledger cannot be read: {problem}") from problem


def set_threshold(project: str, user: str, amount: Number) -> UserMeter:
    """Set the limit; 0 takes it away."""
    return _change(project, user, threshold=exact(amount, field="threshold_amount"))


def increment(project: str, user: str, amount: Number) -> UserMeter:
    """Add to what was used."""
    return _change(project, user, add=exact(amount, field="amount"))


def reset(project: str, user: str) -> UserMeter:
    """Nothing was used as from now; the limit stays."""
    return _change(project, user, start_anew=True)


def _change(
    project: str,
    user: str,
    *,
    threshold: Decimal | None = None,
    add: Decimal = Decimal(0),
    start_anew: bool = False,
) -> UserMeter:
    settle()
    try:
        with exactly():
            allowance = wiring.ledger().change_allowance(
                project, user, threshold=threshold, add=add, reset=start_anew
            )
    except Exception as problem:
        raise AgentMeterLedgerError(f"the ledger cannot be written: {problem}") from problem
    return _shown(project, user, allowance)


def _shown(project: str, user: str, allowance: Allowance | None) -> UserMeter:
    if allowance is None:
        return UserMeter(project, user, None, Decimal(0), None)
    return UserMeter(project, user, allowance.threshold or None, allowance.used, allowance.since)
