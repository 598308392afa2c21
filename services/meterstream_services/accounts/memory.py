"""An accounts directory in memory: for tests, for static files, for whoever keeps none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Change, Recorded
from meterstream_services.accounts.planning import plan
from meterstream_services.accounts.plans import Plan
from meterstream_services.accounts.port import Applied, Expected, Feed


def wall_clock() -> int:
    """Now, in microseconds UTC."""
    return time.time_ns() // 1000


class MemoryDirectory:
    """An `EditableDirectory` that forgets everything with its process. Thread-safe.

    ``records`` False keeps no changes: nobody will ask for them.
    """

    def __init__(self, *, now: Callable[[], int] = wall_clock, records: bool = True) -> None:
        self._accounts: dict[str, Account] = {}
        self._histories: dict[str, History] = {}
        self._tenants: dict[str, set[str]] = {}
        self._externals: dict[tuple[str, str], str] = {}
        self._records: list[Recorded] = []
        self._keeps_records = records
        self._now = now
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
            return sorted(self._tenants.get(account_id, ()))

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """The (system, id) pairs that mean an account, sorted."""
        with self._lock:
            return sorted(self.stored_externals_of(account_id))

    def account_of(self, system: str, external_id: str) -> str | None:
        """The account that an id of another system means; None for none."""
        with self._lock:
            return self._externals.get((system, external_id))

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """All changes or none; see `EditableDirectory.apply`."""
        with self._lock:
            made = plan(changes, self, expected)
            if not dry_run:
                self._write(made)
            return made.applied(detailed=detailed)

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """What was changed after that sequence, oldest first."""
        with self._lock:
            return Feed(self._records[max(after, 0) :][:limit], len(self._records))

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        return

    def _write(self, made: Plan) -> None:
        time_ = self._now()
        if self._keeps_records:
            for each in made.records():
                self._records.append(replace(each, sequence=len(self._records) + 1, time=time_))
        self._accounts.update({id_: each for id_, each in made.accounts.items() if each})
        for account_id in (id_ for id_, each in made.accounts.items() if each is None):
            self._accounts.pop(account_id, None)
        for tenant, history in made.histories.items():
            self._put_history(tenant, history)
        self._externals.update({key: each for key, each in made.externals.items() if each})
        for key in (key for key, each in made.externals.items() if each is None):
            self._externals.pop(key, None)

    def _put_history(self, tenant: str, history: History) -> None:
        for _, account in self._histories.pop(tenant, ()):
            self._tenants.get(account or "", set()).discard(tenant)
        if history:
            self._histories[tenant] = history
        for _, account in history:
            if account is not None:
                self._tenants.setdefault(account, set()).add(tenant)

    def stored_account(self, account_id: str) -> Account | None:
        """For planning: one account."""
        return self._accounts.get(account_id)

    def stored_history(self, tenant: str) -> History:
        """For planning: one history."""
        return self._histories.get(tenant, ())

    def stored_tenants_of(self, account_id: str) -> Sequence[str]:
        """For planning: tenants whose history names an account."""
        return sorted(self._tenants.get(account_id, ()))

    def stored_external(self, system: str, external_id: str) -> str | None:
        """For planning: the account that an external id means."""
        return self._externals.get((system, external_id))

    def stored_externals_of(self, account_id: str) -> Sequence[tuple[str, str]]:
        """For planning: the external ids of an account."""
        return [key for key, meant in self._externals.items() if meant == account_id]
