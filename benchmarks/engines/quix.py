"""Quix Streams, exactly once: sum and count by tenant, type and region in one-minute windows.

``state`` keeps them in Quix's state store under (window, type, region) of the record's key, which
is the tenant. ``window`` uses its tumbling windows, by tenant alone, which is less: grouping by
more there needs a repartition topic.
"""

from __future__ import annotations

import importlib
from datetime import timedelta
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
    arguments = arguments_of(__doc__, ("state", "window"))
    # By name: it is installed in another environment than that of the checkers.
    quix: Any = importlib.import_module("quixstreams")
    serializers: Any = importlib.import_module("quixstreams.models.serializers")
    progress = Progress(arguments.records)

    class EventDeserializer(serializers.Deserializer):  # type: ignore[misc]  # Any, as said above
        """Framed Avro."""

        def __init__(self) -> None:
            super().__init__()
            self._events = Events(arguments.schema)

        def __call__(self, value: bytes, ctx: object) -> dict[str, Any]:  # noqa: ARG002 - the engine's
            return self._events.decode(value)

    def processed(_topic: str, _partition: int, _offset: int) -> None:
        if progress.add():
            application.stop()

    application = quix.Application(
        broker_address=arguments.bootstrap,
        consumer_group=arguments.directory.name,
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=arguments.directory,
        on_message_processed=processed,
        loglevel="WARNING",
    )
    topic = application.topic(
        arguments.topic,
        value_deserializer=EventDeserializer(),
        timestamp_extractor=lambda value, *_: value["time"] // 1_000,
    )
    frame = application.dataframe(topic)
    if arguments.way == "state":
        frame.apply(_add, stateful=True)
    else:
        windows: Any = importlib.import_module("quixstreams.dataframe.windows")
        frame.tumbling_window(
            timedelta(milliseconds=WINDOW_MILLISECONDS), grace_ms=timedelta(days=3)
        ).agg(sum=windows.Sum("quantity"), count=windows.Count()).current()
    application.run()
    progress.report()


def _add(event: dict[str, Any], state: Any) -> None:  # noqa: ANN401 - the engine's
    window = event["time"] // 1_000 // WINDOW_MILLISECONDS
    key = f"{window}\x00{group_of(event)}"
    total, count = state.get(key, (0, 0))
    state.set(key, (total + event["quantity"], count + 1))


if __name__ == "__main__":
    main()
