"""Errors of the processes that Kafka feeds.

::

    ConsumersError
    ├── LogUnsure        wait and try again: the broker does not say whether the log is the same
    ├── LogUnusable      stop and tell a person: waiting mends nothing; the position has not moved
    │   ├── LogTooShort  the log no longer has what is asked for
    │   ├── LogGap       likewise, of a worker: a person accepts the loss by naming it
    │   ├── TopicRemade  another topic under the name of ours
    │   ├── OtherStore   the group's positions were made by another store than ours
    │   ├── GroupShared  the group reads other topics too
    │   └── InstanceFenced  another worker has taken our name
    ├── InstanceHeld     wait: a worker of our name is still a member of the group
    ├── InvalidFix       name another field or value
    ├── InvalidGap       write it as it was told
    ├── DeadLetterFlood  likewise: so much is refused that the fault is hardly the events'
    └── RebuildRefused   nothing was written: name another target, topic or catalogue
"""

from __future__ import annotations


class ConsumersError(Exception):
    """Base of this package's errors; the message is one sentence for a person."""


class LogUnsure(ConsumersError):
    """Nothing may be committed now: the broker does not answer what must be known first."""


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


class LogGap(LogUnusable):
    """Retention took records before they were folded: [first, end) of a partition."""

    def __init__(self, topic: str, partition: int, *, first: int, end: int) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}: retention overtook this worker; the log no "
            f"longer has offsets {first} to {end - 1} ({end - first} records), which were not "
            "folded; nothing of this partition is counted until the log is restored, or somebody "
            f"accepts the loss with --accept-gap {partition}:{first}-{end - 1}"
        )
        self.partition = partition
        self.first = first
        self.end = end


class TopicRemade(LogUnusable):
    """The topic is not the one that the store belongs to, or is not there any more."""


class OtherStore(LogUnusable):
    """Another store counts, or counted, what we are to count."""


class GroupShared(LogUnusable):
    """A consumer group that other topics are read in."""

    def __init__(self, group: str, topic: str, others: tuple[str, ...]) -> None:
        names = ", ".join(repr(each) for each in others)
        super().__init__(
            f"consumer group {group!r} is to read topic {topic!r} and has members or positions of "
            f"{names}: two kinds of consumers in one group take partitions from each other; name a "
            "group of its own with --group, or, when the other topic is not read any more, remove "
            f"its positions: kafka-consumer-groups.sh --group {group} --delete-offsets --topic "
            f"{others[0]}"
        )
        self.group = group
        self.others = others


class InstanceFenced(LogUnusable):
    """Another member of the group was started under our instance name."""

    def __init__(self, instance: str | None, told: str) -> None:
        super().__init__(
            f"another worker was started as instance {instance!r}, and has the partitions now "
            f"({told}); give each worker a name of its own with --instance"
        )


class InstanceHeld(ConsumersError):
    """The group still has a member of our instance name."""


class GroupSilent(ConsumersError):
    """Kafka's client got no answer from the group again and again: a new one is to ask."""


class RebuildRefused(ConsumersError):
    """A store cannot be rebuilt as asked."""


class InvalidFix(ConsumersError):
    """A fix that cannot be applied to an event."""

    def __init__(self, fix: str, problem: str) -> None:
        super().__init__(f"--fix {fix!r:.100}: {problem}")


class InvalidGap(ConsumersError):
    """A gap that is not written as one."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--accept-gap {text!r:.100}: write PARTITION:FROM-TO, with the first and the last "
            "offset that are lost, as the worker told them"
        )


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
