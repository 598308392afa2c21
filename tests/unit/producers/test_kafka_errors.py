"""What the Kafka transport makes of the client's errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from meterstream.errors import TransportBroken
from meterstream.kafka import KafkaTransport
from meterstream.transport import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
UNKNOWN_PRODUCER_ID = 59
PRODUCER_FENCED = 90
MSG_SIZE_TOO_LARGE = 10
CORRUPT_MESSAGE = 2
INVALID_RECORD = 87
NOT_LEADER = 6
TOPIC_AUTHORIZATION_FAILED = 29


def test_errors_of_a_broker_lose_no_event_but_a_refused_record() -> None:
    """Fatal errors rebuild, others send again; only a record that is refused itself fails."""
    lossless = (
        OUT_OF_ORDER_SEQUENCE_NUMBER,
        INVALID_PRODUCER_EPOCH,
        UNKNOWN_PRODUCER_ID,
        PRODUCER_FENCED,
        MSG_SIZE_TOO_LARGE,
        CORRUPT_MESSAGE,
        NOT_LEADER,
        TOPIC_AUTHORIZATION_FAILED,
    )
    program = Path(__file__).with_name("fatal_program.py")

    done = subprocess.run(
        [sys.executable, str(program), *map(str, (*lossless, INVALID_RECORD))],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("the C library inside confluent-kafka was not found")

    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    by_error = {burst["error"]: burst for burst in told}
    for error in lossless:
        burst = by_error[error]
        assert (burst["flushed"], burst["acknowledged"], burst["failed"]) == (True, 600, 0), burst
    assert by_error[OUT_OF_ORDER_SEQUENCE_NUMBER]["rebuilt"] == 1
    assert by_error[MSG_SIZE_TOO_LARGE]["rebuilt"] == 1
    refused = by_error[INVALID_RECORD]
    assert refused["flushed"]
    assert refused["failed"] > 0
    assert refused["failed"] + refused["acknowledged"] == 600


class FakeProducer:
    """Does as it is told."""

    def __init__(
        self,
        *,
        on_poll: Callable[[], object] = lambda: None,
        on_produce: Callable[[], object] = lambda: None,
        errors: tuple[KafkaError | None, ...] = (),
    ) -> None:
        self._on_poll = on_poll
        self._on_produce = on_produce
        self._errors = errors

    def poll(self, timeout: float) -> None:
        """Serve nothing."""
        self._on_poll()

    def produce_batch(
        self, topic: str, messages: list[dict[str, Any]], partition: int, on_delivery: object
    ) -> int:
        """Refuse those for which there is an error, take the others."""
        self._on_produce()
        for message, error in zip(messages, self._errors, strict=False):
            if error is not None:
                message["_error"] = error
        return sum("_error" not in message for message in messages)


def over(producer: FakeProducer) -> KafkaTransport:
    """A transport that is connected to a fake."""
    transport = KafkaTransport(bootstrap_servers=lambda: "", topic="t", client_id="c")
    transport._producer = producer  # type: ignore[assignment]  # a fake
    return transport


def raising(problem: BaseException, cause: BaseException | None = None) -> Callable[[], object]:
    """A function that raises."""

    def run() -> None:
        raise problem from cause

    return run


@pytest.mark.parametrize(
    "on_poll",
    [
        raising(KafkaException(KafkaError(KafkaError._FATAL, "sequence lost", fatal=True))),
        raising(
            SystemError("returned a result with an exception set"),
            KafkaException(KafkaError(KafkaError._FATAL, "sequence lost", fatal=True)),
        ),
    ],
    ids=["as itself", "as SystemError"],
)
def test_a_fatal_error_in_a_poll_is_a_break(on_poll: Callable[[], object]) -> None:
    """However the client lets it out, the words are those of Kafka's error."""
    transport = over(FakeProducer(on_poll=on_poll))

    with pytest.raises(TransportBroken, match="sequence lost"):
        transport.poll(0)


def test_a_fatal_error_told_to_the_callback_breaks_the_next_poll() -> None:
    """The client may tell it on the side and go on as if nothing were."""
    transport = over(FakeProducer())
    transport._note_error(KafkaError(KafkaError._FATAL, "sequence lost", fatal=True))

    with pytest.raises(TransportBroken, match="sequence lost"):
        transport.poll(0)


def test_producing_after_a_fatal_error_is_a_break() -> None:
    """The error of a later produce() does not call itself fatal."""
    problem = KafkaException(KafkaError(KafkaError._FATAL, "sequence lost"))
    transport = over(FakeProducer(on_produce=raising(problem)))

    with pytest.raises(TransportBroken, match="sequence lost"):
        transport.send([(1, 0, b"k", b"v")])


@pytest.mark.parametrize(
    ("code", "permanent"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, True),
        (KafkaError._INVALID_ARG, True),
        (KafkaError._UNKNOWN_PARTITION, False),
        (KafkaError._UNKNOWN_TOPIC, False),
    ],
)
def test_a_record_that_produce_refuses_is_reported(code: int, permanent: bool) -> None:
    """Too large for good, or sent again when the topic may come back; others go on."""
    error = KafkaError(code, "no")
    transport = over(FakeProducer(errors=(error, None, error)))

    assert transport.send([(7, 0, b"k", b"v"), (8, 0, b"k", b"w"), (9, 0, b"k", b"x")]) == 3
    assert transport.poll(0) == [
        (7, None, Failure("no", permanent)),
        (9, None, Failure("no", permanent)),
    ]


def test_what_a_full_queue_does_not_take_is_sent_again() -> None:
    """It is no refusal of the record, and nothing breaks."""
    full = KafkaError(KafkaError._QUEUE_FULL, "full")
    transport = over(FakeProducer(errors=(None, None, full)))

    assert transport.send([(ticket, 0, b"k", b"%d" % ticket) for ticket in range(3)]) == 3
    assert transport.poll(0) == [(2, None, Failure("full", permanent=False))]
    assert transport.send([(2, 0, b"k", b"2")]) == 1


def test_equal_records_go_one_after_the_other() -> None:
    """A report names its record by its bytes, so an equal one waits for its own turn."""
    transport = over(FakeProducer())

    assert transport.send([(1, 0, b"k", b"same"), (2, 0, b"k", b"same"), (3, 0, b"k", b"v")]) == 3
    assert [report[0] for report in transport.poll(0)] == [2]
    assert transport.send([(2, 0, b"k", b"same")]) == 1
    assert [report[0] for report in transport.poll(0)] == [2]


def test_the_clients_own_trouble_is_told_once() -> None:
    """What the client would print on the host's stderr becomes a sentence for the status."""
    transport = over(FakeProducer())
    transport._note_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))

    assert transport.trouble() == "Kafka: 1/1 brokers are down"
    assert transport.trouble() is None
