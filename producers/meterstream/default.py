"""The default meter of a process: `meterstream.record` and the like, without a meter in hand.

It is made at first use from ``METERSTREAM_*``, or by `configure`. What was decorated before sends
to whichever meter is the default when it is called. A fork gives the child's default another
incarnation, as for every meter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

from meterstream.boundaries import Boundaries
from meterstream.conveniences import Conveniences
from meterstream.errors import SettingsError, TransportUnavailable
from meterstream.meter import CLOSE_SECONDS, Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from meterstream.incarnation import Goal, Incarnation
    from meterstream.status import Status

_Settings = ParamSpec("_Settings")
_Made = TypeVar("_Made")

_held: Final[dict[str, Meter]] = {}
"""The default meter under one name. Plain dictionary steps only, since any thread may come."""
_NAME: Final = "default"


def default_meter() -> Meter:
    """The default meter; made now when there is none. Connects nothing, never raises.

    With settings in the environment that cannot be used, events wait in its buffer and
    ``status().last_error`` says why.
    """
    meter = _held.get(_NAME)
    if meter is None:
        made = _from_environment()
        meter = _held.setdefault(_NAME, made)
        if meter is not made:
            made.close(0)
    return meter


def held_meter() -> Meter | None:
    """The default meter, if one was made."""
    return _held.get(_NAME)


def _like(
    _constructor: Callable[_Settings, _Made],
) -> Callable[[Callable[..., _Made]], Callable[_Settings, _Made]]:
    """Type checkers see the constructor's parameters."""
    return lambda function: function


@_like(Meter)
def configure(*args: Any, **settings: Any) -> Meter:  # noqa: ANN401 - as many as settings
    """Make the default meter with the settings of `Meter`; a former one is closed.

    Raises `SettingsError`, and keeps the former then.
    """
    meter = Meter(*args, **settings)
    former = _held.get(_NAME)
    _held[_NAME] = meter
    if former is not None:
        former.close(CLOSE_SECONDS)
    return meter


class _Default(Boundaries, Conveniences):
    """Every call of a meter, on whichever meter is the default then."""

    def current(self) -> Incarnation:
        """See `meterstream.meter.Meter.current`."""
        return default_meter().current()

    def record(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        quantity: int | Decimal | str = 1,
        time: datetime | int | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        key: str | None = None,
        coalesce: float | None = None,
    ) -> bool:
        """See `meterstream.meter.Meter.record`."""
        return default_meter().record(
            type,
            tenant=tenant,
            quantity=quantity,
            time=time,
            session=session,
            subject=subject,
            attributes=attributes,
            key=key,
            coalesce=coalesce,
        )

    def void(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        key: str,
        time: datetime | int,
        tenant: str | None = None,
        quantity: int | Decimal | str = 1,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> bool:
        """See `meterstream.meter.Meter.void`."""
        return default_meter().void(
            type,
            key=key,
            time=time,
            tenant=tenant,
            quantity=quantity,
            session=session,
            subject=subject,
            attributes=attributes,
        )


def flush(timeout: float, *, to: Goal = "log") -> bool:
    """See `meterstream.meter.Meter.flush`."""
    return default_meter().flush(timeout, to=to)


def status() -> Status:
    """See `meterstream.meter.Meter.status`."""
    return default_meter().status()


def close(timeout: float = CLOSE_SECONDS) -> bool:
    """See `meterstream.meter.Meter.close`. Events that come after it are dropped and counted."""
    return default_meter().close(timeout)


_default: Final = _Default()
record = _default.record
void = _default.void
session = _default.session
session_start = _default.session_start
session_heartbeat = _default.session_heartbeat
session_end = _default.session_end
metered = _default.metered
timer = _default.timer
stream = _default.stream
counter = _default.counter
coalesced = _default.coalesced
context = _default.context


class _Nowhere:
    """Stands in for a transport that could not be built."""

    def __init__(self, problem: SettingsError) -> None:
        self._problem: Final = str(problem)

    def connect(self, *, timeout_seconds: float) -> NoReturn:  # noqa: ARG002 - it never waits
        raise TransportUnavailable(self._problem)

    def send(self, parcels: object) -> NoReturn:  # noqa: ARG002 - never reached
        raise TransportUnavailable(self._problem)

    def poll(self, timeout_seconds: float) -> NoReturn:  # noqa: ARG002 - never reached
        raise TransportUnavailable(self._problem)

    def trouble(self) -> None:
        return None

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


def _from_environment() -> Meter:
    try:
        return Meter()
    except SettingsError as problem:
        return Meter(transport=_Nowhere(problem), durability="memory")
