"""What a client owes; see `meterstream_services.http.front_connection`."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Of one connection."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    IDLE = auto()
    OVER = auto()
