"""Calls of a real openai client against canned answers: what each becomes."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from openai import AzureOpenAI, OpenAI
from pydantic import BaseModel

from meterstream.errors import SettingsError
from meterstream.integrations.openai import unwrap, wrap
from tests.unit.producers.integrations.llm import Told, refused, told
from tests.unit.producers.integrations.openai_answers import (
    COMPLETION,
    COUNTED,
    MESSAGES,
    RATE_LIMITED,
    RESPONSE,
    Server,
)

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


class Answer(BaseModel):
    """What a parsed chat is parsed into."""

    answer: int


def test_a_chat_is_one_event_with_all_that_the_answer_told(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The quantity is the total, the rest are attributes, and the host gets its answer."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert isinstance(client, OpenAI)
    assert answer.model_dump(exclude_unset=True) == COMPLETION
    assert told(meter, transport) == [Told("acme", "llm.tokens", 120, COUNTED)]


def test_the_client_of_coroutines_is_metered_alike(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Chat, responses and parsed chats of AsyncOpenAI, each in its task's own context."""
    meter, server = make_meter(), Server()

    async def ask(client: openai.AsyncOpenAI, tenant: str) -> None:
        with meter.context(tenant=tenant):
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            await client.responses.create(model="gpt-4o", input="hello")
            await client.chat.completions.parse(
                model="gpt-4o", messages=MESSAGES, response_format=Answer
            )

    async def scenario() -> None:
        async with wrap(server.async_client(), meter) as client:
            await asyncio.gather(*(ask(client, f"tenant {number}") for number in range(5)))

    asyncio.run(scenario())

    events = told(meter, transport)
    assert sum(event.attributes == COUNTED for event in events) == 10
    assert sum(event.attributes == {**COUNTED, "cache_write_tokens": "0"} for event in events) == 5
    assert sorted(event.tenant for event in events) == sorted(
        f"tenant {number}" for number in range(5) for _ in range(3)
    )
    assert {event.quantity for event in events} == {120}


def test_a_parsed_chat_is_metered_and_parsed(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """``parse`` goes the same way as ``create``."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    answer = client.chat.completions.parse(
        model="gpt-4o", messages=MESSAGES, response_format=Answer
    )

    assert answer.choices[0].message.parsed == Answer(answer=42)
    assert told(meter, transport) == [Told("acme", "llm.tokens", 120, COUNTED)]


def test_a_response_is_counted_like_a_chat(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The newer interface names its numbers otherwise; the event does not."""
    meter = make_meter()
    client = wrap(Server().client(), meter, tenant="acme")

    answer = client.responses.create(model="gpt-4o", input="hello")

    assert answer.output_text == "42"
    assert told(meter, transport) == [
        Told("acme", "llm.tokens", 120, {**COUNTED, "cache_write_tokens": "0"})
    ]


def test_a_response_that_says_it_failed_is_not_charged(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Such an answer comes with status 200; it may have usage, which is told on request."""
    server, meter = Server(), make_meter()
    server.answer("/v1/responses", {**RESPONSE, "status": "failed"})

    wrap(server.client(), meter, tenant="acme").responses.create(model="gpt-4o", input="hello")
    wrap(server.client(), meter, tenant="umbrella", charge_failures=True).responses.create(
        model="gpt-4o", input="hello"
    )

    [event] = told(meter, transport)
    assert (event.tenant, event.quantity, event.attributes["status"]) == ("umbrella", 120, "error")


def test_embeddings_have_input_only(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """No output is told, and none is made up."""
    server, meter = Server(), make_meter()
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    server.answer(
        "/v1/embeddings",
        {"object": "list", "data": [vector], "model": "text-embedding-3-small", "usage": usage},
    )
    client = wrap(server.client(), meter, tenant="acme")

    client.embeddings.create(model="text-embedding-3-small", input="hello", encoding_format="float")

    [event] = told(meter, transport)
    assert event.quantity == 8
    assert event.attributes["operation"] == "embeddings"
    assert event.attributes["input_tokens"] == "8"
    assert "output_tokens" not in event.attributes


def test_images_and_sounds_without_tokens_are_calls(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """They are recorded as 0 tokens with what can be counted of them, and none is missing."""
    server, meter = Server(), make_meter()
    server.answer("/v1/images/generations", {"created": 1, "data": [{"url": "x"}, {"url": "y"}]})
    server.answer(
        "/v1/audio/transcriptions",
        {"text": "hello", "usage": {"type": "duration", "seconds": 9.5}},
    )
    server.answers["/v1/audio/speech"] = lambda _: httpx.Response(200, content=b"RIFF")
    client = wrap(server.client(), meter, tenant="acme")

    client.images.generate(model="dall-e-3", prompt="a cat", n=2)
    client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF"))
    sound = client.audio.speech.create(model="tts-1", voice="alloy", input="forty-two")

    assert sound.content == b"RIFF"
    images, heard, spoken = told(meter, transport)
    assert (images.quantity, images.attributes["images"]) == (0, "2")
    assert (heard.quantity, heard.attributes["seconds"]) == (0, "9.5")
    assert (spoken.quantity, spoken.attributes["characters"]) == (0, "9")
    assert refused(meter) == 0


def test_an_error_of_the_provider_reaches_the_host_unchanged(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A refused call is no event unless it was asked for; then it is one of 0 tokens."""
    server, meter = Server(), make_meter()
    server.answer("/v1/chat/completions", RATE_LIMITED, status=429)

    for tenant, charged in (("acme", False), ("umbrella", True)):
        client = wrap(server.client(), meter, tenant=tenant, charge_failures=charged)
        with pytest.raises(openai.RateLimitError, match="slow down"):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert told(meter, transport) == [
        Told(
            "umbrella",
            "llm.tokens",
            0,
            {
                "provider": "openai",
                "operation": "chat",
                "requested_model": "gpt-4o",
                "model": "gpt-4o",
                "status": "error",
                "streamed": "false",
            },
        )
    ]
    assert refused(meter) == 0


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        "12",
        [],
        {"prompt_tokens": "12", "completion_tokens": None},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 1.5},
        {"prompt_tokens": 5},
    ],
    ids=str,
)
def test_usage_that_cannot_be_understood_is_told_and_not_guessed(
    make_meter: MakeMeter, transport: MemoryTransport, usage: object
) -> None:
    """By default the call is refused and counted; on request it is recorded as 0 tokens."""
    server, meter = Server(), make_meter()
    server.answer("/v1/chat/completions", {**COMPLETION, "usage": usage})

    wrap(server.client(), meter, tenant="acme").chat.completions.create(
        model="gpt-4o", messages=MESSAGES
    )
    assert refused(meter) == 1
    assert "openai told no tokens" in str(meter.status().last_error)
    wrap(server.client(), meter, tenant="acme", on_missing="record_zero").chat.completions.create(
        model="gpt-4o", messages=MESSAGES
    )

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["usage"]) == (0, "missing")
    assert refused(meter) == 1


