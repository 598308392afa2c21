"""The door while the log answers: each offer's place, and what is refused."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_schemas.events import EventKind
from meterstream_services.gateway.port import Fate, Offer, Ruling
from tests.unit.producers.reading import arrived, decoded, numbers
from tests.unit.services.gateway.doors import TIME, opened, run, until, usage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("both_ways")


def rulings(fates: list[Fate]) -> list[Ruling]:
    """Without their places."""
    return [fate.ruling for fate in fates]


def test_each_accepted_event_lies_where_it_is_said(tmp_path: Path) -> None:
    """Many calls at once: every fate is at its offer's place, and names the true place."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path) as place:
            batches = [[usage(at * 100 + n, time=TIME) for n in range(100)] for at in range(20)]
            answers = await asyncio.gather(*(place.door.take(batch) for batch in batches))

            for batch, fates in zip(batches, answers, strict=True):
                for offer, fate in zip(batch, fates, strict=True):
                    assert fate.ruling is Ruling.ACCEPTED
                    assert fate.partition is not None
                    assert fate.offset is not None
                    event = decoded(transport.log[fate.partition][fate.offset].value)
                    assert (event.tenant, event.quantity) == (offer.tenant, offer.quantity)
            assert place.door.waiting == 0
            assert place.value("events_total", ruling="accepted") == 2_000
            assert place.value("answer_seconds_count") == 20

    run(check())


def test_a_bad_offer_spoils_no_neighbour_and_no_number(tmp_path: Path) -> None:
    """Each wrong offer is refused with its field; the others go on, without a hole."""
    wrong: list[tuple[Offer, str]] = [
        (usage(1, tenant=""), "tenant"),
        (usage(1, tenant=7), "tenant"),
        (usage(1, type="x" * 129), "type"),
        (usage(1, quantity=1.5), "quantity"),
        (usage(1, quantity="1e999999"), "quantity"),
        (usage(1, quantity=2**63), "quantity"),
        (usage(1, time=-1), "time"),
        (usage(1, attributes={"a": 1}), "attributes.a"),
        (usage(1, attributes=["a"]), "attributes"),
        (usage(1, key=""), "key"),
        (usage(1, key=5), "key"),
        (usage(1, key="a\0b"), "key"),
        (usage(1, kind=EventKind.MARK), "kind"),
        (usage(1, kind=EventKind.UNKNOWN), "kind"),
        (usage(1, kind="NONSENSE"), "kind"),
        (usage(1, kind=EventKind.VOID), "key"),
        (usage(1, kind=EventKind.VOID, key="nobody knows"), "time"),
    ]

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path) as place:
            offers = [offer for each in wrong for offer in (usage(3), each[0], usage(4, key=None))]
            fates = await place.door.take(offers)

            assert rulings(fates[0::3]) == [Ruling.ACCEPTED] * len(wrong)
            assert rulings(fates[2::3]) == [Ruling.ACCEPTED] * len(wrong)
            for (_, field), fate in zip(wrong, fates[1::3], strict=True):
                assert (fate.ruling, fate.field) == (Ruling.REFUSED, field)
                assert fate.reason
            for sequences in numbers(arrived(transport)).values():
                assert sequences == list(range(1, len(sequences) + 1))
            assert len(arrived(transport)) == 2 * len(wrong)

    run(check())


def test_a_repeat_is_told_where_the_first_one_lies(tmp_path: Path) -> None:
    """Equal content under one key: a duplicate at the first one's place; other: a conflict."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path) as place:
            take = place.door.take
            (first,) = await take([usage(5, key="k", attributes={"b": "2", "a": "1"})])
            again = await take(
                [
                    usage(5, key="k", attributes={"a": "1", "b": "2"}),
                    usage(5, key="k", quantity="5.00", attributes={"a": "1", "b": "2"}),
                    usage(5, key="k", quantity=Decimal(5), attributes={"a": "1", "b": "2"}),
                    usage(6, tenant="tenant 5", key="k", attributes={"a": "1", "b": "2"}),
                    usage(5, key="k", attributes={"a": "1", "b": "2"}, time=TIME),
                    usage(5, key="k", attributes={"a": "1", "b": "2"}, subject="s"),
                    usage(5, tenant="tenant 6", key="k"),
                ]
            )

            assert first.ruling is Ruling.ACCEPTED
            assert rulings(again) == [*[Ruling.DUPLICATE] * 3, *[Ruling.CONFLICT] * 3, "accepted"]
            assert {fate[1:3] for fate in again[:3]} == {first[1:3]}
            assert len(arrived(transport)) == 2

    run(check())


def test_equal_keys_in_one_batch_become_one_event(tmp_path: Path) -> None:
    """The first of them is accepted, equal ones are duplicates at its place, others conflict."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path) as place:
            batch = [usage(1, key="k"), usage(1, key="k"), usage(8, key="k"), usage(2)]
            fates = await place.door.take(batch)

            assert rulings(fates) == ["accepted", "duplicate", "conflict", "accepted"]
            assert fates[0][1:3] == fates[1][1:3]
            assert len(arrived(transport)) == 2
            assert place.door.keys_remembered == 1

    run(check())


