"""Streams of a real openai client: what the host sees, what is recorded, whatever their end."""

from __future__ import annotations

import asyncio
import copy
import gc
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from openai import AsyncStream, Stream

from meterstream.integrations.openai import wrap
from tests.unit.producers.integrations.llm import Told, refused, sse, told
from tests.unit.producers.integrations.openai_answers import (
    COUNTED,
    MESSAGES,
    RESPONSE,
    USAGE,
    Server,
    chat_chunks,
    chunk,
)
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

STREAMED = {**COUNTED, "streamed": "true"}


def test_a_stream_is_asked_for_its_usage_and_the_host_does_not_notice(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The host gets the chunks it would have got, from an object of the package's class."""
    server, meter = Server(), make_meter()
    client = wrap(server.client(), meter, tenant="acme")

    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    chunks = list(stream)

    assert isinstance(stream, Stream)
    assert stream.response.status_code == 200
    assert [part.model_dump(exclude_unset=True, exclude={"usage"}) for part in chunks] == (
        chat_chunks(with_usage=False)
    )
    assert server.asked[0]["stream_options"] == {"include_usage": True}
    assert told(meter, transport) == [Told("acme", "llm.tokens", 120, STREAMED)]


def test_a_host_that_asked_for_the_usage_gets_it(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """What the host said of the usage stays as it was said; other options of a stream too."""
    server, meter = Server(), make_meter()
    client = wrap(server.client(), meter, tenant="acme")

    asked = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    usage = list(asked)[-1].usage
    mixed = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_obfuscation": True}
    )
    chunks = list(mixed)

    assert usage is not None
    assert usage.total_tokens == 120
    assert len(chunks) == 3
    assert server.asked[1]["stream_options"] == {"include_obfuscation": True, "include_usage": True}
    assert [event.quantity for event in told(meter, transport)] == [120, 120]


@pytest.mark.parametrize("declined", ["by the host", "by extra_body", "by the wrapper"])
def test_usage_that_nobody_asks_for_is_missing(
    make_meter: MakeMeter, transport: MemoryTransport, declined: str
) -> None:
    """A host may say no; the call is counted as one without usage."""
    server, meter = Server(), make_meter()
    client = wrap(server.client(), meter, tenant="acme", ask_usage=declined != "by the wrapper")
    no: dict[str, Any] = {"include_usage": False}
    said: dict[str, Any] = {
        "by the host": {"stream_options": no},
        "by extra_body": {"extra_body": {"stream_options": no}},
        "by the wrapper": {},
    }[declined]

    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, **said)

    assert len(list(stream)) == 3
    assert server.asked[0].get("stream_options") == (no if said else None)
    assert told(meter, transport) == []
    assert refused(meter) == 1


