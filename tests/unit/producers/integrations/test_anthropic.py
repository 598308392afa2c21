"""Calls of a real anthropic client against canned answers: what each becomes."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import anthropic
import pytest
from anthropic import Anthropic, AsyncStream, Stream

from meterstream.integrations.anthropic import unwrap, wrap
from tests.unit.producers.integrations.anthropic_answers import (
    COUNTED,
    EVENTS,
    MESSAGE,
    MESSAGES,
    OVERLOADED,
    Server,
)
from tests.unit.producers.integrations.llm import Told, refused, told

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

ASK: Final[Any] = {"model": "claude-stand-in", "max_tokens": 50, "messages": MESSAGES}
PLAIN = Told("acme", "llm.tokens", 120, COUNTED)
STREAMED = Told("acme", "llm.tokens", 120, {**COUNTED, "streamed": "true"})


def test_a_message_is_one_event_with_its_caches_in_the_input(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The provider tells input apart from its cache; the event has all of it, and both parts."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    answer = client.messages.create(**ASK)

    assert isinstance(client, Anthropic)
    assert answer.model_dump(exclude_unset=True) == MESSAGE
    assert told(meter, transport) == [PLAIN]


def test_a_beta_message_and_raw_answers_are_metered(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """They go the same way."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    client.beta.messages.create(**ASK)
    raw = client.messages.with_raw_response.create(**ASK)
    streamed = client.messages.with_raw_response.create(**ASK, stream=True)
    with client.messages.with_streaming_response.create(**ASK) as own:
        assert own.parse().id == "msg_1"

    assert raw.parse().id == "msg_1"
    assert len(list(streamed.parse())) == 6
    assert told(meter, transport) == [PLAIN, PLAIN, PLAIN, STREAMED]