def test_a_void_goes_through_once_and_repeats_its_original(tmp_path: Path) -> None:
    """It takes the original's time where it names none; other content conflicts; twice is once."""

    async def check() -> None:
        transport = MemoryTransport()
        void = EventKind.VOID
        async with opened(transport, tmp_path) as place:
            take = place.door.take
            (original,) = await take([usage(5, key="k")])
            fates = await take(
                [
                    usage(5, key="k", kind=void, subject="other"),
                    usage(5, key="k", kind=void),
                    usage(5, key="k", kind=void),
                    usage(5, key="k"),
                    usage(5, key="early", kind=void, time=TIME),
                    usage(5, key="early", time=TIME),
                ]
            )

            assert rulings(fates) == [
                "conflict", "accepted", "duplicate", "duplicate", "accepted", "accepted",
            ]  # fmt: skip
            assert fates[3][1:3] == original[1:3]
            sent = [event for event in arrived(transport) if event.key == "k"]
            assert [event.kind for event in sent] == [EventKind.USAGE, void]
            assert len({(event.time, event.quantity) for event in sent}) == 1

    run(check())


@pytest.mark.parametrize("key", [None, "k"])
def test_boundaries_of_sessions_pass(tmp_path: Path, key: str | None) -> None:
    """Start, sign of life and end are numbered like usage, without an amount."""
    kinds = [EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END]

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path) as place:
            fates = await place.door.take(
                [usage(5, kind=kind, session="s", key=key and f"{key}{kind}") for kind in kinds]
            )

            assert rulings(fates) == ["accepted"] * 3
            events = arrived(transport)
            assert [(event.kind, event.quantity, event.session) for event in events] == [
                (kind, 0, "s") for kind in kinds
            ]

    run(check())


def test_what_the_broker_refuses_for_good_is_refused_and_its_key_is_free(tmp_path: Path) -> None:
    """The reason is the broker's; the same key may be offered again, and is sent then."""

    async def check() -> None:
        transport = MemoryTransport()
        transport.misfortune = lambda value: (
            Failure("no such record here", permanent=True) if b"poison" in value else None
        )
        async with opened(transport, tmp_path) as place:
            fates = await place.door.take([usage(1), usage(2, subject="poison", key="k"), usage(3)])
            assert rulings(fates) == ["accepted", "refused", "accepted"]
            assert fates[1].reason == "no such record here"

            transport.misfortune = None
            assert rulings(await place.door.take([usage(2, key="k")])) == ["accepted"]
            assert place.value("failed_events") == 1

    run(check())


def test_doubt_is_neither_success_nor_loss(tmp_path: Path) -> None:
    """Lost reports and a broken client are survived under the same numbers, and then accepted."""
    seen: dict[bytes, int] = {}

    def unlucky(value: bytes) -> Failure | str | None:
        seen[value] = seen.get(value, 0) + 1
        if seen[value] == 1:
            return ["lost_report", Failure("try again", permanent=False), None][len(seen) % 3]
        return "break" if len(seen) == 50 and seen[value] == 2 else None

    async def check() -> None:
        transport = MemoryTransport()
        transport.misfortune = unlucky
        async with opened(transport, tmp_path) as place:
            fates = await place.door.take([usage(n, key=str(n)) for n in range(60)])

            assert rulings(fates) == ["accepted"] * 60
            unique = {(event.lane, event.sequence): event for event in arrived(transport)}
            assert sorted(event.quantity for event in unique.values()) == list(range(60))

    run(check())


