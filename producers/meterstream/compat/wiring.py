"""What the five compatibility modules share: a meter, the usage API, a ledger, definitions.

Addresses and keys that a vendor's call names go nowhere: events go where ``METERSTREAM_*`` says,
or to what the host gave to `use`. Nothing is made before it is asked for.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING, Any, Final, Literal

from meterstream.compat.definitions import Definitions, LocalDefinitions
from meterstream.compat.forks import ForkLock
from meterstream.compat.json_file import file_of
from meterstream.compat.ledger import Ledger, LocalLedger
from meterstream.compat.outcomes import Pending, Sent, Waiting
from meterstream.errors import SettingsError
from meterstream.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from meterstream.compat.usage_api import UsageApi
    from meterstream.status import Outcome

__all__ = [
    "Boundary",
    "Pending",
    "Sent",
    "begin",
    "definitions",
    "ledger",
    "make_meter",
    "meter",
    "reset",
    "send",
    "send_async",
    "try_meter",
    "usage",
    "use",
]

Boundary = Literal["start", "end"]

_log: Final = logging.getLogger("meterstream")


class _Wiring:
    """The parts in force. One per process; see the functions of this module."""

    def __init__(self) -> None:
        self.lock: Final = ForkLock()
        self.waiting = Waiting()
        """Whose outcomes: those of the present process."""
        self.meter: Meter | None = None
        self.own_meter = False
        self.told = False
        """Unfit settings were said in the log."""
        self.usage: UsageApi | None = None
        self.ledger: Ledger | None = None
        self.definitions: Definitions | None = None
        self.made: Final[weakref.WeakSet[Meter]] = weakref.WeakSet()

    def after_fork(self) -> None:
        self.waiting = Waiting()


_wiring: Final = _Wiring()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wiring.after_fork)


def make_meter(service: str = "compat", **settings: Any) -> Meter:  # noqa: ANN401 - those of Meter
    """A meter whose outcomes `send` can wait for. Settings are those of `meterstream.meter.Meter`.

    An ``on_outcome`` among them is called too.
    """
    further: Callable[[Outcome], object] | None = settings.pop("on_outcome", None)

    def on_outcome(outcome: Outcome) -> None:
        _wiring.waiting.tell(outcome)
        if further is not None:
            further(outcome)

    made = Meter(service, on_outcome=on_outcome, **settings)
    _wiring.made.add(made)
    return made


def meter() -> Meter:
    """The meter that events go through: what `use` gave, else one from ``METERSTREAM_*``."""
    found = _wiring.meter
    if found is not None:
        return found
    with _wiring.lock:
        if _wiring.meter is None:
            _wiring.meter, _wiring.own_meter = make_meter(), True
        return _wiring.meter


def usage() -> UsageApi:
    """What answers questions: what `use` gave, else the usage API over HTTP."""
    # Imported here: it brings httpx, and a host that only records needs no such thing.
    from meterstream.compat.usage_api import HttpUsage  # noqa: PLC0415

    with _wiring.lock:
        if _wiring.usage is None:
            _wiring.usage = HttpUsage()
        return _wiring.usage


def ledger() -> Ledger:
    """The ledger: what `use` gave, else a local one under METERSTREAM_DATA, else in memory."""
    with _wiring.lock:
        if _wiring.ledger is None:
            _wiring.ledger = LocalLedger(file_of("ledger.json"))
        return _wiring.ledger


def definitions() -> Definitions:
    """Definitions: what `use` gave, else local ones under METERSTREAM_DATA, else in memory."""
    with _wiring.lock:
        if _wiring.definitions is None:
            _wiring.definitions = LocalDefinitions(file_of("definitions.json"))
        return _wiring.definitions


def use(
    *,
    meter: Meter | None = None,
    usage: UsageApi | None = None,
    ledger: Ledger | None = None,
    definitions: Definitions | None = None,
) -> None:
    """Put parts of the host's own in place; what is not given stays as it is.

    The meter must come from `make_meter`, since `send` waits for its outcomes; closing it stays its
    giver's. Raises `SettingsError` for another one.
    """
    if meter is not None and meter not in _wiring.made:
        raise SettingsError("this meter tells no outcomes; make it with wiring.make_meter()")
    with _wiring.lock:
        if meter is not None:
            _close_own()
            _wiring.meter, _wiring.own_meter = meter, False
        _wiring.usage = usage or _wiring.usage
        _wiring.ledger = ledger or _wiring.ledger
        _wiring.definitions = definitions or _wiring.definitions


def reset() -> None:
    """Forget all parts, closing the meter that was made here; the environment is read anew."""
    with _wiring.lock:
        _close_own()
        _wiring.meter = _wiring.usage = _wiring.ledger = _wiring.definitions = None
        _wiring.told = False


def try_meter() -> Meter | None:
    """`meter`, for callers that must not fail: None, said once in the log, for unfit settings."""
    try:
        return meter()
    except Exception as problem:  # noqa: BLE001 - nothing may reach the host
        if not _wiring.told:
            _wiring.told = True
            _log.error("no event is recorded, the settings are unfit: %s", problem)
        return None


def begin(
    type: str,  # noqa: A002 - the event's own field
    *,
    tenant: str,
    quantity: int | Decimal | str = 1,
    time: datetime | int | None = None,
    session: str | None = None,
    subject: str | None = None,
    attributes: Mapping[str, str] | None = None,
    key: str | None = None,
    boundary: Boundary | None = None,
) -> Pending | None:
    """Record an event and return what its outcome can be waited for with.

    None: refused or dropped, and counted in the meter's status. Without a ``key`` the event gets a
    fresh random one. Does not wait. Raises in a ``strict`` meter only.
    """
    target, taken = meter(), False
    known = os.urandom(16).hex() if key is None else key
    waiting = _wiring.waiting
    future = waiting.join(tenant, known)
    try:
        if boundary is None:
            taken = target.record(
                type, tenant=tenant, quantity=quantity, time=time, session=session,
                subject=subject, attributes=attributes, key=known,
            )  # fmt: skip
        else:
            say = target.session_start if boundary == "start" else target.session_end
            taken = say(
                type, tenant=tenant, session=session or "", subject=subject,
                attributes=attributes, time=time, key=known,
            )  # fmt: skip
    finally:
        if not taken and future is not None:
            waiting.leave(tenant, known, future)
    return Pending(waiting, tenant, known, future) if taken else None


def send(
    type: str,  # noqa: A002 - the event's own field
    *,
    timeout: float,
    tenant: str,
    quantity: int | Decimal | str = 1,
    time: datetime | int | None = None,
    session: str | None = None,
    subject: str | None = None,
    attributes: Mapping[str, str] | None = None,
    key: str | None = None,
    boundary: Boundary | None = None,
) -> Sent | None:
    """Record an event and wait at most ``timeout`` seconds for the outcome of that very event.

    None: refused, dropped, or no outcome in time; in the last case it may still arrive, and a
    ``key`` makes it safe to send again. ``boundary`` makes it the start or end of a session.
    """
    pending = begin(
        type, tenant=tenant, quantity=quantity, time=time, session=session, subject=subject,
        attributes=attributes, key=key, boundary=boundary,
    )  # fmt: skip
    return None if pending is None else pending.wait(timeout)


async def send_async(
    type: str,  # noqa: A002 - the event's own field
    *,
    timeout: float,  # noqa: ASYNC109 - as `send`
    tenant: str,
    quantity: int | Decimal | str = 1,
    time: datetime | int | None = None,
    session: str | None = None,
    subject: str | None = None,
    attributes: Mapping[str, str] | None = None,
    key: str | None = None,
    boundary: Boundary | None = None,
) -> Sent | None:
    """As `send`, without blocking the event loop."""
    pending = begin(
        type, tenant=tenant, quantity=quantity, time=time, session=session, subject=subject,
        attributes=attributes, key=key, boundary=boundary,
    )  # fmt: skip
    return None if pending is None else await pending.wait_async(timeout)


def _close_own() -> None:
    if _wiring.own_meter and _wiring.meter is not None:
        _wiring.meter.close()
    _wiring.own_meter = False
