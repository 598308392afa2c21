"""Real LangChain runs of fake models that carry usage: what the callback records."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    LLMResult,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableParallel

from meterstream.integrations import langchain
from meterstream.integrations.langchain import MeterCallback
from tests.unit.producers.integrations.llm import Told, refused, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

USAGE: Final[Any] = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_token_details": {"cache_read": 64, "cache_creation": 8},
    "output_token_details": {"reasoning": 12},
}
COUNTED: Final = {
    "provider": "standin",  # LangChain makes it of the class's name.
    "operation": "chat",
    "requested_model": "stand-in",
    "model": "stand-in-1",
    "input_tokens": "100",
    "cached_tokens": "64",
    "cache_write_tokens": "8",
    "output_tokens": "20",
    "reasoning_tokens": "12",
    "status": "ok",
    "streamed": "false",
}
PLAIN: Final = Told("acme", "llm.tokens", 120, COUNTED)
STREAMED: Final = PLAIN._replace(attributes={**COUNTED, "streamed": "true"})


class StandInChat(BaseChatModel):
    """A chat model that tells its usage as a provider's would."""

    model_name: str = "stand-in"
    usage: Any = USAGE
    failure: Any = None
    choices: int = 1

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: object = None,
        run_manager: object = None,
        **kwargs: object,
    ) -> ChatResult:
        if self.failure is not None:
            raise self.failure
        message = AIMessage(
            content="forty-two",
            usage_metadata=self.usage,
            response_metadata={"model_name": "stand-in-1"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)] * self.choices)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: object = None,
        run_manager: object = None,
        **kwargs: object,
    ) -> Iterator[ChatGenerationChunk]:
        for word in ("forty", "-two"):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        if self.failure is not None:
            raise self.failure
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=self.usage,
                response_metadata={"model_name": "stand-in-1"},
            )
        )


class StandInCompletion(BaseLLM):
    """A completion model of the older kind: usage stands beside the generations."""

    @property
    def _llm_type(self) -> str:
        return "stand-in-llm"

    def _generate(
        self,
        prompts: list[str],
        stop: object = None,
        run_manager: object = None,
        **kwargs: object,
    ) -> LLMResult:
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return LLMResult(
            generations=[[Generation(text="42")] for _ in prompts],
            llm_output={"token_usage": usage, "model_name": "davinci-1"},
        )


def config(callback: MeterCallback, **metadata: str) -> RunnableConfig:
    """A run's configuration with the callback."""
    return RunnableConfig(callbacks=[callback], metadata=dict(metadata))