def test_keys_are_remembered_in_bounded_memory(tmp_path: Path) -> None:
    """The latest used are known, the oldest forgotten: their repeats go to the log again."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path, keys_max=100) as place:
            take = place.door.take
            await take([usage(0, key="old", time=TIME)])
            for number in range(300):
                await take(
                    [usage(number, key=str(number), time=TIME), usage(1, key="used", time=TIME)]
                )

            assert place.door.keys_remembered <= 100
            assert place.value("keys_remembered") == place.door.keys_remembered
            again = [usage(0, key="old", time=TIME), usage(1, key="used", time=TIME)]
            assert rulings(await take(again)) == ["accepted", "duplicate"]
            assert len([event for event in arrived(transport) if event.key == "used"]) == 1

    run(check())


def test_a_caller_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    """A cancelled call is forgotten; its events arrive, and its key is known then."""

    async def check() -> None:
        transport = MemoryTransport()
        transport.available = False
        async with opened(transport, tmp_path) as place:
            call = asyncio.ensure_future(place.door.take([usage(1, key="k"), usage(2)]))
            await until(lambda: place.door.waiting == 2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert place.door.waiting == 0

            transport.available = True
            assert rulings(await place.door.take([usage(1, key="k")])) == ["accepted"]
            await until(lambda: len(arrived(transport)) == 2)
            assert rulings(await place.door.take([usage(1, key="k")])) == ["duplicate"]

    run(check())


def test_a_call_larger_than_the_buffer_is_taken_in_parts(tmp_path: Path) -> None:
    """Ten thousand offers with attributes in one call: all accepted; again: all duplicates."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path, keys_max=40_000) as place:
            offers = [usage(n, key=f"{n}", attributes={"metric": "calls"}) for n in range(10_000)]
            assert set(rulings(await place.door.take(offers))) == {"accepted"}
            assert set(rulings(await place.door.take(offers))) == {"duplicate"}
            assert len(arrived(transport)) == 10_000

    run(check())


def test_a_batch_under_way_is_known_offer_by_offer(tmp_path: Path) -> None:
    """While the log is away its repeats wait with it, other content under its keys is a conflict.

    When it arrives the repeats are duplicates of it, and so are those that come later, whatever the
    order of their attributes.
    """

    async def check() -> None:
        transport = MemoryTransport()
        transport.available = False
        turned = {"b": "2", "a": "1"}
        batch = [
            usage(n, key=f"k{n}", attributes={"a": "1", "b": "2"}, subject="s") for n in range(9)
        ]
        again = [offer._replace(attributes=turned) for offer in batch]
        other = [offer._replace(quantity=100) for offer in batch]
        async with opened(transport, tmp_path) as place:
            first = asyncio.create_task(place.door.take(batch))
            await until(lambda: place.door.waiting == 9)
            repeat = asyncio.create_task(place.door.take([usage(50, key="new"), *again]))
            await until(lambda: place.door.waiting == 10)
            assert rulings(await place.door.take(other)) == ["conflict"] * 9
            transport.available = True
            fates = await first
            assert rulings(fates) == ["accepted"] * 9
            assert rulings(await repeat) == ["accepted", *["duplicate"] * 9]
            assert [fate[1:3] for fate in (await repeat)[1:]] == [fate[1:3] for fate in fates]
            assert [fate[1:3] for fate in await place.door.take(again)] == [
                fate[1:3] for fate in fates
            ]
            assert rulings(await place.door.take(other)) == ["conflict"] * 9
            assert len(arrived(transport)) == 10

    run(check())


def test_an_event_of_a_batch_that_is_refused_frees_its_key_alone(tmp_path: Path) -> None:
    """Its neighbours are accepted, and it may be offered anew."""

    async def check() -> None:
        transport = MemoryTransport()
        refused = Failure("no", permanent=True)
        transport.misfortune = lambda value: refused if b"bad" in value else None
        batch = [usage(n, key=f"{'bad' if n == 3 else 'k'}{n}") for n in range(6)]
        async with opened(transport, tmp_path) as place:
            fates = await place.door.take(batch)
            assert rulings(fates) == [*["accepted"] * 3, "refused", *["accepted"] * 2]
            assert place.door.keys_remembered == 5
            transport.misfortune = None
            assert rulings(await place.door.take(batch)) == [
                *["duplicate"] * 3, "accepted", *["duplicate"] * 2,
            ]  # fmt: skip

    run(check())
