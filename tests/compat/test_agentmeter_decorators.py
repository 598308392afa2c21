"""Decorated functions of every kind are charged once, when they end, and never harmed."""

from __future__ import annotations

import asyncio
import inspect
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import wiring
from meterstream.compat.agentmeter import (
    AgentMeterClient,
    PaymentType,
    create_client,
    meter_agent,
    meter_api_request_pay,
    meter_instant_pay,
    meter_token_based_pay,
    track_api_request_pay,
    track_instant_pay,
    track_token_based_pay,
)
from meterstream.memory import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.compat.conftest import Memory


class Own(Exception):
    """What a host's function raises."""


@pytest.fixture
def client(memory: Memory) -> AgentMeterClient:
    """A client whose events arrive in memory."""
    return create_client(project_id="p", agent_id="a", user_id="u", api_request_unit_price=0.3)


def charged(memory: Memory) -> list[str]:
    """The costs of all events, sorted."""
    return sorted(event.attributes["cost"] for event in memory.arrived())


def refused(memory: Memory) -> int:
    """How many events were refused."""
    return memory.meter.status().dropped.get("invalid", 0)


def test_exceptions_pass_and_failed_requests_are_charged(
    memory: Memory, client: AgentMeterClient
) -> None:
    """The host's exception is the very same object; a failed request is charged by default."""
    problem = Own()

    @meter_api_request_pay(client)
    def fails() -> None:
        raise problem

    with pytest.raises(Own) as raised:
        fails()

    assert raised.value is problem
    assert charged(memory) == ["0.3"]


def test_failed_calls_are_charged_by_choice(memory: Memory, client: AgentMeterClient) -> None:
    """`charge_failed` decides for each decorator; instant payments need it to charge a failure."""

    def fails() -> None:
        raise Own

    for decorated in (
        meter_api_request_pay(client, unit_price=1, charge_failed=False)(fails),
        meter_api_request_pay(client, unit_price=2)(fails),
        meter_token_based_pay(client, 1, 1, tokens_extractor=lambda **_: (3, 0))(fails),
        meter_token_based_pay(
            client, 1, 1, tokens_extractor=lambda **_: (4, 0), charge_failed=False
        )(fails),
        meter_instant_pay(client, 5)(fails),
        meter_instant_pay(client, 6, charge_failed=True)(fails),
    ):
        with pytest.raises(Own):
            decorated()

    assert charged(memory) == ["2", "3", "6"]


def test_coroutines_are_charged_when_they_end(memory: Memory, client: AgentMeterClient) -> None:
    """Awaiting charges, making the coroutine does not; a cancelled one is charged as failed."""

    @meter_token_based_pay(client, 1, 1, tokens_extractor=lambda *_, result: (0, result))
    async def answer(count: int) -> int:
        await asyncio.sleep(0)
        return count

    @meter_api_request_pay(client)
    async def waits() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        made = answer(5)
        assert memory.arrived() == []
        assert await made == 5
        waiting = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())

    assert charged(memory) == ["0.3", "5"]
    assert inspect.iscoroutinefunction(answer)


def test_generators_are_charged_by_their_last_item(
    memory: Memory, client: AgentMeterClient
) -> None:
    """The extractor sees what was returned, else the last item; sent and thrown in things pass."""
    seen: list[object] = []

    def extract(*_: object, result: object) -> tuple[int, int]:
        seen.append(result)
        return 1, 1

    @meter_token_based_pay(client, 1, 1, tokens_extractor=extract)
    def stream(returned: object = None) -> Generator[object, object, object]:
        try:
            sent = yield "a"
            yield sent
        except Own:
            yield "caught"
        return returned

    assert list(stream()) == ["a", None]
    talking = stream("all")
    assert next(talking) == "a"
    assert talking.send("b") == "b"
    with pytest.raises(StopIteration) as ended:
        next(talking)
    assert ended.value.value == "all"
    caught = stream()
    next(caught)
    assert caught.throw(Own()) == "caught"
    caught.close()
    stopped = stream()
    next(stopped)
    stopped.close()
    stream()  # Never begun.

    assert seen == [None, "all", "caught", "a"]
    assert charged(memory) == ["2"] * 4


