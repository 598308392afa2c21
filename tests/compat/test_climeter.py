"""CLIMeter's document, verbatim, and what the published package fails at."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import climeter, wiring
from meterstream.compat.climeter import InsufficientBalanceError, Metering, tenant_of
from tests.compat import documents
from tests.compat.standins import climeter_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Mapping

    from meterstream_schemas.events import MeterEvent
    from tests.compat.conftest import Memory


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Metering:
    """One that was told nothing, in an environment that tells its key."""
    for name in ("CLIMETER_TOOL_SLUG", "CLIMETER_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLIMETER_API_KEY", "clmtr_test")
    return Metering()


def told(events: list[MeterEvent]) -> list[Mapping[str, str]]:
    """The attributes of events in the order in which they were recorded."""
    return [event.attributes for event in sorted(events, key=lambda event: event.sequence)]


def test_the_document_runs_verbatim(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    """Every snippet, top to bottom, and then its functions: one event a call, none before."""
    names = climeter_names()
    for snippet in documents.snippets("climeter"):
        documents.run(snippet, names)
    assert names["state"] == {
        "configured": True, "tool_slug": "my-tool", "queue_size": names["state"]["queue_size"],
    }  # fmt: skip
    assert repr(names["state"]) in capsys.readouterr().out

    assert names["search_code"]("needle", repo=".") == ["found"]
    assert asyncio.run(names["fetch_results"]("needle")) == ["found"]
    assert names["search_v2"]("needle") is None
    assert names["process_document"]("a.pdf") == ["found"]
    assert asyncio.run(names["handle_request"]("needle")) == ["found"]
    assert names["handler"]({"query": "needle"}, None) == ["found"]

    assert climeter.meter.status()["queue_size"] == 0
    events = memory.arrived()
    assert {(event.tenant, event.type, event.quantity) for event in events} == {
        (tenant_of("clmtr_..."), "climeter.call", 1)
    }
    common = {"tool": "my-tool", "status": "success"}
    assert told(events) == [
        {**common, "command": "search", "metadata.source": "cli"},
        {**common, "command": "batch-search", "metadata.batch_size": "10"},
        {**common, "command": "search_code"},
        {**common, "command": "fetch_results"},
        {**common, "command": "code-search-v2", "metadata.version": "2"},
        {**common, "command": "pdf-analyzer"},
        {**common, "command": "search"},
    ]
    climeter.meter.configure()


def test_failures_are_told_apart(memory: Memory, meter: Metering) -> None:
    """What raises is recorded as an error, in every form, and raises on."""

    @meter.track()
    def fails() -> None:
        raise KeyError("own")

    @meter.track()
    async def fails_later() -> None:
        raise KeyError("own")

    async def block() -> None:
        async with meter.track_usage_async("block"):
            raise KeyError("own")

    with pytest.raises(KeyError):
        fails()
    with pytest.raises(KeyError):
        asyncio.run(fails_later())
    with pytest.raises(KeyError):
        asyncio.run(block())
    with pytest.raises(KeyError), meter.track_usage("block"):
        raise KeyError("own")

    assert [
        (attributes["tool"], attributes["command"], attributes["status"])
        for attributes in told(memory.arrived())
    ] == [
        ("fails", "fails", "error"),
        ("fails_later", "fails_later", "error"),
        ("block", "block", "error"),
        ("block", "block", "error"),
    ]


def test_generators_are_metered_when_they_end(memory: Memory, meter: Metering) -> None:
    """Nothing at the call, one event at the end; what is sent, returned and raised goes through."""

    @meter.track("words")
    def words() -> Generator[str, str, int]:
        got = yield "a"
        yield got
        return 7

    running = words()
    assert next(running) == "a"
    assert memory.arrived() == []
    assert running.send("b") == "b"
    with pytest.raises(StopIteration) as ended:
        next(running)
    assert ended.value.value == 7
    assert len(memory.arrived()) == 1

    left = words()
    next(left)
    left.close()
    broken = words()
    next(broken)
    with pytest.raises(KeyError):
        broken.throw(KeyError("own"))
    assert [attributes["status"] for attributes in told(memory.arrived())] == [
        "success", "success", "error",
    ]  # fmt: skip


def test_async_generators_are_metered_when_they_end(memory: Memory, meter: Metering) -> None:
    """The same for async ones."""

    @meter.track("words")
    async def words(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        if count > 2:
            raise KeyError("own")

    async def main() -> None:
        assert [number async for number in words(2)] == [0, 1]
        running = words(3)
        for _ in range(3):
            await anext(running)
            assert len(memory.arrived()) == 1
        with pytest.raises(KeyError):
            await anext(running)

    asyncio.run(main())

    assert [attributes["status"] for attributes in told(memory.arrived())] == ["success", "error"]


def test_methods_stay_methods(memory: Memory, meter: Metering) -> None:
    """A tracked method binds, and keeps its name and documentation."""

    class Tool:
        @meter.track()
        def run(self) -> Tool:
            """Run."""
            return self

        @meter.track()
        @staticmethod
        def free() -> int:
            return 1

    tool = Tool()
    assert tool.run() is tool
    assert Tool.free() == 1
    assert (Tool.run.__name__, Tool.run.__doc__) == ("run", "Run.")
    assert [attributes["command"] for attributes in told(memory.arrived())] == ["run", "free"]


class Hostile:
    """Refuses to be written."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        ({"a": [1, Decimal("0.1")]}, '{"a": [1, "0.1"]}'),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (Decimal("1.50"), "1.50"),
        (Hostile(), "<Hostile>"),
        ([Hostile()], "<list>"),
        ("\ud800", "?"),
        ("é" * 2000, "é" * 512),
    ],
)
def test_metadata_of_any_kind_becomes_text(
    memory: Memory, meter: Metering, value: object, text: str
) -> None:
    """One poisoned value stops nothing: it is written as well as it can be."""
    meter.record("run", metadata={"value": value})

    [attributes] = told(memory.arrived())
    assert attributes["metadata.value"] == text


