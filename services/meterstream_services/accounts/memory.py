"""An accounts directory in memory: for tests, and for whoever keeps accounts nowhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Change
from meterstream_services.accounts.planning import plan
from meterstream_services.accounts.port import Applied, Expected


class MemoryDirectory:
    """An `EditableDirectory` that forgets everything with its process. Thread-safe."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._histories: dict[str, History] = {}
        self._lock = threading.RLock()

    def account(self, account_id: str) -> Account | None:
        """One account, or None."""
        with self._lock:
            return self._accounts.get(account_id)

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """Accounts by id, those greater than ``after``."""
        with self._lock:
            ids = sorted(known for known in self._accounts if after is None or known > after)
            return [self._accounts[known] for known in ids[:limit]]

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """The histories of those tenants that have one."""
        with self._lock:
            return {
                tenant: self._histories[tenant] for tenant in tenants if tenant in self._histories
            }

    def tenants_of(self, account_id: str) -> list[str]:
        """Every tenant that ever belonged to an account, sorted."""
        with self._lock:
            return sorted(self.stored_tenants_of(account_id))

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """All changes or none; see `EditableDirectory.apply`."""
        with self._lock:
            made = plan(changes, self, expected)
            if not dry_run:
                for account_id, account in made.accounts.items():
                    if account is None:
                        self._accounts.pop(account_id, None)
                    else:
                        self._accounts[account_id] = account
                self._histories.update(made.histories)
                self._histories = {t: h for t, h in self._histories.items() if h}
            return made.applied

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        return

    def stored_account(self, account_id: str) -> Account | None:
        """For planning: one account."""
        return self._accounts.get(account_id)

    def stored_history(self, tenant: str) -> History:
        """For planning: one history."""
        return self._histories.get(tenant, ())

    def stored_tenants_of(self, account_id: str) -> Sequence[str]:
        """For planning: tenants whose history names an account."""
        return [
            tenant
            for tenant, history in self._histories.items()
            if any(account == account_id for _, account in history)
        ]