def test_async_generators_are_charged_once(memory: Memory, client: AgentMeterClient) -> None:
    """Read to the end, stopped early, failed: one charge each, and the host's own exception."""

    @meter_api_request_pay(client, unit_price=1)
    async def stream(*, fail: bool = False) -> AsyncGenerator[int, int]:
        got = yield 1
        yield got
        if fail:
            raise Own

    async def scenario() -> None:
        assert [item async for item in stream()] == [1, None]
        stopped = stream()
        assert await anext(stopped) == 1
        assert await stopped.asend(7) == 7
        await stopped.aclose()
        with pytest.raises(Own):
            assert [item async for item in stream(fail=True)]
        thrown = stream()
        await anext(thrown)
        with pytest.raises(Own):
            await thrown.athrow(Own())

    asyncio.run(scenario())

    assert charged(memory) == ["1"] * 4


def test_faults_of_extractors_and_conditions_stay_inside(
    memory: Memory, client: AgentMeterClient
) -> None:
    """What the host gives to measure may fail; the call answers, all is counted."""

    def broken(*_: object, **__: object) -> Any:  # noqa: ANN401 - it never answers
        raise Own

    for decorate in (
        meter_token_based_pay(client, tokens_extractor=broken),
        meter_token_based_pay(client, tokens_extractor=lambda *_, **__: (-1, 0)),
        meter_token_based_pay(client, tokens_extractor=lambda *_, **__: None),  # type: ignore[arg-type]  # on purpose
        meter_token_based_pay(client),
        meter_instant_pay(client, 1, condition_func=broken),
        meter_instant_pay(client, "much"),
        meter_api_request_pay(client, unit_price=-1),
        meter_api_request_pay(client, metadata=5),  # type: ignore[arg-type]  # on purpose
    ):
        assert decorate(lambda: "answer")() == "answer"

    assert memory.arrived() == []
    assert refused(memory) == 8


def test_strict_meters_do_not_raise_into_the_host(memory: Memory) -> None:
    """Even where refused events raise, a decorator and a block let the host go on."""
    strict = wiring.make_meter("strict", transport=MemoryTransport(), strict=True)
    wiring.use(meter=strict)
    client = create_client()  # Without a project nothing can be recorded.

    assert meter_api_request_pay(client)(lambda: "answer")() == "answer"
    with track_instant_pay(client, amount=1):
        pass

    assert strict.status().dropped == {"invalid": 2}
    assert strict.close(5)


