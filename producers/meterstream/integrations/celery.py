"""Signals of Celery: each run of a task becomes an event when it has ended.

::

    connect(app, meter)

Whoever sends a task inside of ``meter.context(tenant=...)``, or of a metered request, sends the
tenant along as the header ``meterstream_tenant``; the task is metered for it, and what it records
needs no tenant of its own. ``connect`` must be called where tasks are sent and where they run.

Attributes of an event: ``task``, its name, and ``state``: ``success``, ``failure``, ``retry``,
``ignored`` or ``rejected``. A task that its worker kills, by a hard time limit or with the whole
worker, has no end and no event.

Processes that a worker forks need no hook of their own: in each, a meter begins anew by itself. At
the end of such a process, which runs no exit handlers, the meter is closed here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from meterstream.context import AMBIENT
from meterstream.extras import needs
from meterstream.integrations.calls import Charge, Tariff, Within, check_quantity

with needs("celery", __name__):
    from celery import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meterstream import Meter

HEADER: Final = "meterstream_tenant"
Quantity: TypeAlias = Literal["1", "ms"]
_MARK: Final = "_meterstream_run"
_CLOSE_SECONDS: Final = 5.0


class Run(NamedTuple):
    """One run of a task, as ``tenant`` and ``attributes`` see it."""

    task: Any
    """The task; ``task.request`` tells of headers, retries and the queue."""
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @property
    def headers(self) -> Mapping[str, Any]:
        """Headers that the sender gave, and those of hooks."""
        return self.task.request.headers or {}


def propagated_tenant(run: Run) -> str | None:
    """The tenant that came with the task, else that of the code which runs it eagerly."""
    found = run.headers.get(HEADER)
    ambient = AMBIENT.get()
    if found is None and ambient is not None:
        return ambient.tenant
    return found


def connect(
    app: Any | None,  # noqa: ANN401 - no types
    meter: Meter,
    *,
    type: str = "celery.task",  # noqa: A002 - the event's own field
    tenant: Callable[[Run], str | None] = propagated_tenant,
    quantity: Quantity = "1",
    attributes: Callable[[Run], Mapping[str, str] | None] | None = None,
    charge_failures: bool = False,
    charge_retries: bool = False,
) -> Connection:
    """Meter the tasks of ``app``, or with None those of every app in this process.

    - ``tenant``: asked before the run, and again after it when the answer was None. None: not
      metered. Raising: counted as an invalid event.
    - ``quantity``: ``1`` or ``ms``; a task may set another by
      `meterstream.integrations.calls.current_charge`.
    - ``attributes``: further ones of the ended `Run`. Raising: counted as an invalid event.
    - ``charge_failures``, ``charge_retries``: record runs that failed, or that ended in a retry.
    """
    check_quantity(quantity, Quantity)
    tariff = Tariff(meter, type, quantity, charge_failures=charge_failures)
    return Connection(app, meter, tariff, tenant, attributes, charge_retries=charge_retries)


class Connection:
    """What `connect` connected, until ``disconnect``."""

    def __init__(
        self,
        app: Any,  # noqa: ANN401 - no types
        meter: Meter,
        tariff: Tariff,
        tenant: Callable[[Run], str | None],
        attributes: Callable[[Run], Mapping[str, str] | None] | None,
        *,
        charge_retries: bool,
    ) -> None:
        self._app: Final = app
        self._meter: Final = meter
        self._tariff: Final = tariff
        self._tenant: Final = tenant
        self._attributes: Final = attributes
        self._charge_retries: Final = charge_retries
        self._receivers: Final = (
            (signals.before_task_publish, self._publishing),
            (signals.task_prerun, self._running),
            (signals.task_postrun, self._ran),
            (signals.worker_process_shutdown, self._process_ends),
        )
        for signal, receiver in self._receivers:
            signal.connect(receiver, weak=False)

    def disconnect(self) -> None:
        """Meter nothing more."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)

    def _publishing(self, headers: Any = None, **_: Any) -> None:  # noqa: ANN401 - no types
        ambient = AMBIENT.get()
        if ambient is not None and ambient.tenant is not None and isinstance(headers, dict):
            headers.setdefault(HEADER, ambient.tenant)

    def _running(self, task: Any = None, args: Any = (), kwargs: Any = None, **_: Any) -> None:  # noqa: ANN401 - no types
        if self._app is not None and task.app is not self._app:
            return
        run, charge = Run(task, args or (), kwargs or {}), Charge()
        self._tariff.ask(charge, self._tenant, run)
        inside = Within(charge)
        inside.__enter__()
        started: list[_Started] = task.request.__dict__.setdefault(_MARK, [])
        started.append(_Started(self, run, charge, inside))

    def _ran(self, task: Any = None, state: Any = None, **_: Any) -> None:  # noqa: ANN401 - no types
        started: list[_Started] = task.request.__dict__.get(_MARK, [])
        mine = next((each for each in started if each.connection is self), None)
        if mine is None:
            return
        started.remove(mine)
        with suppress(Exception):
            mine.inside.__exit__(None, None, None)
        if state == "RETRY" and not self._charge_retries:
            return
        more, run = self._attributes, mine.run
        self._tariff.ask(mine.charge, self._tenant, run)
        self._tariff.settle(
            mine.charge,
            {"task": str(task.name), "state": str(state).lower()},
            failed=state in {"FAILURE", "REJECTED"},
            more=None if more is None else lambda: more(run),
        )

    def _process_ends(self, **_: Any) -> None:  # noqa: ANN401 - no types
        self._meter.close(_CLOSE_SECONDS)


class _Started(NamedTuple):
    """A run under way."""

    connection: Connection
    run: Run
    charge: Charge
    inside: Within
