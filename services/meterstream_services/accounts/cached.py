"""A cache in front of a directory: fast, one question at a time for each thing, calm in outages.

What is held passes through these stretches of its age, in seconds:

====================  ==============================================================================
age                   what happens
====================  ==============================================================================
< ``fresh``           it is the answer (``negative`` in place of ``fresh`` for what is not there)
< ``stale``           the directory is asked; if that fails, what is held is the answer
beyond                the directory is asked; if that fails, so does the question
====================  ==============================================================================

Who asks for what somebody else is asking for already waits for that answer. After a failure the
directory is left in peace for ``retry`` seconds: what is held answers at once, the rest fails at
once. So an outage costs one wait, not one for each question.

A change that is made through the cache is in every answer from there on: what was asked before it
is neither joined nor kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Change
from meterstream_services.accounts.port import Applied, EditableDirectory, Expected, Feed

_HISTORY: Final = "history"
_ACCOUNT: Final = "account"
_TENANTS: Final = "tenants"
_EXTERNAL: Final = "external"
_EXTERNALS: Final = "externals"

_Key = tuple[str, Hashable]


@dataclass(frozen=True, slots=True)
class Caching:
    """How long things are held, in seconds, and how many of them."""

    fresh_seconds: float = 60.0
    negative_seconds: float = 10.0
    stale_seconds: float = 86_400.0
    retry_seconds: float = 5.0
    wait_seconds: float = 10.0
    held_max: int = 1_000_000


@dataclass(slots=True)
class Counts:
    """What became of questions, for metrics. ``seconds`` were spent asking the directory."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int = 0
    calls: int = 0
    seconds: float = 0.0


class _Held(NamedTuple):
    content: Any
    since: float


@dataclass(slots=True)
class _Flight:
    """A question that is under way, for those who wait for it."""

    landed: threading.Event = field(default_factory=threading.Event)
    problem: BaseException | None = None
    found: dict[_Key, Any] = field(default_factory=dict[_Key, Any])