def test_threads_are_charged_each(memory: Memory, client: AgentMeterClient) -> None:
    """Eight threads, a hundred calls each: eight hundred charges, and the ledger agrees."""

    @meter_api_request_pay(client, unit_price=0.1)
    def call(user_id: str) -> None:
        pass

    def work(user: str) -> None:
        for _ in range(100):
            call(user)

    threads = [threading.Thread(target=work, args=(f"u{number % 2}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert charged(memory) == ["0.1"] * 800
    assert [client.get_user_meter(user).current_usage for user in ("u0", "u1")] == [40.0, 40.0]


def test_the_functions_user_is_charged(memory: Memory, client: AgentMeterClient) -> None:
    """Named by the decorator, else by the call's own `user_id`, else by the client."""

    @meter_api_request_pay(client)
    def call(query: str, user_id: object = "default") -> None:
        pass

    call("q")
    call("q", 42)
    call("q", user_id="kw")
    call("q", None)
    meter_api_request_pay(client, user_id="named")(call.__wrapped__)("q", "other")  # type: ignore[attr-defined]  # functools sets it

    users = sorted(str(event.subject) for event in memory.arrived())
    assert users == ["42", "default", "kw", "named", "u"]


@pytest.mark.parametrize(
    "result",
    [
        SimpleNamespace(usage=SimpleNamespace(input_tokens=3, output_tokens=4)),
        SimpleNamespace(usage=SimpleNamespace(prompt_tokens=3, completion_tokens=4)),
        {"usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        {"tokens_in": 3, "tokens_out": 4},
        SimpleNamespace(usage_metadata={"input_tokens": 3, "output_tokens": 4}),
    ],
)
def test_usual_answers_need_no_extractor(
    memory: Memory, client: AgentMeterClient, result: object
) -> None:
    """Token counts under their usual names are found in the result."""
    meter_token_based_pay(client, 1, 10)(lambda: result)()

    assert charged(memory) == ["43"]


def test_unknown_tokens_of_failed_calls_are_nobodys_fault(
    memory: Memory, client: AgentMeterClient
) -> None:
    """A failed call without an extractor tells no tokens, and none used is nothing to charge."""

    @meter_token_based_pay(client, 1, 1)
    def fails() -> None:
        raise Own

    with pytest.raises(Own):
        fails()
    meter_token_based_pay(client, 1, 1)(lambda: {"tokens_in": 0, "tokens_out": 0})()

    assert (charged(memory), refused(memory)) == ([], 0)


def test_functions_without_a_signature_are_charged(
    memory: Memory, client: AgentMeterClient
) -> None:
    """Some built-in functions do not tell their arguments; the client's user is charged."""
    assert meter_api_request_pay(client)(max)(1, 2) == 2

    assert [event.subject for event in memory.arrived()] == ["u"]


def test_agents_are_charged_by_all_public_methods(memory: Memory, client: AgentMeterClient) -> None:
    """Without names: what the class defines, static and class methods too; nothing private."""

    class Base:
        def inherited(self) -> str:
            return "inherited"

    @meter_agent(client, unit_price=1)
    class Agent(Base):
        constant = 5

        def plain(self) -> str:
            return self._private()

        def _private(self) -> str:
            return "private"

        @staticmethod
        def fixed(value: int) -> int:
            return value

        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @property
        def shown(self) -> str:
            return "shown"

    agent = Agent()
    assert (agent.plain(), agent.fixed(3), Agent.named(), agent.shown, agent.inherited()) == (
        "private", 3, "Agent", "shown", "inherited",
    )  # fmt: skip

    assert charged(memory) == ["1"] * 3


def test_agents_are_charged_by_named_methods_only(memory: Memory, client: AgentMeterClient) -> None:
    """Inherited methods may be named; private ones stay free; a name that is none is told."""

    class Base:
        def search(self) -> str:
            return "base"

    class Agent(Base):
        def other(self) -> None:
            pass

        def _inner(self) -> None:
            pass

    metered = meter_agent(
        client, PaymentType.INSTANT_PAY, amount=2, methods_to_meter=["search", "_inner"]
    )(Agent)
    metered().search()
    metered().other()
    metered()._inner()
    Base().search()

    assert charged(memory) == ["2"]
    with pytest.raises(AttributeError, match="missing"):
        meter_agent(client, methods_to_meter=["missing"])(Agent)


def test_blocks_charge_what_they_say_at_their_end(memory: Memory, client: AgentMeterClient) -> None:
    """Nothing used, nothing charged; failed blocks as decorators; users may be told inside."""
    with track_api_request_pay(client, "p", "a", unit_price=0.5) as usage:
        usage["user_id"] = "inside"
    with track_api_request_pay(client, "p", "a") as usage:
        usage["api_calls"] = 0
    with track_token_based_pay(client, "p", "a"), track_instant_pay(client, "p", "a"):
        pass
    failing = track_token_based_pay(client, "p", "a", "u", 1, 2)
    with pytest.raises(Own), failing as usage:  # noqa: PT012 - that the block raises is the point
        usage["tokens_out"] = 4
        raise Own
    with pytest.raises(Own), track_instant_pay(client, "p", "a", amount=9):
        raise Own

    assert charged(memory) == ["0.5", "8"]
    assert {event.subject for event in memory.arrived()} == {"inside", "u"}


def test_blocks_keep_their_faults_to_themselves(memory: Memory, client: AgentMeterClient) -> None:
    """A spoiled `usage` is counted and harms nobody; `async with` works alike."""
    with track_api_request_pay(client) as usage:
        usage.clear()
    with track_instant_pay(client) as usage:
        usage["amount"] = object()

    async def scenario() -> None:
        async with track_instant_pay(client) as inner:
            inner["amount"] = 1.25

    asyncio.run(scenario())

    assert charged(memory) == ["1.25"]
    assert refused(memory) == 2


def test_decorated_functions_do_not_wait_for_a_broker(
    memory: Memory, client: AgentMeterClient
) -> None:
    """With the broker away calls answer at once and arrive when it is back."""
    memory.transport.available = False
    client.timeout = 60

    assert meter_api_request_pay(client)(lambda: 1)() == 1
    status = memory.meter.status()
    assert (status.recorded, status.acknowledged) == (1, 0)

    memory.transport.available = True
    assert charged(memory) == ["0.3"]
