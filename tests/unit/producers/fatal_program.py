"""A meter against librdkafka's mock cluster, which answers with the errors it is told to.

Run as a program: the mock is reached through the C library inside confluent-kafka, and a process
of its own keeps what that may do away from the tests. It proves how the SDK takes errors, and
nothing about what a log holds. Prints one line of JSON per error; exits with 77 when the C library
cannot be found.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import confluent_kafka

from meterstream import Meter
from meterstream.kafka import KafkaTransport
from meterstream.kafka_topic import BATCH_BYTES_MAX

PRODUCE = 0
EVENTS = 600


def main(errors: list[int]) -> int:
    """One burst of events for each error, which the next produce request is answered with."""
    libraries = list(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librd*"))
    if not libraries:
        return 77
    cluster = MockCluster(ctypes.CDLL(str(libraries[0])))
    meter = Meter(transport=Unchecked(cluster.address))
    meter._incarnation._sender.settlement.again_seconds = 0.05
    meter.record("a", tenant="t")
    assert meter.flush(20)
    before = meter.status()
    for error in errors:
        cluster.answer_next(error)
        for number in range(EVENTS):
            meter.record("a", tenant=f"t{number % 20}")
        flushed = meter.flush(30)
        after = meter.status()
        told = {
            "error": error,
            "flushed": flushed,
            "acknowledged": after.acknowledged - before.acknowledged,
            "failed": after.failed - before.failed,
            "rebuilt": after.rebuilt - before.rebuilt,
            "resent": after.resent - before.resent,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        before = after
    meter.close(10)
    return 0


class Unchecked(KafkaTransport):
    """The mock cluster cannot describe topics, so nothing is asked of it."""

    def __init__(self, address: str) -> None:
        super().__init__(bootstrap_servers=lambda: address, topic="t", client_id="test")

    def _inspect(self, *_: object) -> int:
        return BATCH_BYTES_MAX


class MockCluster:
    """One mock broker with one topic."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - ctypes
        self._library = library
        library.rd_kafka_new.restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        client = library.rd_kafka_new(0, None, None, 0)
        self._cluster = ctypes.c_void_p(
            library.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), 1)
        )
        self.address = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        library.rd_kafka_mock_topic_create(self._cluster, b"t", 4, 1)

    def answer_next(self, error: int) -> None:
        """The next produce request is answered with an error code of Kafka's protocol."""
        codes = (ctypes.c_int * 1)(error)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(1), codes
        )


if __name__ == "__main__":
    sys.exit(main([int(argument) for argument in sys.argv[1:]]))
