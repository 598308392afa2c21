"""Real LiteLLM calls with its own mock answers: what the logger records."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from litellm.exceptions import RateLimitError

from tests.unit.producers.integrations.llm import Told, refused, told
from tests.unit.producers.integrations.local_litellm import QUIET, forget_loggers, hook, litellm
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

pytestmark = QUIET

CALL: Final[Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hello"}],
    "mock_response": "forty-two",
}
PLAIN: Final = Told(
    "acme",
    "llm.tokens",
    30,
    {
        "provider": "openai",
        "operation": "chat",
        "requested_model": "gpt-4o-mini",
        "model": "gpt-4o-mini",
        "input_tokens": "10",
        "output_tokens": "20",
        "cost": "0.0000135",
        "status": "ok",
        "streamed": "false",
    },
)
"""LiteLLM's mock answers use 10 and 20 tokens."""


@pytest.fixture
def register() -> Iterator[Callable[[hook.MeterLogger], None]]:
    """Puts a logger where LiteLLM looks for it, and takes everything out in the end."""

    def put(logger: hook.MeterLogger) -> None:
        litellm.callbacks.append(logger)

    yield put
    forget_loggers()


def recorded(meter: Meter, transport: MemoryTransport, count: int) -> list[Told]:
    """The events, when LiteLLM's own threads have come so far."""
    eventually(lambda: meter.status().recorded >= count)
    return told(meter, transport)


def test_a_completion_is_one_event_with_its_cost(
    make_meter: MakeMeter, transport: MemoryTransport, register: Callable[[hook.MeterLogger], None]
) -> None:
    """Usage, and what LiteLLM's own price list makes of it."""
    meter = make_meter()
    register(hook.MeterLogger(meter))

    answer: Any = litellm.completion(**CALL, metadata={"tenant": "acme"})

    assert answer.choices[0].message.content == "forty-two"
    assert recorded(meter, transport, 1) == [PLAIN]


def test_a_stream_is_recorded_once_when_it_is_complete(
    make_meter: MakeMeter, transport: MemoryTransport, register: Callable[[hook.MeterLogger], None]
) -> None:
    """Plain and async; the parts before are none."""
    meter = make_meter()
    register(hook.MeterLogger(meter, tenant="acme"))

    async def scenario() -> int:
        stream: Any = await litellm.acompletion(**CALL, stream=True)
        count = len([part async for part in stream])
        await asyncio.to_thread(eventually, lambda: meter.status().recorded >= 1)
        return count

    assert asyncio.run(scenario()) > 1
    stream: Any = litellm.completion(**CALL, stream=True)
    assert len(list(stream)) > 1
    events = recorded(meter, transport, 2)

    assert len(events) == 2
    assert {event.attributes["streamed"] for event in events} == {"true"}
    assert all(
        event.quantity
        == int(event.attributes["input_tokens"]) + int(event.attributes["output_tokens"])
        for event in events
    )


def test_coroutines_are_recorded_for_the_tenant_that_held_where_they_began(
    make_meter: MakeMeter, transport: MemoryTransport, register: Callable[[hook.MeterLogger], None]
) -> None:
    """LiteLLM logs elsewhere; plain streams too, which it ends in a thread of its own."""
    meter = make_meter()
    register(hook.MeterLogger(meter))

    async def ask(number: int) -> None:
        with meter.context(tenant=f"tenant {number}"):
            await litellm.acompletion(**CALL)

    async def scenario() -> None:
        await asyncio.gather(*(ask(number) for number in range(5)))
        await asyncio.to_thread(eventually, lambda: meter.status().recorded >= 5)

    asyncio.run(scenario())
    with meter.context(tenant="tenant 5"):
        stream: Any = litellm.completion(**CALL, stream=True)
    assert list(stream)

    events = recorded(meter, transport, 6)
    assert sorted(event.tenant for event in events) == [f"tenant {number}" for number in range(6)]
    assert refused(meter) == 0


def test_embeddings_and_images_are_metered(
    make_meter: MakeMeter, transport: MemoryTransport, register: Callable[[hook.MeterLogger], None]
) -> None:
    """By their own operations; an image has no tokens, and misses none."""
    meter = make_meter()
    register(hook.MeterLogger(meter, tenant="acme"))

    litellm.embedding(model="text-embedding-3-small", input=["a"], mock_response=[0.5])
    litellm.image_generation(prompt="a cat", model="dall-e-3", mock_response="http://x/y.png")

    events = recorded(meter, transport, 2)
    found = {event.attributes["operation"]: event.quantity for event in events}
    assert found == {"embeddings": 10, "image": 0}
    assert refused(meter) == 0


