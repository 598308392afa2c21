"""The round trip against an API and a log in memory: what it finds, and what it says is wrong."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream import Meter
from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_schemas.events import EventKind
from meterstream_services.roundtrip import TENANT, Stage, Trip, Wish, round_trip
from meterstream_services.spools import look
from tests.unit.producers.reading import arrived, decoded
from tests.unit.services.test_probe import definition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from meterstream import Outcome

WISH = Wish(topic="meterstream.events", timeout_seconds=0.5)
PATIENT = WISH._replace(timeout_seconds=20)


class Counting:
    """An API whose workers count the log of ``transport`` whenever it is asked."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.definitions = [definition("calls", type="call")]
        self.topic: str | None = "meterstream.events"
        self.works = True
        self.is_new = False
        self.refuses: frozenset[EventKind] = frozenset()
        self.sees = True

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Any:  # noqa: ANN401 - JSON
        """Answer like the real one, with what the round trip reads only."""
        match path:
            case "/v1/meters":
                return {"meters": self.definitions}
            case "/v1/status":
                return {"topic": self.topic and {"topic": self.topic}, "partitions": self.rows()}
            case "/v1/usage":
                figure = self.figure(dict(parameters)["tenant"])
                return {"rows": [{"value": str(figure)}] if figure else []}
            case "/v1/deadletters":
                return {"deadletters": list(self.letters(dict(parameters)["producer"]))}
        raise AssertionError(path)

    def rows(self) -> list[dict[str, Any]]:
        """One row for a partition that anybody ever counted."""
        return [
            {
                "partition": partition,
                "next_offset": len(records) if self.works else 0,
                "owner": "worker-1",
                "behind_seconds": "12.5",
            }
            for partition, records in enumerate(self.transport.log)
            if not self.is_new
        ]

    def figure(self, tenant: str) -> Decimal:
        """Events minus VOIDs."""
        if not (self.works and self.sees):
            return Decimal(0)
        return Decimal(
            sum(
                1 if event.kind is EventKind.USAGE else -1
                for event in arrived(self.transport)
                if event.tenant == tenant and event.kind not in self.refuses
            )
        )

    def letters(self, producer: str) -> Sequence[dict[str, Any]]:
        """What was refused."""
        return [
            {"partition": partition, "offset": offset, "reason": "r", "detail": "because"}
            for partition, records in enumerate(self.transport.log)
            for offset, record in enumerate(records)
            if (event := decoded(record.value)).producer == producer and event.kind in self.refuses
        ]


@pytest.fixture
def api(transport: MemoryTransport) -> Counting:
    """All is well with it."""
    return Counting(transport)


@pytest.fixture
def transport() -> MemoryTransport:
    """An empty log."""
    return MemoryTransport()


def travel(api: Counting, wish: Wish = PATIENT, **settings: Any) -> Trip:  # noqa: ANN401 - a meter's
    """A round trip with a meter over the API's own log."""

    def make(on_outcome: Callable[[Outcome], object]) -> Meter:
        return Meter(transport=api.transport, strict=True, on_outcome=on_outcome, **settings)

    return round_trip(api, make, wish)


def failed(trip: Trip) -> Stage:
    """The stage that failed."""
    (stage,) = [stage for stage in trip.stages if stage.is_good is False]
    return stage


def test_an_event_is_counted_and_taken_back(api: Counting) -> None:
    """Nothing of it is left in the figure, whatever was there before."""
    travel(api, PATIENT._replace(keep=True))

    trip = travel(api)

    assert trip.is_good
    assert [stage.stage for stage in trip.stages] == [
        "chosen",
        "recorded",
        "in the log",
        "counted",
        "taken back",
    ]
    assert api.figure(TENANT) == 1
    event, void = (event for event in arrived(api.transport) if event.key == trip.key)
    assert (event.kind, void.kind) == (EventKind.USAGE, EventKind.VOID)
    assert trip.partition is not None
    assert trip.offset is not None
    assert f"partition {trip.partition}, offset {trip.offset} of" in trip.stages[2].detail
    assert "rose from 1 to 2" in trip.stages[3].detail
    assert "fell from 2 to 1" in trip.stages[4].detail


def test_every_trip_has_a_key_of_its_own(api: Counting) -> None:
    """So a second one counts again."""
    assert travel(api).key != travel(api).key
    assert len(arrived(api.transport)) == 4


def test_an_event_may_be_kept(api: Counting) -> None:
    """Then the figure shows it from now on."""
    trip = travel(api, PATIENT._replace(keep=True, tenant="acme"))

    assert trip.is_good
    assert trip.stages[-1] == ("taken back", 0.0, None, "kept, as asked")
    assert api.figure("acme") == 1