def test_a_stream_counts_from_its_first_event_to_its_last(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The host gets each event from an object of the package's class."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    with client.messages.create(**ASK, stream=True) as stream:
        events = list(stream)

    assert isinstance(stream, Stream)
    assert [event.type for event in events] == [
        event["type"] for event in EVENTS if event["type"] != "ping"
    ]
    assert told(meter, transport) == [STREAMED]


def test_the_stream_helper_is_metered(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """``messages.stream`` gives text and the final message as without a meter."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()

    assert (text, final.usage.output_tokens) == ("forty-two", 20)
    assert told(meter, transport) == [STREAMED]


def test_the_client_of_coroutines_is_metered_alike(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Plain, streamed and with the helper."""
    meter, server = make_meter(), Server()

    async def scenario() -> None:
        client = wrap(server.async_client(), meter, tenant="acme")
        await client.messages.create(**ASK)
        stream = await client.messages.create(**ASK, stream=True)
        assert isinstance(stream, AsyncStream)
        assert len([event async for event in stream]) == 6
        async with client.messages.stream(**ASK) as helper:
            assert await helper.get_final_text() == "forty-two"

    asyncio.run(scenario())

    assert told(meter, transport) == [PLAIN, STREAMED, STREAMED]


@pytest.mark.parametrize("way", ["closed", "left", "helper", "forgotten"])
def test_a_stream_that_is_left_early_is_charged_what_was_told(
    make_meter: MakeMeter, transport: MemoryTransport, way: str
) -> None:
    """The input is known from the first event; the output so far is what that event says."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    if way == "helper":
        with client.messages.stream(**ASK) as helper:
            next(helper)
    else:
        stream = client.messages.create(**ASK, stream=True)
        next(stream)
        if way == "closed":
            stream.close()
        elif way == "left":
            with stream:
                pass
        del stream
    if way in {"helper", "forgotten"}:
        gc.collect()

    assert told(meter, transport) == [
        STREAMED._replace(
            quantity=101,
            attributes={**STREAMED.attributes, "output_tokens": "1", "status": "stopped"},
        )
    ]


def test_a_last_event_may_correct_the_input(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Its numbers are cumulative, and they may include the input and its caches."""
    server, meter = Server(), make_meter()
    usage = {"input_tokens": 15, "cache_read_input_tokens": 70, "output_tokens": 25}
    server.events = [*EVENTS[:5], {**EVENTS[5], "usage": usage}, EVENTS[6]]
    client = wrap(server.client(), meter, tenant="acme")

    list(client.messages.create(**ASK, stream=True))

    [event] = told(meter, transport)
    assert event.quantity == 15 + 70 + 30 + 25
    assert event.attributes["cached_tokens"] == "70"


def test_errors_of_the_provider_reach_the_host_unchanged(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Before an answer and amid a stream; recorded on request, with what was told until then."""
    server, meter = Server(), make_meter()

    for tenant, charged in (("acme", False), ("umbrella", True)):
        client = wrap(server.client(), meter, tenant=tenant, charge_failures=charged)
        server.status, server.message = 429, OVERLOADED
        with pytest.raises(anthropic.RateLimitError, match="overloaded"):
            client.messages.create(**ASK)
        server.status, server.events = 200, [*EVENTS[:3], OVERLOADED]
        stream = client.messages.create(**ASK, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="overloaded"):
            list(stream)

    refused_call, broken = told(meter, transport)
    assert {refused_call.tenant, broken.tenant} == {"umbrella"}
    assert (refused_call.quantity, refused_call.attributes["status"]) == (0, "error")
    assert (broken.quantity, broken.attributes["status"]) == (101, "error")


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": "1", "output_tokens": 2}, {"output_tokens": 2}, 7], ids=str
)
def test_usage_that_cannot_be_understood_is_told_and_not_guessed(
    make_meter: MakeMeter, transport: MemoryTransport, usage: object
) -> None:
    """Counted as refused, or recorded as 0 tokens on request."""
    server, meter = Server(), make_meter()
    server.message = {**MESSAGE, "usage": usage}

    wrap(server.client(), meter, tenant="acme").messages.create(**ASK)
    assert refused(meter) == 1
    wrap(server.client(), meter, tenant="acme", on_missing="record_zero").messages.create(**ASK)

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["usage"]) == (0, "missing")


def test_thinking_is_part_of_the_output(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Where the provider tells it apart, the event does too."""
    server, meter = Server(), make_meter()
    details = {"output_tokens_details": {"thinking_tokens": 15}}
    server.message = {**MESSAGE, "usage": {**MESSAGE["usage"], **details}}

    wrap(server.client(), meter, tenant="acme").messages.create(**ASK)

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["reasoning_tokens"]) == (120, "15")


def test_wrapping_is_idempotent_and_undone(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """What was said last holds; copies are metered too; afterwards nothing of ours is left."""
    meter = make_meter()
    client = wrap(wrap(Server().client(), meter, tenant="umbrella"), meter, tenant="acme")

    client.with_options(timeout=5).messages.create(**ASK)
    unwrap(client).messages.create(**ASK)

    assert told(meter, transport) == [PLAIN]
    assert not {"request", "copy", "with_options"} & vars(client).keys()


def test_counting_tokens_is_not_metered(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """It generates none."""
    server, meter = Server(), make_meter()
    server.message = {"input_tokens": 12}
    client = wrap(server.client(), meter, tenant="acme")

    count = client.messages.count_tokens(model="claude-stand-in", messages=MESSAGES)

    assert count.input_tokens == 12
    assert told(meter, transport) == []
    assert refused(meter) == 0


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("Anthropic", "anthropic"),
        ("AsyncAnthropicBedrock", "bedrock"),
        ("AnthropicBedrockMantle", "bedrock"),
        ("AnthropicVertex", "vertex_ai"),
        ("AnthropicFoundry", "azure"),
    ],
)
def test_clients_of_other_providers_are_told_apart(
    make_meter: MakeMeter, transport: MemoryTransport, name: str, provider: str
) -> None:
    """By the names of their classes."""
    meter = make_meter()
    client = Server().client()
    client.__class__ = type(name, (Anthropic,), {})

    wrap(client, meter, tenant="acme").messages.create(**ASK)

    assert told(meter, transport) == [PLAIN._replace(attributes={**COUNTED, "provider": provider})]
