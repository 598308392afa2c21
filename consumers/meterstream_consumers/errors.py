"""Errors of the processes that Kafka feeds.

::

    ConsumersError
    ├── LogUnusable      stop and tell a person: waiting mends nothing; the position has not moved
    │   └── LogTooShort  the log no longer has what is asked for
    ├── InvalidFix       name another field or value
    ├── DeadLetterFlood  likewise: so much is refused that the fault is hardly the events'
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


class InvalidFix(ConsumersError):
    """A fix that cannot be applied to an event."""

    def __init__(self, fix: str, problem: str) -> None:
        super().__init__(f"--fix {fix!r:.100}: {problem}")


class DeadLetterFlood(ConsumersError):
    """More records are refused than a person would want drained. See `flood`."""

    def __init__(
        self, *, partition: int, offset: int, what: str, reason: str, share: str, example: str
    ) -> None:
        super().__init__(
            f"partition {partition}: {what} up to offset {offset}, mostly as {reason} ({share}), "
            f"such as {example}; nothing of this batch was committed and a new start would stop "
            "here again: mend the catalogue, the schema registry or the sender, or pass "
            "--deadletter-run-max 0 --deadletter-ratio-max 1 to have them made dead letters"
        )
        self.partition = partition
        self.offset = offset
        self.reason = reason