def test_what_cannot_be_taken_back_is_said(api: Counting) -> None:
    """A maximum keeps it; no VOID is sent that would become a dead letter."""
    api.definitions.append(definition("peak", "max", type="call"))

    trip = travel(api)

    assert trip.is_good
    assert trip.stages[-1].is_good is None
    assert "stays counted: peak cannot give an event back" in trip.stages[-1].detail
    assert [event.kind for event in arrived(api.transport)] == [EventKind.USAGE]


def test_it_works_with_a_spool(api: Counting, tmp_path: Path) -> None:
    """And leaves nothing on the disk."""
    trip = travel(api, durability="spool", spool=tmp_path)

    assert trip.is_good
    assert list(tmp_path.iterdir()) == []


def test_no_broker_is_told_by_the_stage_of_the_log(api: Counting) -> None:
    """With the SDK's own words; the VOID waits behind the event."""
    api.transport.available = False

    trip = travel(api, WISH)

    stage = failed(trip)
    assert stage.stage == "in the log"
    assert "told to be unavailable" in stage.detail
    assert "METERSTREAM_BOOTSTRAP_SERVERS" in stage.detail
    assert "its VOID follows it" in trip.stages[-1].detail
    assert trip.offset is None


def test_without_a_broker_a_spool_keeps_both(api: Counting, tmp_path: Path) -> None:
    """The event and its VOID, for a later process."""
    api.transport.available = False

    trip = travel(api, WISH, durability="spool", spool=tmp_path)

    assert "waits on disk, and its VOID follows it" in trip.stages[-1].detail
    (left,) = look(tmp_path)
    assert left.entries >= 2


def test_a_refusal_of_the_broker_is_told(api: Counting) -> None:
    """For good: nothing is sent after it."""
    api.transport.misfortune = lambda _: Failure("the topic says no", permanent=True)

    trip = travel(api)

    assert failed(trip).stage == "in the log"
    assert "the topic says no" in failed(trip).detail
    assert trip.stages[-1].detail == "nothing to take back"


def test_an_absent_worker_is_told(api: Counting) -> None:
    """The VOID is in the log behind the event: both will be counted, or neither."""
    api.works, api.is_new = False, True

    trip = travel(api, WISH)

    assert failed(trip).stage == "counted"
    assert "no worker has counted anything of partition" in failed(trip).detail
    assert "its VOID follows it" in trip.stages[-1].detail
    assert [event.kind for event in arrived(api.transport)] == [EventKind.USAGE, EventKind.VOID]


def test_a_worker_that_lags_is_told(api: Counting) -> None:
    """With its position, its lag and its name."""
    api.works = False

    trip = travel(api, WISH)

    assert "not counted within 0.5 s" in failed(trip).detail
    assert "12.5 s behind, by worker-1" in failed(trip).detail


def test_a_worker_that_comes_late_is_waited_for(api: Counting) -> None:
    """Within the time of the stage."""
    api.works = False
    timer = threading.Timer(0.3, lambda: setattr(api, "works", True))
    timer.start()

    trip = travel(api)

    timer.join()
    assert trip.is_good


def test_a_dead_letter_is_told_with_its_reason(api: Counting) -> None:
    """At once, and nothing is left to take back."""
    api.refuses = frozenset({EventKind.USAGE, EventKind.VOID})

    trip = travel(api)

    assert failed(trip).stage == "counted"
    assert "a dead letter, r: because" in failed(trip).detail
    assert trip.stages[-1].detail == "nothing to take back"


def test_a_void_that_is_refused_is_told(api: Counting) -> None:
    """The stage that takes back fails then, with the reason."""
    api.refuses = frozenset({EventKind.VOID})

    trip = travel(api)

    assert failed(trip).stage == "taken back"
    assert "a dead letter, r: because" in failed(trip).detail


def test_another_broker_s_api_is_told(api: Counting) -> None:
    """By its topic, or by counting past the event without showing it."""
    api.sees = False
    assert "is the API at --url the one of this broker" in failed(travel(api)).detail

    api.topic = "other"
    trip = travel(api)
    assert failed(trip).stage == "chosen"
    assert "of topic 'other', and the SDK sends to 'meterstream.events'" in failed(trip).detail


def test_a_catalogue_without_a_meter_is_told(api: Counting) -> None:
    """Nothing is recorded then."""
    trip = travel(api, PATIENT._replace(event_type="unheard"))

    assert failed(trip).stage == "chosen"
    assert "no meter of the catalogue reads type 'unheard'" in failed(trip).detail
    assert arrived(api.transport) == []


def test_something_else_that_answers_is_told() -> None:
    """JSON of another service."""

    class Other(Counting):
        def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Any:  # noqa: ANN401 - JSON
            return {"hello": "world"}

    assert "no meterstream API" in failed(travel(Other(MemoryTransport()))).detail


def test_a_refused_event_is_told(api: Counting) -> None:
    """A tenant that no event can have."""
    trip = travel(api, PATIENT._replace(tenant="x" * 129))

    assert failed(trip).stage == "recorded"
    assert "tenant" in failed(trip).detail
