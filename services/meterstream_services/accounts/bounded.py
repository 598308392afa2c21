"""A directory whose answers are waited for only so long, whatever it does.

Time limits of a network's client bound single steps, and a disk that hangs has none at all. So a
question goes to a thread of its own, and whoever asked stops waiting at the limit. The thread goes
on alone until it hears something; while there are too many of those, nobody waits any more.

A thread that has its answer takes the next question: to start one costs more than to look up a
tenant. One that had nothing to do for `IDLE_SECONDS` ends.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Change
from meterstream_services.accounts.port import Applied, EditableDirectory, Expected, Feed

ASKING_MAX: Final = 8
"""Questions under way at once; who comes later waits for one of them, within the same limit."""
IDLE_SECONDS: Final = 10.0

_Answer = TypeVar("_Answer")
_Errand = Callable[[], Callable[[], None]]
"""Something to do; what it returns tells whoever waits for it."""
_Errands = queue.SimpleQueue[_Errand]


class _Asking(Generic[_Answer]):
    """One question and what came of it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answers: list[_Answer] = []
        self.problem: BaseException | None = None


class _Askers:
    """Threads that do one errand after the other; each errand gets one at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Errands] = []

    def do(self, errand: _Errand) -> None:
        """Have it done and told. Raises what starting a thread raises; then it is not done."""
        with self._lock:
            errands = self._idle.pop() if self._idle else None
        if errands is None:
            errands = _Errands()
            threading.Thread(
                target=self._work, args=(errands,), name="accounts", daemon=True
            ).start()
        errands.put(errand)

    def _work(self, errands: _Errands) -> None:
        while True:
            try:
                errand = errands.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if errands in self._idle:
                        self._idle.remove(errands)
                        return
                continue  # Somebody took this thread just now: an errand is on its way.
            tell = errand()
            with self._lock:
                self._idle.append(errands)
            tell()  # Last, so that the next question finds this thread idle.
            del errand, tell  # They have the answer, which would be kept while nobody asks.


class BoundedDirectory:
    """An `EditableDirectory` that looks up within ``seconds``, or raises `AccountsUnavailable`.

    Changes are not bounded here: whoever makes one must know what came of it.
    """

    def __init__(
        self, directory: EditableDirectory, *, seconds: float, asking_max: int = ASKING_MAX
    ) -> None:
        self._directory = directory
        self._seconds = seconds
        self._free = threading.BoundedSemaphore(asking_max)
        self._askers = _Askers()

    def account(self, account_id: str) -> Account | None:
        """See `Directory`."""
        return self._ask(lambda: self._directory.account(account_id))

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """See `Directory`."""
        return self._ask(lambda: self._directory.accounts(after=after, limit=limit))

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """See `Directory`."""
        return self._ask(lambda: self._directory.histories(tenants))

    def tenants_of(self, account_id: str) -> list[str]:
        """See `Directory`."""
        return self._ask(lambda: self._directory.tenants_of(account_id))

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """See `Directory`."""
        return self._ask(lambda: self._directory.external_ids(account_id))

    def account_of(self, system: str, external_id: str) -> str | None:
        """See `Directory`."""
        return self._ask(lambda: self._directory.account_of(system, external_id))

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """See `EditableDirectory`."""
        return self._directory.apply(changes, expected=expected, dry_run=dry_run, detailed=detailed)

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """See `EditableDirectory`."""
        return self._ask(lambda: self._directory.changes(after=after, limit=limit))

    def close(self) -> None:
        """See `EditableDirectory`."""
        self._directory.close()

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        if not self._free.acquire(timeout=self._seconds):
            raise self._late("earlier questions are still without an answer")
        asking = _Asking[_Answer]()
        try:
            self._askers.do(lambda: self._run(asking, question))
        except BaseException:
            self._free.release()
            raise
        if not asking.done.wait(self._seconds):
            raise self._late("no answer came")
        if asking.problem is not None:
            raise asking.problem
        return asking.answers[0]

    def _late(self, why: str) -> AccountsUnavailable:
        return AccountsUnavailable(f"accounts: {why} within {self._seconds:g} s")

    def _run(self, asking: _Asking[_Answer], question: Callable[[], _Answer]) -> Callable[[], None]:
        try:
            asking.answers.append(question())
        except BaseException as problem:  # noqa: BLE001 - raised again where it was asked
            asking.problem = problem

        def tell() -> None:
            self._free.release()
            asking.done.set()

        return tell
