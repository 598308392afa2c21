"""What the compatibility modules share: sending with an outcome, parts of the host's own."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream import Meter, SettingsError
from meterstream.compat import climeter, wiring
from meterstream.compat.usage_api import HttpUsage, UsageRefused, UsageUnavailable, find_url
from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_schemas.events import EventKind
from tests.compat import documents

if TYPE_CHECKING:
    from tests.compat.conftest import Memory

GUIDES = Path(__file__).parents[2] / "docs" / "coming-from"


@pytest.mark.parametrize("name", documents.NAMES)
def test_every_snippet_of_a_document_compiles(name: str) -> None:
    """All Python of the five documents is found, whole, with its client's import changed."""
    found = documents.snippets(name)

    assert len(found) == {
        "agentmeter": 14, "climeter": 6, "meter_lib": 4, "stripemeter": 3, "unimeter": 16,
    }[name]  # fmt: skip
    for snippet in found:
        documents.compiled(snippet)
        assert f"from {name} import" not in snippet.code
        assert snippet.heading


@pytest.mark.parametrize("name", documents.NAMES)
def test_snippets_stand_in_their_document(name: str) -> None:
    """Nothing of a snippet is changed but white space and the import."""
    text = "".join((documents.SEEDS / f"{name}.md").read_text("utf-8").split())

    for snippet in documents.snippets(name):
        original = snippet.code.replace(f"from meterstream.compat.{name}", f"from {name}")
        assert "".join(original.split()) in text


def test_send_tells_where_the_event_is(memory: Memory) -> None:
    """The answer is the place in the log of that very event, whatever else is recorded."""
    for number in range(50):
        memory.meter.record("noise", tenant=f"t{number}")

    sent = wiring.send("api.request", timeout=10, tenant="acme", quantity=3, key="k1")

    assert sent is not None
    [event] = [event for event in memory.arrived() if event.type == "api.request"]
    assert (event.tenant, event.key, event.quantity) == ("acme", "k1", 3)
    assert len(memory.transport.log[sent.partition]) > sent.offset


def test_many_threads_each_get_their_own_outcome(memory: Memory) -> None:
    """Equal keys at the same time are waited for apart; every call is answered."""
    found: list[wiring.Sent | None] = []

    def call() -> None:
        found.append(wiring.send("api.request", timeout=10, tenant="acme", key="same"))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert None not in found
    assert len(set(found)) == 16


def test_send_async_waits_beside_the_event_loop(memory: Memory) -> None:
    """Many awaits at once are all answered from one thread."""

    async def main() -> list[wiring.Sent | None]:
        return await asyncio.gather(
            *(wiring.send_async("api.request", timeout=10, tenant="acme") for _ in range(50))
        )

    assert len({sent for sent in asyncio.run(main()) if sent is not None}) == 50


def test_what_is_refused_is_none(memory: Memory) -> None:
    """A wrong argument, the broker's refusal and a time-out are all None; nothing waits on."""
    assert wiring.send("api.request", timeout=10, tenant="") is None
    assert memory.meter.status().dropped == {"invalid": 1}

    memory.transport.misfortune = lambda _: Failure("too large", permanent=True)
    assert wiring.send("api.request", timeout=10, tenant="acme") is None
    assert memory.meter.status().failed == 1

    memory.transport.misfortune = None
    memory.transport.available = False
    assert wiring.send("api.request", timeout=0.05, tenant="acme") is None
    assert asyncio.run(wiring.send_async("api.request", timeout=0.05, tenant="acme")) is None
    memory.transport.available = True
    assert len(memory.arrived()) == 2


def test_boundaries_of_sessions_are_sent_too(memory: Memory) -> None:
    """``boundary`` makes the event the start or the end of a session."""
    for boundary in ("start", "end"):
        assert wiring.send(
            "chat", timeout=10, tenant="acme", session="s1", subject="dev", boundary=boundary
        )

    kinds = [(event.kind, event.session, event.subject) for event in memory.arrived()]
    assert kinds == [
        (EventKind.SESSION_START, "s1", "dev"),
        (EventKind.SESSION_END, "s1", "dev"),
    ]


def test_a_meter_without_outcomes_is_refused(memory: Memory) -> None:
    """`use` takes meters of `make_meter` only, which also call the host's own hook."""
    own = Meter(transport=MemoryTransport())
    with pytest.raises(SettingsError, match="make it with wiring"):
        wiring.use(meter=own)
    seen: list[object] = []
    made = wiring.make_meter(transport=MemoryTransport(), on_outcome=seen.append)

    wiring.use(meter=made)
    sent = wiring.send("api.request", timeout=10, tenant="acme")

    assert sent is not None
    assert len(seen) == 1
    made.close()


def test_parts_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Memory
) -> None:
    """After a reset, ledger and definitions lie under METERSTREAM_DATA, and the URL is found."""
    monkeypatch.setenv("METERSTREAM_DATA", str(tmp_path))
    wiring.reset()

    wiring.definitions().put("metric", "m", {"price": "0.10"})

    assert (tmp_path / "compat" / "definitions.json").stat().st_mode & 0o77 == 0
    assert wiring.meter() is wiring.meter()
    assert find_url() == "http://127.0.0.1:8080"
    (tmp_path / "connection.toml").write_text('bootstrap_servers = ""\nurl = "http://there:1"\n')
    assert find_url() == "http://there:1"
    monkeypatch.setenv("METERSTREAM_URL", "http://named:2")
    assert find_url() == "http://named:2"
    (tmp_path / "connection.toml").write_text("=")
    monkeypatch.delenv("METERSTREAM_URL")
    with pytest.raises(UsageUnavailable, match=r"connection\.toml"):
        find_url()


def test_problems_of_the_usage_api_are_typed() -> None:
    """Refusals carry status and detail; no answer and no JSON are told apart."""

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/ok":
                return httpx.Response(200, json={"asked": dict(request.url.params)})
            case "/refused":
                return httpx.Response(404, json={"detail": "no meter is called 'm'"})
            case "/strange":
                return httpx.Response(500, json=[])
            case "/text":
                return httpx.Response(200, text="hello")
            case "/slow":
                raise httpx.ReadTimeout("slow")
            case _:
                raise httpx.ConnectError("nobody")

    api = HttpUsage("http://api/", transport=httpx.MockTransport(answer))

    assert api.get("/ok", [("meter", "a b")]) == {"asked": {"meter": "a b"}}
    with pytest.raises(UsageRefused, match="no meter is called 'm'") as refused:
        api.get("/refused")
    assert refused.value.status == 404
    with pytest.raises(UsageRefused, match="Internal Server Error"):
        api.get("/strange")
    with pytest.raises(UsageRefused, match="no JSON"):
        api.get("/text")
    with pytest.raises(UsageUnavailable, match="in time"):
        api.get("/slow")
    with pytest.raises(UsageUnavailable, match="nobody"):
        api.get("/other")


@pytest.mark.parametrize("name", ["climeter", "stripemeter"])
def test_the_examples_of_the_guides_run(
    name: str, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block of a guide "Coming from ..." runs as it stands."""
    text = (GUIDES / f"{name}.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    for example in examples:
        exec(compile(example, name, "exec"), {})

    assert len(examples) == 2
    assert len(memory.arrived()) == {"climeter": 3, "stripemeter": 2}[name]
    climeter.meter.configure()
