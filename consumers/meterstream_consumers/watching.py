"""Thresholds in a worker: what a batch moves, and whose accounts it belongs to.

Called between fold and commit. Accounts come from a directory that may be away, which must never
stop counting: steps whose account cannot be asked for are written down with the batch, and asked
for again with later batches or when the log is quiet.

An account's figure follows the mapping as it is known when each step is counted; a tenant of no
account adds to none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from meterstream_aggregator.batch import Batch, Int64Array
from meterstream_aggregator.catalogue import Aggregate, Catalogue, Threshold
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.state import State
from meterstream_aggregator.threshold_steps import (
    Steps,
    movements,
    session_steps,
    tenants_watched,
    usage_steps,
)
from meterstream_aggregator.thresholds import (
    NOBODY,
    TENANT,
    Movement,
    Periods,
    Place,
    Waiting,
    identity,
)
from meterstream_consumers.errors import ConsumersError
from meterstream_schemas.events import NOTICES_TOPIC
from meterstream_schemas.quantity import Amount

Directory = Callable[[str, int], str | None]
"""(tenant, time in microseconds) → its account then, None for none. Any error means: not now."""

_CACHED_SECONDS: Final = 60.0
_CACHED_MAX: Final = 100_000
_AWAY_SECONDS: Final = 5.0
_WAITING_MAX: Final = 1_000


class WaitingSteps(Protocol):
    """The part of a store that remembers steps without an account."""

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        ...


@dataclass(frozen=True, slots=True)
class _Watched:
    threshold: Threshold
    periods: Periods
    greatest: bool


class Watching:
    """Fills in what a batch moves of watched figures. One thread, the store's.

    ``said`` hears once why the directory does not answer, and None when it does again.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        store: WaitingSteps,
        *,
        directory: Directory | None = None,
        topic: str = NOTICES_TOPIC,
        clock: Callable[[], float] = time.monotonic,
        said: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._accounts = _Accounts(directory or _nobody, clock, said)
        self._topic = topic
        self._by_meter: dict[str, list[_Watched]] = {}
        self._of_any_account = any(each.scope != TENANT for each in catalogue.thresholds)
        if directory is None and self._of_any_account:
            raise ConsumersError(
                "the catalogue has thresholds on accounts, and this worker knows no accounts; "
                "name their directory, or take those thresholds out"
            )
        for threshold in catalogue.thresholds:
            greatest = catalogue.meter(threshold.meter).aggregate is Aggregate.MAX
            watched = _Watched(threshold, Periods(threshold), greatest)
            self._by_meter.setdefault(threshold.meter, []).append(watched)
        self._by_identity = {
            identity(watched.threshold): watched
            for several in self._by_meter.values()
            for watched in several
        }

    def __call__(self, batch: Batch, _state: State, changes: Changes) -> None:
        """Add to ``changes`` what the batch moves."""
        for name, several in self._by_meter.items():
            steps = self._steps(batch, changes, name)
            if steps is None:
                continue
            for watched in several:
                if watched.threshold.scope == TENANT:
                    who = tenants_watched(watched.threshold, steps)
                    changes.movements.extend(self._moved(watched, steps, who, steps.tenants))
                else:
                    self._of_accounts(watched, steps, changes)

    def retry(self, partitions: Collection[int]) -> Changes | None:
        """What can be told now of steps that wait, as changes of their own; None for nothing."""
        if self._accounts.away or not (partitions and self._of_any_account):
            return None
        changes = Changes()
        for waited, step in self._store.waiting(partitions, _WAITING_MAX):
            watched = self._by_identity.get(step.threshold)
            known, account = self._accounts.of(step.tenant, step.window)
            if watched is None or not known:
                continue
            changes.movements.append(self._of_waiting(watched, step, waited, account))
        return changes if changes.movements else None

    def _steps(self, batch: Batch, changes: Changes, name: str) -> Steps | None:
        definitions = self._catalogue.definitions(name)
        if definitions[-1].aggregate is Aggregate.SESSION:
            return session_steps(move for move in changes.charge_moves if move.meter == name)
        assert changes.times is not None, "a watched batch is folded by columns"
        return usage_steps(batch, changes.times, definitions)

    def _moved(
        self, watched: _Watched, steps: Steps, who: Int64Array, names: Sequence[str]
    ) -> list[Movement]:
        return list(
            movements(
                watched.threshold,
                steps,
                who,
                names,
                periods=watched.periods,
                greatest=watched.greatest,
                topic=self._topic,
            )
        )

    def _of_accounts(self, watched: _Watched, steps: Steps, changes: Changes) -> None:
        """Ask once for each tenant and window; what cannot be asked for waits."""
        windows, window_code = np.unique(steps.window, return_inverse=True)
        pairs, pair = np.unique(steps.tenant * len(windows) + window_code, return_inverse=True)
        codes: dict[str, int] = {}
        found: list[int] = []
        unknown: list[bool] = []
        for each in pairs.tolist():
            code, at = divmod(int(each), len(windows))
            known, account = self._accounts.of(steps.tenants[code], int(windows[at]))
            asked = account is not None and _asks_for(watched.threshold, account)
            found.append(codes.setdefault(account, len(codes)) if asked and account else -1)
            unknown.append(not known)
        who = np.array(found, dtype=np.int64)[pair]
        changes.movements.extend(self._moved(watched, steps, who, list(codes)))
        for row in np.flatnonzero(np.array(unknown)[pair]).tolist():
            window = int(steps.window[row])
            changes.waiting.append(
                Waiting(
                    identity(watched.threshold),
                    steps.tenants[int(steps.tenant[row])],
                    window,
                    *watched.periods.of(window),
                    amount=Amount(int(steps.amount[row]), steps.scale),
                    place=Place(*steps.place[row].tolist()),
                )
            )

    def _of_waiting(
        self, watched: _Watched, step: Waiting, waited: int, account: str | None
    ) -> Movement:
        """The step as a movement of its account; of nobody's, one that only takes it away."""
        asked = account is not None and _asks_for(watched.threshold, account)
        return Movement(
            watched.threshold,
            account if asked and account is not None else NOBODY,
            step.start,
            step.end,
            greatest=watched.greatest,
            scale=step.amount.scale,
            amounts=np.array([step.amount.quantity], dtype=object),
            places=np.array([step.place], dtype=np.int64),
            waited=(waited,),
            topic=self._topic,
        )


