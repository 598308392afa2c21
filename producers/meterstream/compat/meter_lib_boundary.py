"""Boundaries of sessions that may have no id: they pair up by their subject."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from meterstream.compat import wiring
from meterstream.encoding import SESSION_END, SESSION_START

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_KINDS: Final = {"start": SESSION_START, "end": SESSION_END}


def begin_boundary(
    type: str,  # noqa: A002 - the event's own field
    boundary: wiring.Boundary,
    *,
    tenant: str,
    subject: str,
    session: str | None,
    time: datetime | int | None,
    attributes: Mapping[str, str],
    key: str | None,
) -> wiring.Pending | None:
    """As `wiring.begin`, which asks for a session id; so does `Meter.session_start`."""
    if session is not None:
        return wiring.begin(
            type, tenant=tenant, subject=subject, session=session, time=time,
            attributes=attributes, key=key, boundary=boundary,
        )  # fmt: skip
    known = os.urandom(16).hex() if key is None else key
    waiting = wiring._wiring.waiting  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  - the same outcomes, another way in
    future = waiting.join(tenant, known)
    incarnation, taken = wiring.meter().current(), False
    try:
        number = incarnation.intake.take(
            _KINDS[boundary], type, tenant, 0, time, None, subject, attributes, known
        )
        taken = number > 0
    except Exception as problem:  # noqa: BLE001 - nothing may reach the host
        taken = incarnation.refused(problem)
    finally:
        if not taken and future is not None:
            waiting.leave(tenant, known, future)
    return wiring.Pending(waiting, tenant, known, future) if taken else None
