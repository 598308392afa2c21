"""Errors of the processes that Kafka feeds.

::

    ConsumersError
    ├── LogUnusable      stop and tell a person: waiting mends nothing; the position has not moved
    │   └── LogTooShort  the log no longer has what is asked for
    └── RebuildRefused   nothing was written: name another target, topic or catalogue
"""

from __future__ import annotations


class ConsumersError(Exception):
    """Base of this package's errors; the message is one sentence for a person."""


class LogUnusable(ConsumersError):
    """The topic is not what a worker can rest figures on."""


class LogTooShort(LogUnusable):
    """Retention took the beginning of what must be read."""

    def __init__(self, topic: str, partition: int, *, needed: int, first: int) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}: offset {needed} is needed and the log begins "
            f"at {first}; restore the older part of the log, or keep the store as it is"
        )
        self.topic = topic
        self.partition = partition
        self.needed = needed
        self.first = first


class RebuildRefused(ConsumersError):
    """A store cannot be rebuilt as asked."""
