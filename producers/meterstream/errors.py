"""Errors of the SDK, by what the caller must do.

::

    MeterError (Exception)
    ├── SettingsError (ValueError)  correct the arguments or the environment
    ├── BufferFull                  the event was not taken; slow down, or choose another policy
    ├── MeterClosed                 the event was not taken; record before close()
    └── TransportError              never leaves the background thread
        ├── TransportUnavailable    wait and connect again; everything is kept
        │   └── TransportConnecting     it is at it: call again soon, and it goes on
        └── TransportBroken         build it anew and send again what has no outcome

A wrong argument of ``record`` is `meterstream_schemas.errors.InvalidEvent`, in ``strict`` only.
"""

from __future__ import annotations


class MeterError(Exception):
    """Base of the SDK's errors."""


class SettingsError(MeterError, ValueError):
    """A setting that cannot be used."""


class BufferFull(MeterError):
    """The buffer held ``capacity`` events already. The number is spent, as a visible hole."""

    def __init__(self, capacity: int) -> None:
        super().__init__(
            f"the buffer is full ({capacity} events wait for the broker), the event was dropped; "
            "see status().last_error, or raise buffer_events_max"
        )
        self.capacity = capacity


class MeterClosed(MeterError):
    """An event came after close()."""

    def __init__(self) -> None:
        super().__init__("the meter is closed and the event was dropped; record before close()")


class TransportError(MeterError):
    """Base of what a transport tells the background thread."""


class TransportUnavailable(TransportError):
    """Nothing can be sent now. The message says what is missing and how to mend it."""


class TransportConnecting(TransportUnavailable):
    """An attempt to connect is under way, and the next call goes on with it."""


class TransportBroken(TransportError):
    """The transport cannot go on as it is; outcomes of what it holds will not come."""
