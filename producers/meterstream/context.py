"""What is said once for many calls: tenant, subject, session and attributes of a block of code.

Carried by a context variable, so each thread and each task has its own, and a task begins with
what held where it was made.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Ambient(NamedTuple):
    """What calls inside a block need not say. What a call says itself wins."""

    tenant: str | None
    subject: str | None
    session: str | None
    attributes: Mapping[str, str]


AMBIENT: Final[ContextVar[Ambient | None]] = ContextVar("meterstream", default=None)
"""What holds now, for every meter of the process; None outside of any block."""


def complete(
    ambient: Ambient,
    tenant: str | None,
    subject: str | None,
    session: str | None,
    attributes: Mapping[str, str] | None,
) -> tuple[str | None, str | None, str | None, Mapping[str, str] | None]:
    """What a call says, and for the rest what holds where it is made."""
    return (
        ambient.tenant if tenant is None else tenant,
        ambient.subject if subject is None else subject,
        ambient.session if session is None else session,
        {**ambient.attributes, **attributes} if attributes else ambient.attributes,
    )