def test_a_stream_of_coroutines_is_watched_alike(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """As an iterator, in a block, and with the helper that puts chunks together."""
    server, meter = Server(), make_meter()

    async def scenario() -> list[int]:
        client = wrap(server.async_client(), meter, tenant="acme")
        chat = client.chat.completions
        stream = await chat.create(model="gpt-4o", messages=MESSAGES, stream=True)
        assert isinstance(stream, AsyncStream)
        assert not hasattr(stream, "__next__")
        counts = [len([part async for part in stream])]
        async with await chat.create(model="gpt-4o", messages=MESSAGES, stream=True) as block:
            counts.append(len([part async for part in block]))
        async with chat.stream(model="gpt-4o", messages=MESSAGES) as helper:
            final = await helper.get_final_completion()
            assert final.choices[0].message.content == "forty-two"
        return counts

    assert asyncio.run(scenario()) == [3, 3]
    assert told(meter, transport) == [Told("acme", "llm.tokens", 120, STREAMED)] * 3


def test_the_stream_helper_is_metered(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """``chat.completions.stream`` puts the same answer together as without a meter."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.content == "forty-two"
    assert told(meter, transport) == [Told("acme", "llm.tokens", 120, STREAMED)]


def test_a_streamed_response_tells_its_usage_with_the_last_event(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Also for the helper, and for a host that leaves right after that event."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    events = list(client.responses.create(model="gpt-4o", input="hello", stream=True))
    with client.responses.stream(model="gpt-4o", input="hello") as helper:
        for event in helper:
            if event.type == "response.completed":
                break

    assert [event.type for event in events][-1] == "response.completed"
    counted = {**STREAMED, "cache_write_tokens": "0"}
    assert told(meter, transport) == [Told("acme", "llm.tokens", 120, counted)] * 2


def test_a_streamed_response_that_fails_is_not_charged(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Its last event says so."""
    server, meter = Server(), make_meter()
    failed = {"type": "response.failed", "response": {**RESPONSE, "status": "failed"}}
    server.answer("/v1/responses", sse([failed], named=True))
    client = wrap(server.client(), meter, tenant="acme")

    assert len(list(client.responses.create(model="gpt-4o", input="x", stream=True))) == 1

    assert told(meter, transport) == []
    assert refused(meter) == 0


@pytest.mark.parametrize("way", ["closed", "left", "forgotten"])
def test_a_stream_that_is_left_early_never_told_its_usage(
    make_meter: MakeMeter, transport: MemoryTransport, way: str
) -> None:
    """It is counted as missing, or recorded as 0 tokens with its status: stopped."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme", on_missing="record_zero")

    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    next(stream)
    if way == "closed":
        stream.close()
        stream.close()
    elif way == "left":
        with stream:
            pass
    del stream
    if way == "forgotten":
        gc.collect()

    [event] = told(meter, transport)
    assert event.quantity == 0
    assert event.attributes["status"] == "stopped"
    assert event.attributes["usage"] == "missing"


def test_usage_in_every_chunk_counts_until_the_stream_is_left(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Some servers tell it so; what was told last is what is known."""
    server, meter = Server(), make_meter()
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    counts = [
        chunk(choices=[choice], usage={**USAGE, "completion_tokens": n, "total_tokens": 100 + n})
        for n in (1, 2, 3)
    ]
    server.answer("/v1/chat/completions", sse(counts, done=True))
    client = wrap(server.client(), meter, tenant="acme")

    with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
        next(stream)
        assert next(stream).choices

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["status"]) == (102, "stopped")


def test_an_error_amid_a_stream_reaches_the_host(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """As the package raises it; what was generated until then is told with the failures."""
    server, meter = Server(), make_meter()
    broken = [*chat_chunks(with_usage=False)[:1], {"error": {"message": "overloaded"}}]
    server.answer("/v1/chat/completions", sse(broken))

    for tenant, charged in (("acme", False), ("umbrella", True)):
        client = wrap(server.client(), meter, tenant=tenant, charge_failures=charged)
        stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        next(stream)
        with pytest.raises(openai.APIError, match="overloaded"):
            next(stream)

    [event] = told(meter, transport)
    assert (event.tenant, event.quantity) == ("umbrella", 0)
    assert event.attributes["status"] == "error"


def test_a_cancelled_task_has_stopped_its_stream(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Cancellation goes through, and is no failure of the provider."""
    meter = make_meter()

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:  # noqa: ANN401 - an async generator
            yield sse(chat_chunks(with_usage=False)[:1])
            await asyncio.Event().wait()

    server = Server()
    server.answers["/v1/chat/completions"] = lambda _: httpx.Response(200, stream=Endless())

    async def read(seen: asyncio.Event) -> None:
        client = wrap(server.async_client(), meter, tenant="acme", on_missing="record_zero")
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True
        )
        async for _ in stream:
            seen.set()

    async def scenario() -> None:
        seen = asyncio.Event()
        task = asyncio.create_task(read(seen))
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    [event] = told(meter, transport)
    assert event.attributes["status"] == "stopped"


def test_a_stream_belongs_to_the_tenant_for_whom_it_began(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Wherever it is read: the ambient context is that of the call."""
    meter = make_meter()
    client = wrap(Server().client(), meter)
    with meter.context(tenant="acme", attributes={"feature": "chat"}):
        stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    with meter.context(tenant="umbrella"):
        assert len(list(stream)) == 3

    assert told(meter, transport) == [
        Told("acme", "llm.tokens", 120, {**STREAMED, "feature": "chat"})
    ]


def test_raw_answers_are_metered(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Plain and streamed; parsing such an answer twice counts it once."""
    meter = make_meter()
    raw = wrap(Server().client(), meter, tenant="acme").chat.completions.with_raw_response

    plain = raw.create(model="gpt-4o", messages=MESSAGES)
    streamed = raw.create(model="gpt-4o", messages=MESSAGES, stream=True)
    assert streamed.parse() is streamed.parse()

    assert plain.headers["content-type"] == "application/json"
    assert plain.parse().choices[0].message.content == '{"answer": 42}'
    assert len(list(streamed.parse())) == 3
    assert [event.attributes for event in told(meter, transport)] == [COUNTED, STREAMED]


def test_answers_that_the_host_reads_itself_are_metered_when_it_closes_them(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Such a stream is not asked for usage: the host would see the further chunk."""
    server, meter = Server(), make_meter()
    own = wrap(server.client(), meter, tenant="acme").chat.completions.with_streaming_response

    with own.create(model="gpt-4o", messages=MESSAGES) as answer:
        assert answer.parse().id == "chatcmpl-1"
    with own.create(model="gpt-4o", messages=MESSAGES) as unread:
        assert unread.status_code == 200
    with own.create(model="gpt-4o", messages=MESSAGES, stream=True) as streamed:
        assert len(list(streamed.parse())) == 3

    assert "stream_options" not in server.asked[2]
    assert [event.attributes for event in told(meter, transport)] == [COUNTED]
    assert refused(meter) == 2


def test_raw_answers_of_coroutines_are_metered(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Also where parsing is a coroutine."""
    meter, server = make_meter(), Server()

    async def scenario() -> None:
        chat = wrap(server.async_client(), meter, tenant="acme").chat.completions
        raw = await chat.with_raw_response.create(model="gpt-4o", messages=MESSAGES, stream=True)
        assert len([part async for part in raw.parse()]) == 3
        async with chat.with_streaming_response.create(
            model="gpt-4o",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        ) as own:
            assert len([part async for part in await own.parse()]) == 4
        async with chat.with_streaming_response.create(model="gpt-4o", messages=MESSAGES) as own:
            assert (await own.parse()).id == "chatcmpl-1"

    asyncio.run(scenario())

    assert [event.attributes for event in told(meter, transport)] == [STREAMED, STREAMED, COUNTED]


def test_a_stream_that_cannot_be_watched_is_left_alone(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A host's own kind of stream is passed on and counted."""
    meter = make_meter()
    client = Server().client()
    marker = copy.copy({"stream": "of the host's own"})
    vars(client)["request"] = lambda *_, **__: marker

    wrap(client, meter, tenant="acme")
    stream: Any = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)

    assert stream is marker
    assert refused(meter) > 0
    assert told(meter, transport) == []


def test_another_stream_of_the_watched_class_is_only_a_stream(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """One that a host makes of the first one's class belongs to no call."""
    server, meter = Server(), make_meter()
    client = wrap(server.client(), meter, tenant="acme")
    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    other = object.__new__(type(stream))
    vars(other).update((name, own) for name, own in vars(stream).items() if "meter" not in name)

    assert len(list(other)) == len(chat_chunks(with_usage=True))
    other.close()

    assert meter.flush(5)
    assert arrived(transport) == []