def _asks_for(threshold: Threshold, account: str) -> bool:
    return not threshold.of or account in threshold.of


def _nobody(_tenant: str, _time: int) -> None:
    """The directory of a worker that needs none."""


class _Accounts:
    """A directory, cached; one that failed is left in peace for a while."""

    def __init__(
        self, directory: Directory, clock: Callable[[], float], said: Callable[[str | None], None]
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._said = said
        self._known: dict[tuple[str, int], tuple[float, str | None]] = {}
        self._back_at = 0.0
        self._failing = False

    @property
    def away(self) -> bool:
        """Whether it failed a moment ago."""
        return self._clock() < self._back_at

    def of(self, tenant: str, window: int) -> tuple[bool, str | None]:
        """Whether the directory answers, and the tenant's account at that time."""
        now = self._clock()
        held = self._known.get((tenant, window))
        if held is not None and now - held[0] < _CACHED_SECONDS:
            return True, held[1]
        if self.away:
            return False, None
        try:
            account = self._directory(tenant, window)
        except Exception as problem:  # noqa: BLE001 - whatever a directory raises, counting goes on
            self._back_at = now + _AWAY_SECONDS
            if not self._failing:  # Once an outage: it is tried every few seconds.
                self._failing = True
                self._said(str(problem) or type(problem).__name__)
            return False, None
        if self._failing:
            self._failing = False
            self._said(None)
        if len(self._known) >= _CACHED_MAX:
            self._known.clear()
        self._known[(tenant, window)] = (now, account)
        return True, account
