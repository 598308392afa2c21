"""Arroyo: a consumer with strategies. Sum and count in a dictionary, positions to Kafka.

Arroyo has neither windows nor state, so both are the least that could be: a dictionary that is lost
with the process. At least once.
"""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.engines.common import (
    WINDOW_MILLISECONDS,
    Events,
    Progress,
    arguments_of,
    group_of,
)


def main() -> None:
    """Run until so many records are done."""
    arguments = arguments_of(__doc__, ("dictionary",))
    kafka: Any = importlib.import_module("arroyo.backends.kafka")
    processing: Any = importlib.import_module("arroyo.processing.processor")
    strategies: Any = importlib.import_module("arroyo.processing.strategies")
    types: Any = importlib.import_module("arroyo.types")
    commit: Any = importlib.import_module("arroyo.commit")
    events, progress = Events(arguments.schema), Progress(arguments.records)
    sums: dict[tuple[int, str, str], tuple[int, int]] = {}

    def add(message: Any) -> Any:  # noqa: ANN401 - the engine's
        event = events.decode(message.payload.value)
        window = event["time"] // 1_000 // WINDOW_MILLISECONDS
        key = (window, event["tenant"], group_of(event))
        total, count = sums.get(key, (0, 0))
        sums[key] = (total + event["quantity"], count + 1)
        if progress.add():
            processor.signal_shutdown()
        return message.payload

    class Factory(strategies.ProcessingStrategyFactory):  # type: ignore[misc]  # Any: see quix.py
        """One task, then positions."""

        def create_with_partitions(self, commit_to: Any, _partitions: Any) -> Any:  # noqa: ANN401 - the engine's
            return strategies.RunTask(add, strategies.CommitOffsets(commit_to))

    consumer = kafka.KafkaConsumer(
        kafka.build_kafka_consumer_configuration(
            {"enable.metrics.push": False},
            bootstrap_servers=[arguments.bootstrap],
            group_id=arguments.directory.name,
            auto_offset_reset="earliest",
        )
    )
    processor = processing.StreamProcessor(
        consumer, types.Topic(arguments.topic), Factory(), commit.ONCE_PER_SECOND
    )
    processor.run()
    progress.report()


if __name__ == "__main__":
    main()