def test_the_tenant_and_attributes_may_come_from_the_request(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Functions get the parameters as they are sent, those of ``extra_body`` too."""
    meter = make_meter()
    client = wrap(
        Server().client(),
        meter,
        tenant=lambda body: body["metadata"]["customer"],
        type="ai.chat",
        attributes=lambda body: {"route": body["route"]},
    )

    client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        metadata={"customer": "acme"},
        extra_body={"route": "support"},
    )

    [event] = told(meter, transport)
    assert (event.tenant, event.type, event.attributes["route"]) == ("acme", "ai.chat", "support")


def test_a_tenant_that_cannot_be_found_is_nobody_elses(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The call is refused and counted, and the host has its answer."""
    meter = make_meter(strict=True)
    client = wrap(Server().client(), meter, tenant=lambda body: str(body["metadata"]["x"]))
    with meter.context(tenant="umbrella"):
        answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    without = wrap(Server().client(), meter)
    without.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert answer.usage is not None
    assert refused(meter) == 2
    assert told(meter, transport) == []


def test_wrapping_twice_counts_once_and_unwrapping_ends_it(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """What was said last holds; afterwards the client has nothing of ours."""
    server, meter = Server(), make_meter()
    client = server.client()
    before = dict(vars(client))

    wrap(wrap(client, meter, tenant="acme"), meter, tenant="umbrella")
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    unwrap(unwrap(client))
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert [event.tenant for event in told(meter, transport)] == ["umbrella"]
    assert len(server.asked) == 2
    assert vars(client).keys() - before.keys() <= {"chat"}


def test_only_the_client_that_was_handed_in_is_metered(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """And what is made of it: resources fetched before, and copies with other options."""
    server, meter = Server(), make_meter()
    client, other = server.client(), server.client()
    chat = client.chat.completions
    wrap(client, meter, tenant="acme")

    other.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    chat.create(model="gpt-4o", messages=MESSAGES)
    client.with_options(timeout=5).chat.completions.create(model="gpt-4o", messages=MESSAGES)
    client.copy().copy(timeout=5).chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert len(told(meter, transport)) == 3


def test_clients_of_azure_are_told_apart(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Their addresses name a deployment; the provider is ``azure``."""
    server, meter = Server(), make_meter()
    server.answer("/openai/deployments/gpt-4o/chat/completions", COMPLETION)
    client = AzureOpenAI(
        api_key="none",
        api_version="2025-01-01",
        azure_endpoint="http://127.0.0.1",
        http_client=httpx.Client(transport=httpx.MockTransport(server)),
    )

    wrap(client, meter, tenant="acme").chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert told(meter, transport) == [
        Told("acme", "llm.tokens", 120, {**COUNTED, "provider": "azure"})
    ]


def test_other_calls_pass_unseen(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Lists of models cost no tokens."""
    server, meter = Server(), make_meter()
    server.answer("/v1/models", {"object": "list", "data": []})

    models = wrap(server.client(), meter, tenant="acme").models.list()

    assert models.data == []
    assert told(meter, transport) == []
    assert refused(meter) == 0


def test_a_closed_meter_does_not_reach_the_host(make_meter: MakeMeter) -> None:
    """Not even a strict one: the answer was paid for."""
    meter = make_meter(strict=True)
    client = wrap(Server().client(), meter, tenant="acme")
    meter.close()

    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert answer.id == "chatcmpl-1"
    assert dict(meter.status().dropped) == {"closed": 1}


def test_mistakes_in_the_settings_are_told_when_they_are_made(make_meter: MakeMeter) -> None:
    """A policy that is none, and what is no client."""
    wrong: Any = "guess"

    with pytest.raises(SettingsError, match="'guess' is none of"):
        wrap(Server().client(), make_meter(), on_missing=wrong)
    with pytest.raises(SettingsError, match="str has no request method"):
        wrap(wrong, make_meter())


def test_threads_share_a_client(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Every call of every thread counts once, for the tenant of its own thread."""
    meter = make_meter()
    client = wrap(Server().client(), meter)

    def ask(number: int) -> None:
        with meter.context(tenant=f"tenant {number % 4}"):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(80)))

    tenants = Counter(event.tenant for event in told(meter, transport))
    assert tenants == {f"tenant {number}": 20 for number in range(4)}
