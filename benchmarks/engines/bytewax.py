"""Bytewax: sum and count by tenant, type and region in one-minute windows, one worker.

``fold`` uses its tumbling windows; ``state`` a stateful map over a dictionary for each group. No
recovery store, so nothing survives the process: less than exactly once.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
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
    arguments = arguments_of(__doc__, ("fold", "state"))
    dataflows: Any = importlib.import_module("bytewax.dataflow")
    kafka: Any = importlib.import_module("bytewax.connectors.kafka")
    operators: Any = importlib.import_module("bytewax.operators")
    testing: Any = importlib.import_module("bytewax.testing")
    events, progress = Events(arguments.schema), Progress(arguments.records)

    def keyed(message: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - the engine's
        event = events.decode(message.value)
        return f"{event['tenant']}\x00{group_of(event)}", event

    def seen(pair: Any) -> Any:  # noqa: ANN401 - the engine's
        if progress.add():
            progress.report()
            # It reads on for as long as there is a topic, and has no way to be told otherwise.
            importlib.import_module("os")._exit(0)  # noqa: SLF001 - the only way out of its loop
        return pair

    flow = dataflows.Dataflow("benchmark")
    source = kafka.KafkaSource(
        [arguments.bootstrap], [arguments.topic], tail=True, batch_size=1_000
    )
    stream = operators.map("key", operators.input("in", flow, source), keyed)
    if arguments.way == "state":
        stream = operators.map("seen", operators.stateful_map("sums", stream, _add), seen)
    else:
        # Sums leave a window when it closes: what goes in is what can be counted.
        stream = _windowed(operators.map("seen", stream, seen))
    sinks: Any = importlib.import_module("bytewax.connectors.stdio")
    operators.output("out", operators.filter("none", stream, lambda _: False), sinks.StdOutSink())
    testing.run_main(flow)


def _add(sums: dict[int, Any] | None, event: dict[str, Any]) -> tuple[dict[int, Any], int]:
    sums = {} if sums is None else sums
    window = event["time"] // 1_000 // WINDOW_MILLISECONDS
    total, count = sums.get(window, (0, 0))
    sums[window] = (total + event["quantity"], count + 1)
    return sums, count


def _windowed(stream: Any) -> Any:  # noqa: ANN401 - the engine's
    windowing: Any = importlib.import_module("bytewax.operators.windowing")
    clock = windowing.EventClock(
        ts_getter=lambda event: datetime.fromtimestamp(event["time"] / 1e6, UTC),
        wait_for_system_duration=timedelta(days=3),
    )
    windower = windowing.TumblingWindower(
        length=timedelta(milliseconds=WINDOW_MILLISECONDS),
        align_to=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return windowing.fold_window(
        "sums",
        stream,
        clock,
        windower,
        lambda: (0, 0),
        lambda sums, event: (sums[0] + event["quantity"], sums[1] + 1),
        lambda one, two: (one[0] + two[0], one[1] + two[1]),
    ).down


if __name__ == "__main__":
    main()
