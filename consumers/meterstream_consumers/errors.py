"""Errors of the processes that Kafka feeds.

::

    ConsumersError
    └── LogUnusable    stop and tell a person: waiting will not mend it; the position has not moved
"""

from __future__ import annotations


class ConsumersError(Exception):
    """Base of this package's errors; the message is one sentence for a person."""


class LogUnusable(ConsumersError):
    """The topic is not what a worker can rest figures on."""