@pytest.mark.parametrize("charged", [False, True])
def test_an_error_reaches_the_host_and_is_charged_on_request_only(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    register: Callable[[hook.MeterLogger], None],
    charged: bool,
) -> None:
    """One event of 0 tokens for each, plain and async."""
    meter = make_meter()
    register(hook.MeterLogger(meter, tenant="acme", charge_failures=charged))
    limited = {**CALL, "mock_response": "litellm.RateLimitError"}

    async def scenario() -> None:
        with pytest.raises(RateLimitError):
            await litellm.acompletion(**limited)
        await litellm.acompletion(**CALL)
        await asyncio.to_thread(eventually, lambda: meter.status().recorded >= 1 + charged)

    asyncio.run(scenario())
    with pytest.raises(RateLimitError):
        litellm.completion(**limited)

    events = recorded(meter, transport, 3 if charged else 1)
    assert sorted(event.quantity for event in events) == ([0, 0, 30] if charged else [30])
    assert [event.attributes["status"] for event in events].count("error") == 2 * charged


def test_an_answer_from_the_cache_says_so(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """It has the usage of the answer that was kept, and a mark to leave it out by."""
    meter = make_meter()
    logger = hook.MeterLogger(meter, tenant="acme")

    logger.log_success_event(
        details(cache_hit=True, response_cost=0.0), {"usage": USAGE}, None, None
    )
    logger.log_success_event(
        details(cache_hit=False, litellm_call_id="2"), {"usage": USAGE}, None, None
    )

    cached, fresh = told(meter, transport)
    assert (cached.attributes["cache_hit"], cached.attributes["cost"]) == ("true", "0")
    assert "cache_hit" not in fresh.attributes


def details(**changes: object) -> dict[str, Any]:
    """What LiteLLM hands to loggers, as far as it is looked at."""
    return {"litellm_call_id": "1", "call_type": "completion", "model": "m", **changes}


USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_the_same_end_told_twice_counts_once(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Some versions tell it to both kinds of methods; parts of a stream are no end at all."""
    meter = make_meter()
    logger = hook.MeterLogger(meter, tenant="acme")
    answer: Any = {"id": "a", "usage": USAGE}

    logger.log_success_event(details(stream=True), answer, None, None)
    logger.log_success_event(details(), answer, None, None)
    asyncio.run(logger.async_log_success_event(details(), answer, None, None))
    logger.log_success_event(details(litellm_call_id=None), answer, None, None)

    assert [event.quantity for event in told(meter, transport)] == [3, 3]


@pytest.mark.parametrize("answer", [None, 7, {}, {"usage": {}}, {"usage": {"prompt_tokens": "x"}}])
def test_answers_of_unknown_shapes_are_counted(make_meter: MakeMeter, answer: object) -> None:
    """They are refused, also with a strict meter, and nothing reaches LiteLLM."""
    meter = make_meter(strict=True)
    logger = hook.MeterLogger(meter, tenant="acme")
    shapeless: Any = object()

    logger.log_success_event(details(), answer, None, None)
    logger.log_success_event(shapeless, answer, None, None)
    logger.log_pre_api_call("m", [], shapeless)

    assert refused(meter) == 2


def test_what_is_remembered_is_bounded(
    make_meter: MakeMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest calls are forgotten."""
    monkeypatch.setattr(hook, "REMEMBERED_MAX", 3)
    logger = hook.MeterLogger(make_meter(), tenant="acme")

    for number in range(10):
        known = details(litellm_call_id=str(number))
        logger.log_pre_api_call("m", [], known)
        if number % 2:
            logger.log_success_event(known, {"id": "a", "usage": USAGE}, None, None)

    assert len(logger._contexts) <= 3
    assert len(logger._recorded) <= 3


@pytest.mark.parametrize(
    ("cost", "told_cost"),
    [(1.35e-05, "0.0000135"), (2, "2"), (120.5, "120.5"), (1 / 3 / 1e6, "0.000000333333333333")],
)
def test_a_cost_is_exact_decimal_text(
    make_meter: MakeMeter, transport: MemoryTransport, cost: float, told_cost: str
) -> None:
    """Of the digits that LiteLLM's float shows, and at most the 18 places that are kept."""
    meter = make_meter()
    logger = hook.MeterLogger(meter, tenant="acme")

    logger.log_success_event(details(response_cost=cost), {"usage": USAGE}, None, None)

    assert told(meter, transport)[0].attributes["cost"] == told_cost