def test_a_model_call_in_a_chain_is_one_event(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The chain's other steps are none."""
    meter = make_meter()
    chain = ChatPromptTemplate.from_template("{question}") | StandInChat() | StrOutputParser()

    answer = chain.invoke({"question": "?"}, config(MeterCallback(meter, tenant="acme")))

    assert answer == "forty-two"
    assert told(meter, transport) == [PLAIN]


def test_every_way_to_run_a_model_is_metered(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Streams, batches, parallel branches, several choices; plain and async."""
    meter = make_meter()
    model, how = StandInChat(), config(MeterCallback(meter, tenant="acme"))

    async def scenario() -> None:
        await model.ainvoke("?", how)
        await model.abatch(["?", "?"], how)
        assert "".join([part.text async for part in model.astream("?", how)]) == "forty-two"
        events = model.astream_events("?", how, version="v2")
        assert [event async for event in events]

    assert "".join(part.text for part in model.stream("?", how)) == "forty-two"
    assert list(model.stream_events("?", how, version="v3"))
    model.batch(["?", "?", "?"], how)
    RunnableParallel(a=model, b=model).invoke("?", how)
    StandInChat(choices=3).invoke("?", how)
    asyncio.run(scenario())

    events = told(meter, transport)
    assert events.count(STREAMED) == 4
    assert events.count(PLAIN) == 3 + 2 + 1 + 1 + 2
    assert len(events) == 13
    assert refused(meter) == 0


def test_a_callback_handed_in_twice_records_once(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """By the model and by the run."""
    meter = make_meter()
    callback = MeterCallback(meter, tenant="acme")
    model = StandInChat(callbacks=[callback])

    model.invoke("?", RunnableConfig(callbacks=[callback, callback]))

    assert told(meter, transport) == [PLAIN]


def test_the_tenant_comes_from_the_run_or_its_surroundings(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The run's metadata, a function of it, or the ambient context, each in its own run."""
    meter = make_meter()
    model, callback = StandInChat(), MeterCallback(meter)
    chosen = MeterCallback(
        meter,
        tenant=lambda metadata: f"org {metadata['org']}",
        attributes=lambda metadata: {"org": metadata["org"]},
    )

    model.invoke("?", config(callback, tenant="acme"))
    model.invoke("?", config(chosen, org="7"))
    with meter.context(tenant="umbrella"):
        model.batch(["?", "?"], config(callback))
        asyncio.run(model.ainvoke("?", config(callback)))
    model.invoke("?", config(callback))

    events = told(meter, transport)
    assert [event.tenant for event in events].count("umbrella") == 3
    assert {event.tenant for event in events} == {"acme", "org 7", "umbrella"}
    assert [event.attributes["org"] for event in events if event.tenant == "org 7"] == ["7"]
    assert refused(meter) == 1  # The last had no tenant.


def test_completion_models_tell_their_usage_beside_the_answer(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """For several prompts together it is told once, and counted once."""
    meter = make_meter()
    how: Any = [MeterCallback(meter, tenant="acme")]

    StandInCompletion().generate(["a", "b", "c"], callbacks=how)
    StandInCompletion().invoke("a", RunnableConfig(callbacks=how))

    first, second = told(meter, transport)
    assert first.quantity == second.quantity == 10
    assert first.attributes["operation"] == "text_completion"
    assert first.attributes["model"] == "davinci-1"
    assert refused(meter) == 0


def test_a_failure_reaches_the_host_and_is_not_charged(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Also amid a stream; on request it is recorded."""
    meter = make_meter()
    model = StandInChat(failure=ConnectionError("away"))

    for tenant, charged in (("acme", False), ("umbrella", True)):
        how = config(MeterCallback(meter, tenant=tenant, charge_failures=charged))
        with pytest.raises(ConnectionError, match="away"):
            model.invoke("?", how)
        with pytest.raises(ConnectionError, match="away"):
            list(model.stream("?", how))

    events = told(meter, transport)
    assert [(event.tenant, event.quantity) for event in events] == [("umbrella", 0)] * 2
    assert {event.attributes["status"] for event in events} == {"error"}


def test_a_stream_that_is_left_early_was_stopped(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """What its chunks had told until then is known; here, nothing."""
    meter = make_meter()
    how = config(MeterCallback(meter, tenant="acme", on_missing="record_zero"))

    stream = iter(StandInChat().stream("?", how))
    next(stream)
    del stream

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["status"]) == (0, "stopped")


@pytest.mark.parametrize(
    "usage", [None, {"input_tokens": 1, "output_tokens": 0, "total_tokens": -5}]
)
def test_usage_that_is_not_told_is_not_guessed(
    make_meter: MakeMeter, transport: MemoryTransport, usage: dict[str, int] | None
) -> None:
    """Nothing at all is counted as missing; a total that makes no sense gives way to its parts."""
    meter = make_meter()

    StandInChat(usage=usage).invoke("?", config(MeterCallback(meter, tenant="acme")))

    assert [event.quantity for event in told(meter, transport)] == ([1] if usage else [])
    assert refused(meter) == (0 if usage else 1)


def test_an_answer_from_the_cache_says_so(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """It has the usage of the answer that was kept, and a mark to leave it out by."""
    meter = make_meter()
    model, how = StandInChat(cache=InMemoryCache()), config(MeterCallback(meter, tenant="acme"))

    model.invoke("?", how)
    model.invoke("?", how)

    fresh, cached = told(meter, transport)
    assert fresh == PLAIN
    assert cached.attributes["cache_hit"] == "true"


def test_answers_of_unknown_shapes_do_not_reach_the_host(make_meter: MakeMeter) -> None:
    """What cannot be read is counted, even with a strict meter; unknown runs are ignored."""
    meter = make_meter(strict=True)
    callback = MeterCallback(meter, tenant="acme")
    shape: Any = object()
    run: UUID = shape

    callback.on_llm_start({}, ["?"], run_id=run)
    callback.on_llm_end(shape, run_id=run)
    callback.on_llm_end(shape, run_id=run)
    callback.on_llm_error(ValueError(), run_id=run)

    assert refused(meter) == 2  # Not readable, and so without usage.


def test_runs_that_never_end_are_bounded(
    make_meter: MakeMeter, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest counts as stopped."""
    monkeypatch.setattr(langchain, "RUNS_MAX", 2)
    meter = make_meter()
    callback = MeterCallback(meter, tenant="acme", on_missing="record_zero")
    runs: list[Any] = [1, 2, 3]

    for run in runs:
        callback.on_llm_start({}, ["?"], run_id=run)

    [event] = told(meter, transport)
    assert event.attributes["status"] == "stopped"
