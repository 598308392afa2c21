"""What the door is held against: a bare server that takes the same requests, a bare producer.

Run as ``python -m benchmarks.door_baselines serve``, which answers 204 to everything and prints its
port, or ``... produce --servers S --topic T --events N``, which prints one line of JSON.
"""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Any

import uvicorn
from confluent_kafka import Producer

from benchmarks.measuring import Stopwatch, report


async def no_content(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - plain ASGI
    """Read the request and say nothing."""
    while (await receive()).get("more_body"):
        pass
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def serve() -> None:
    """The bare server, until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(no_content, lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


def produce(servers: str, topic: str, events: int) -> None:
    """Ready records by the plain client, acknowledged by all, as fast as it goes."""
    settings: dict[str, Any] = {
        "bootstrap.servers": servers,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,
    }
    producer = Producer(settings)
    value = b"x" * RECORD_BYTES
    producer.list_topics(topic, timeout=30)
    watch = Stopwatch()
    for number in range(events):
        while True:
            try:
                producer.produce(topic, value, partition=number % 8)
                break
            except BufferError:
                producer.poll(0.05)
        if not number % 100:
            producer.poll(0)
    if producer.flush(120):
        raise SystemExit("the broker did not take all of it")
    report(watch.read(events).as_json())


RECORD_BYTES = 150
"""About what one event of these measurements is in the log."""


def main() -> None:
    """One of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.door_baselines")
    parser.add_argument("what", choices=("serve", "produce"))
    parser.add_argument("--servers", default="")
    parser.add_argument("--topic", default="")
    parser.add_argument("--events", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "serve":
        serve()
    else:
        produce(arguments.servers, arguments.topic, arguments.events)
    sys.exit()


if __name__ == "__main__":
    main()
