"""The floor under every worker: the bare consume loop, and the same with the native decoder.

Run as ``python -m benchmarks.consuming --bootstrap B --topic T --records N bare|decode``; prints
one line of JSON.
"""

from __future__ import annotations

import argparse

import pyruhvro
from confluent_kafka import Consumer, TopicPartition

from benchmarks.measuring import Stopwatch, report, settle
from meterstream_schemas.codec import LATEST_ID, bundled_text
from meterstream_schemas.wire import HEADER_BYTES

CONSUME = 1_000
BATCH = 50_000


def main() -> None:
    """Measure one of the two loops over a topic that is full already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("what", choices=("bare", "decode"))
    arguments = parser.parse_args()
    consumer = _consumer(arguments.bootstrap, arguments.topic)
    settle()
    loop = _bare if arguments.what == "bare" else _decode
    try:
        watch = Stopwatch()
        loop(consumer, arguments.records)
        report(watch.read(arguments.records).as_json())
    finally:
        consumer.close()


def _consumer(bootstrap: str, topic: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "benchmark",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "check.crcs": True,
            "queued.max.messages.kbytes": 16_384,
            # A full queue pauses fetching this long: with the default of 1,000 ms the loop starves.
            "fetch.queue.backoff.ms": 10,
            "enable.metrics.push": False,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    return consumer


def _bare(consumer: Consumer, records: int) -> None:
    left = records
    while left > 0:
        left -= len(consumer.consume(min(CONSUME, left), 0.5))


def _decode(consumer: Consumer, records: int) -> None:
    schema = bundled_text(LATEST_ID)
    left, bodies = records, []
    while left > 0:
        messages = consumer.consume(min(CONSUME, left), 0.5)
        left -= len(messages)
        bodies += [(message.value() or b"")[HEADER_BYTES:] for message in messages]
        if len(bodies) >= BATCH or left <= 0:
            pyruhvro.deserialize_array(bodies, schema)
            bodies = []


if __name__ == "__main__":
    main()