class Broken(dict[str, object]):
    """A mapping that breaks when it is looked at."""

    def items(self) -> Any:  # noqa: ANN401 - it returns nothing
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "metadata",
    [
        Broken(a=1),
        ["no mapping"],
        "text",
        {str(number): "x" * 1024 for number in range(100)},
        {"n" * 500: "x", 7: "y", "\x00": "z"},
    ],
)
def test_metadata_never_costs_the_event(
    memory: Memory, meter: Metering, metadata: dict[str, Any]
) -> None:
    """Whatever is passed, within limits or not, the call itself is counted."""
    meter.record("run", metadata=metadata)

    assert len(memory.arrived()) == 1
    assert memory.meter.status().dropped == {}


def test_the_environment_is_read_when_it_is_needed(
    memory: Memory, meter: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key, tool and tenant come from the environment at the first event that finds somebody."""
    monkeypatch.delenv("CLIMETER_API_KEY")
    assert meter.status() == {"configured": False, "tool_slug": "", "queue_size": 0}
    meter.record("lost")
    assert memory.meter.status().dropped == {"invalid": 1}

    monkeypatch.setenv("CLIMETER_API_KEY", "k1")
    monkeypatch.setenv("CLIMETER_TOOL_SLUG", "from-env")
    meter.record("one")
    meter.configure("k2", "https://api.example", "package-order")
    meter.record("two")
    monkeypatch.setenv("METERSTREAM_TENANT", "acme")
    meter.configure()
    meter.record("three", tool_slug="own")

    assert sorted(
        (event.attributes["command"], event.tenant, event.attributes["tool"])
        for event in memory.arrived()
    ) == [
        ("one", tenant_of("k1"), "from-env"),
        ("three", "acme", "own"),
        ("two", tenant_of("k2"), "package-order"),
    ]


def test_keys_are_never_kept(meter: Metering) -> None:
    """Neither the meter nor what is sent holds the API key."""
    meter.configure(api_key="clmtr_secret")

    assert "secret" not in repr(vars(meter))
    assert "secret" not in tenant_of("clmtr_secret")


def test_an_idempotency_key_in_metadata_is_one(memory: Memory, meter: Metering) -> None:
    """The name stands for the event's key; one that cannot be a key is metadata only."""
    meter.record("run", metadata={"idempotency_key": "k1"})
    meter.record("run", metadata={"idempotency_key": ""})

    assert {event.key for event in memory.arrived()} == {"k1", None}


def test_nothing_waits_while_the_broker_is_away(memory: Memory, meter: Metering) -> None:
    """Events queue up and the status counts them; a flush has its deadline; none is lost."""
    memory.transport.available = False
    for _ in range(500):
        meter.record("run")

    assert meter.status()["queue_size"] == 500
    meter.flush(timeout=0.01)
    meter.shutdown(timeout=0.01)
    meter.record("after shutdown")
    memory.transport.available = True

    assert len(memory.arrived()) == 501


def test_unfit_settings_do_not_reach_the_host(
    monkeypatch: pytest.MonkeyPatch, meter: Metering, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no meter can be made, metered code runs on, and the log says why, once."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("unfit")

    wiring.reset()
    monkeypatch.setattr(wiring, "make_meter", refuse)

    @meter.track()
    def works() -> int:
        return 1

    assert [works(), works()] == [1, 1]
    assert meter.status() == {"configured": True, "tool_slug": "", "queue_size": 0}
    meter.flush()
    assert [record.message for record in caplog.records].count(
        "no event is recorded, the settings are unfit: unfit"
    ) == 1
    wiring.reset()


def test_paid_calls_take_free_ones_first(memory: Memory, meter: Metering) -> None:
    """A priced tool: free calls, then the wallet, then a refusal that records nothing."""
    memory.definitions.put(
        "climeter.tool", "ocr", {"price": "0.40", "free_calls": 1, "checkout_url": "https://pay"}
    )
    memory.ledger.move(tenant_of("clmtr_test"), Decimal("0.60"))
    assert meter.check_balance("ocr") == {
        "balance": 0.6, "calls_remaining": 1, "free_calls_remaining": 1,
    }  # fmt: skip

    assert meter.call("ocr")["cost"] == 0
    assert meter.call("ocr", metadata={"page": 1}) == {
        "success": True, "balance_remaining": 0.2, "calls_remaining": 0,
        "free_calls_remaining": 0, "cost": 0.4,
    }  # fmt: skip
    with pytest.raises(InsufficientBalanceError, match=r"0\.20, which does not cover 0\.40") as no:
        meter.call("ocr")

    assert (no.value.checkout_url, no.value.balance, no.value.cost) == ("https://pay", 0.2, 0.4)
    assert [attributes["tool"] for attributes in told(memory.arrived())] == ["ocr", "ocr"]


def test_calls_of_a_tool_without_price_are_free(memory: Memory, meter: Metering) -> None:
    """Nothing declared costs nothing; caches have nothing to hold."""
    meter.set_cache_ttl(60)
    meter.clear_cache()

    assert meter.call("tool", api_key="other")["success"] is True

    assert memory.arrived()[0].attributes["command"] == "call"
    assert memory.ledger.payments() == []


def test_a_wallet_needs_a_key(
    memory: Memory, meter: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key nobody can be charged, and the error says where to put it."""
    monkeypatch.delenv("CLIMETER_API_KEY")

    with pytest.raises(ValueError, match="CLIMETER_API_KEY"):
        meter.check_balance()


def test_exit_loses_nothing() -> None:
    """A program that records and ends has its events in the log: nobody called shutdown."""
    program = """
from meterstream.compat import wiring
from meterstream.compat.climeter import meter
from meterstream.memory import MemoryTransport
import atexit
transport = MemoryTransport()
atexit.register(lambda: print(sum(len(records) for records in transport.log) - 1))  # one mark
wiring.use(meter=wiring.make_meter(transport=transport))
meter.configure("k")
for _ in range(20):
    meter.record("run")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, timeout=60, env=dict(os.environ),
    )  # fmt: skip

    assert done.stdout.strip() == "20", done.stderr


def test_metering_needs_no_extra() -> None:
    """CLIMeter's calls ask nothing over HTTP, so importing them brings no client for it."""
    program = "import sys, meterstream.compat.climeter; print('httpx' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "False"