class CachedDirectory:
    """An `EditableDirectory` in front of another. Thread-safe. Lists of accounts are not held."""

    def __init__(
        self,
        directory: EditableDirectory,
        caching: Caching = Caching(),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._caching = caching
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[_Key, _Held] = OrderedDict()
        self._flights: dict[_Key, _Flight] = {}
        self._back_at = float("-inf")
        self._why = ""
        self.counts: Final = Counts()

    def account(self, account_id: str) -> Account | None:
        """See `Directory`."""
        found: Account | None = self._one(
            _ACCOUNT, account_id, lambda: self._directory.account(account_id)
        )
        return found

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """See `Directory`."""
        return self._directory.accounts(after=after, limit=limit)

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """See `Directory`. Only those that are not held are asked for, all in one question."""

        def load(keys: Sequence[_Key]) -> dict[_Key, Any]:
            found = self._directory.histories([str(key[1]) for key in keys])
            return {key: found.get(str(key[1]), ()) for key in keys}

        found = self._get([(_HISTORY, tenant) for tenant in dict.fromkeys(tenants)], load)
        return {str(tenant): history for (_, tenant), history in found.items() if history}

    def tenants_of(self, account_id: str) -> list[str]:
        """See `Directory`."""
        found = self._one(_TENANTS, account_id, lambda: self._directory.tenants_of(account_id))
        return list(found)

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """See `Directory`."""
        found = self._one(_EXTERNALS, account_id, lambda: self._directory.external_ids(account_id))
        return list(found)

    def account_of(self, system: str, external_id: str) -> str | None:
        """See `Directory`."""
        key = (system, external_id)
        found: str | None = self._one(
            _EXTERNAL, key, lambda: self._directory.account_of(system, external_id)
        )
        return found

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """See `EditableDirectory`."""
        try:
            return self._directory.apply(
                changes, expected=expected, dry_run=dry_run, detailed=detailed
            )
        finally:
            if not dry_run:  # Also after an error: it may be one whose outcome is in doubt.
                self._age()

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """See `EditableDirectory`."""
        return self._directory.changes(after=after, limit=limit)

    def close(self) -> None:
        """See `EditableDirectory`."""
        self._directory.close()

    def _age(self) -> None:
        """Nothing that is held is fresh any more, nothing that is under way is joined or kept."""
        long_ago = self._clock() - self._caching.fresh_seconds - self._caching.negative_seconds
        with self._lock:
            self._flights.clear()
            for key, held in self._held.items():
                self._held[key] = held._replace(since=min(held.since, long_ago))

    def _one(self, kind: str, name: Hashable, load: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever is held
        key = (kind, name)
        return self._get([key], lambda _: {key: load()})[key]

    def _get(
        self, keys: Sequence[_Key], load: Callable[[Sequence[_Key]], Mapping[_Key, Any]]
    ) -> dict[_Key, Any]:
        found: dict[_Key, Any] = {}
        mine: list[_Key] = []
        theirs: list[tuple[_Key, _Flight]] = []
        own = _Flight()
        with self._lock:
            now = self._clock()
            for key in keys:
                held = self._held.get(key)
                if held is not None and now - held.since < self._fresh_for(held.content):
                    self._held.move_to_end(key)
                    found[key] = held.content
                elif (flight := self._flights.get(key)) is not None:
                    theirs.append((key, flight))
                else:
                    self._flights[key] = own
                    mine.append(key)
            self.counts.hits += len(found)
            self.counts.misses += len(keys) - len(found)
        if mine:
            self._load(mine, own, load)
        for key, flight in [*((key, own) for key in mine), *theirs]:
            found[key] = self._landed(key, flight)
        return found

    def _load(
        self,
        keys: Sequence[_Key],
        own: _Flight,
        load: Callable[[Sequence[_Key]], Mapping[_Key, Any]],
    ) -> None:
        """Ask the directory, unless it failed a moment ago, and let everybody know."""
        begun = self._clock()
        try:
            if begun < self._back_at:
                raise AccountsUnavailable(self._why)  # noqa: TRY301 - goes the way of all failures
            self.counts.calls += 1
            own.found.update(load(keys))
        except AccountsUnavailable as problem:
            own.problem = problem
            now = self._clock()
            with self._lock:
                if begun >= self._back_at:
                    self._back_at, self._why = now + self._caching.retry_seconds, str(problem)
                    self.counts.errors += 1
                    self.counts.seconds += now - begun
                self._forget_flights(keys, own)
        except BaseException as problem:
            own.problem = problem
            with self._lock:
                self._forget_flights(keys, own)
            raise
        else:
            now = self._clock()
            with self._lock:
                self.counts.seconds += now - begun
                for key in self._forget_flights(keys, own):
                    self._held[key] = _Held(own.found[key], now)
                    self._held.move_to_end(key)
                while len(self._held) > self._caching.held_max:
                    self._held.popitem(last=False)
        finally:
            own.landed.set()

    def _forget_flights(self, keys: Sequence[_Key], own: _Flight) -> list[_Key]:
        """End this flight; the keys that no change has overtaken."""
        current = [key for key in keys if self._flights.get(key) is own]
        for key in current:
            del self._flights[key]
        return current

    def _landed(self, key: _Key, flight: _Flight) -> Any:  # noqa: ANN401 - whatever is held
        """What came of a question, or what is held where nothing did."""
        in_time = flight.landed.wait(self._caching.wait_seconds)
        if in_time and flight.problem is None:
            return flight.found[key]
        problem = flight.problem
        if problem is not None and not isinstance(problem, AccountsUnavailable):
            raise problem
        with self._lock:
            held = self._held.get(key)
            if held is not None and self._clock() - held.since < self._caching.stale_seconds:
                self.counts.stale += 1
                return held.content
        late = f"accounts: no answer within {self._caching.wait_seconds:g} s"
        raise AccountsUnavailable(str(problem) if problem else late) from problem

    def _fresh_for(self, content: object) -> float:
        there = content is not None and content not in ((), [])
        short = min(self._caching.negative_seconds, self._caching.fresh_seconds)
        return self._caching.fresh_seconds if there else short
