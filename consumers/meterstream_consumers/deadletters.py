"""Dead letters on their way out: the original record with its reason, position and headers.

Message key ``<partition>-<offset>``; the value is the original value, byte for byte; headers
``meterstream-reason``, ``-detail``, ``-topic``, ``-partition``, ``-offset``, ``-append-time``
(milliseconds) and ``-key`` (the original key), followed by the record's own headers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meterstream_aggregator.changes import Changes, DeadLetter, OutboxMessage
from meterstream_aggregator.refusals import Refusal
from meterstream_consumers.records import RawBatch


def add_undecodable(
    changes: Changes, raw: RawBatch, refused: Iterable[tuple[int, Refusal]]
) -> None:
    """Records that are no events: dead letters without a tenant, counted as refused."""
    times = raw.places().append_time
    for row, why in refused:
        partition = raw.partitions[row]
        changes.tally(partition).refused += 1
        changes.dead_letters.append(
            DeadLetter(
                partition=partition,
                offset=raw.offsets[row],
                append_time=int(times[row]),
                refusal=why,
                tenant=None,
                type=None,
                producer="",
                lane=0,
                sequence=0,
            )
        )


def add_outbox(changes: Changes, raw: RawBatch, topic: str, deadletters_topic: str) -> None:
    """One outgoing message per dead letter of this batch."""
    if not changes.dead_letters:
        return
    places = zip(raw.partitions, raw.offsets, strict=True)
    rows: Mapping[tuple[int, int], int] = {place: row for row, place in enumerate(places)}
    for letter in changes.dead_letters:
        row = rows[(letter.partition, letter.offset)]
        changes.outbox.append(
            OutboxMessage(
                letter.partition,
                deadletters_topic,
                f"{letter.partition}-{letter.offset}".encode(),
                raw.values[row],
                _headers(letter, raw, row, topic),
            )
        )


def _headers(
    letter: DeadLetter, raw: RawBatch, row: int, topic: str
) -> tuple[tuple[str, bytes], ...]:
    message = raw.messages[row]
    told = {
        "reason": letter.refusal.reason.value,
        "detail": letter.refusal.detail,
        "topic": topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "append-time": str(raw.append_times[row]),
    }
    headers = [
        (f"meterstream-{name}", text.encode("utf-8", "backslashreplace"))
        for name, text in told.items()
    ]
    key = message.key()
    if key is not None:
        headers.append(("meterstream-key", key))
    headers.extend((name, value or b"") for name, value in message.headers() or ())
    return tuple(headers)
