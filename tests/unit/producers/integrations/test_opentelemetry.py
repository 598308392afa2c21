"""Real OpenTelemetry spans, written by hand and by the anthropic package: what they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry import baggage
from opentelemetry import context as telemetry
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode

from meterstream.integrations import opentelemetry
from meterstream.integrations.opentelemetry import KeepForMetering, MeterSpanProcessor
from tests.unit.producers.integrations.anthropic_answers import COUNTED as ANTHROPIC
from tests.unit.producers.integrations.anthropic_answers import MESSAGES, Server
from tests.unit.producers.integrations.llm import Told, refused, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

ASKED: Final[dict[str, Any]] = {
    names.GEN_AI_OPERATION_NAME: "chat",
    names.GEN_AI_PROVIDER_NAME: "openai",
    names.GEN_AI_REQUEST_MODEL: "gpt-4o",
}
CALL: Final[dict[str, Any]] = {
    **ASKED,
    names.GEN_AI_RESPONSE_MODEL: "gpt-4o-2024-08-06",
    names.GEN_AI_USAGE_INPUT_TOKENS: 100,
    names.GEN_AI_USAGE_OUTPUT_TOKENS: 20,
    names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 64,
    names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 8,
    names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 12,
}
COUNTED: Final = {
    "provider": "openai",
    "operation": "chat",
    "requested_model": "gpt-4o",
    "model": "gpt-4o-2024-08-06",
    "input_tokens": "100",
    "output_tokens": "20",
    "cached_tokens": "64",
    "cache_write_tokens": "8",
    "reasoning_tokens": "12",
    "status": "ok",
    "streamed": "false",
}
PLAIN: Final = Told("acme", "llm.tokens", 120, COUNTED)


class Tracing:
    """Tracer providers, shut down when the test ends."""

    def __init__(self) -> None:
        self.providers: list[TracerProvider] = []

    def provider(self, *processors: SpanProcessor, **settings: Any) -> TracerProvider:  # noqa: ANN401
        """A provider of its own, with these processors."""
        # The settings are the provider's own.
        provider = TracerProvider(**settings)
        for processor in processors:
            provider.add_span_processor(processor)
        self.providers.append(provider)
        return provider

    def tracer(self, *processors: SpanProcessor, **settings: Any) -> Tracer:  # noqa: ANN401 - above
        """A tracer of such a provider."""
        return self.provider(*processors, **settings).get_tracer("tests")


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    """Tracing that is shut down when the test ends."""
    made = Tracing()
    yield made
    for provider in made.providers:
        provider.shutdown()


def test_a_span_of_a_model_call_is_one_event(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """Its attributes may come at its start or at any time until its end; others are no calls."""
    meter = make_meter()
    tracer = tracing.tracer(MeterSpanProcessor(meter, tenant="acme"))

    with tracer.start_as_current_span("chat gpt-4o", attributes=CALL):
        pass
    with tracer.start_as_current_span("chat gpt-4o") as span:
        span.set_attributes(CALL)
    with tracer.start_as_current_span("GET /"):
        pass

    assert told(meter, transport) == [PLAIN, PLAIN]
    assert refused(meter) == 0


def test_older_names_are_understood(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """Instrumentation of older conventions names no operation, and usage otherwise."""
    meter = make_meter()
    tracer = tracing.tracer(MeterSpanProcessor(meter, tenant="acme"))
    older: dict[str, Any] = {
        names.GEN_AI_SYSTEM: "openai",
        names.GEN_AI_REQUEST_MODEL: "gpt-4",
        names.GEN_AI_USAGE_PROMPT_TOKENS: 7,
        names.GEN_AI_USAGE_COMPLETION_TOKENS: 3,
        "llm.usage.total_tokens": 10,
        "llm.request.type": "completion",
    }

    tracer.start_span("openai.completion", attributes=older).end()

    [event] = told(meter, transport)
    assert event.quantity == 10
    assert event.attributes["provider"] == "openai"
    assert event.attributes["operation"] == "completion"
    assert event.attributes["model"] == "gpt-4"


def test_the_tenant_is_found_on_the_span_in_baggage_or_around_it(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """As each was where the span began, wherever it ends."""
    meter = make_meter()
    tracer = tracing.tracer(MeterSpanProcessor(meter))

    tracer.start_span("chat", attributes={**CALL, "tenant": "on the span"}).end()
    token = telemetry.attach(baggage.set_baggage("tenant", "in baggage"))
    carried = tracer.start_span("chat", attributes=CALL)
    telemetry.detach(token)
    carried.end()
    with meter.context(tenant="around it", attributes={"feature": "chat"}):
        surrounded = tracer.start_span("chat", attributes=CALL)
    surrounded.end()
    tracer.start_span("chat", attributes=CALL).end()

    events = told(meter, transport)
    assert {event.tenant for event in events} == {"on the span", "in baggage", "around it"}
    assert [event.attributes["feature"] for event in events if event.tenant == "around it"] == [
        "chat"
    ]
    assert refused(meter) == 1  # The last had no tenant.


def test_the_tenant_and_attributes_may_be_functions_of_the_span(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """Such as of an attribute of the host's own, or of the resource."""
    meter = make_meter()
    processor = MeterSpanProcessor(
        meter,
        tenant=lambda span: str((span.attributes or {})["enduser.id"]),
        attributes=lambda span: {"span": span.name},
        type="ai.usage",
    )

    tracer = tracing.tracer(processor)
    tracer.start_span("chat", attributes={**CALL, "enduser.id": "acme"}).end()
    tracer.start_span("chat", attributes=CALL).end()

    [event] = told(meter, transport)
    assert (event.tenant, event.type, event.attributes["span"]) == ("acme", "ai.usage", "chat")
    assert refused(meter) == 1


def test_spans_around_calls_are_not_counted_again(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """Agents sum up their calls, frameworks repeat a client's; a tool's calls are its own."""
    meter = make_meter()
    tracer = tracing.tracer(MeterSpanProcessor(meter, tenant="acme"))
    open_span = tracer.start_as_current_span
    agent = {**CALL, names.GEN_AI_OPERATION_NAME: "invoke_agent"}
    tool = {names.GEN_AI_OPERATION_NAME: "execute_tool"}
    embedding: dict[str, Any] = {
        names.GEN_AI_OPERATION_NAME: "embeddings",
        names.GEN_AI_USAGE_INPUT_TOKENS: 5,
    }

    with open_span("agent", attributes=agent):
        with (
            open_span("framework's chat", attributes=CALL),
            open_span("retry"),
            open_span("client's chat", attributes=CALL),
        ):
            pass
        with open_span("chat", attributes=CALL):
            with open_span("embedding for it", attributes=embedding):
                pass
            with open_span("tool", attributes=tool), open_span("its chat", attributes=CALL):
                pass

    quantities = sorted(event.quantity for event in told(meter, transport))
    assert quantities == [5, 120, 120, 120]


def test_a_failed_call_is_charged_on_request_only(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """With the usage that its span has, if any; the host's exception passes."""
    meter = make_meter()
    for tenant, charged in (("acme", False), ("umbrella", True)):
        tracer = tracing.tracer(MeterSpanProcessor(meter, tenant=tenant, charge_failures=charged))
        with (
            pytest.raises(ConnectionError, match="away"),
            tracer.start_as_current_span("chat", attributes=ASKED),
        ):
            raise ConnectionError("away")
        late = tracer.start_span("chat", attributes=CALL)
        late.set_status(StatusCode.ERROR)
        late.end()

    events = told(meter, transport)
    assert [(event.tenant, event.quantity) for event in events] == [
        ("umbrella", 0),
        ("umbrella", 120),
    ]
    assert {event.attributes["status"] for event in events} == {"error"}
    assert refused(meter) == 0


@pytest.mark.parametrize("wrong", ["100", -1, 1.5, True])
def test_usage_that_cannot_be_understood_is_told_and_not_guessed(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing, wrong: object
) -> None:
    """Counted as refused, or recorded as 0 tokens."""
    meter = make_meter()
    usage: dict[str, Any] = {**CALL, names.GEN_AI_USAGE_INPUT_TOKENS: wrong}

    tracing.tracer(MeterSpanProcessor(meter, tenant="acme")).start_span("x", attributes=usage).end()
    assert refused(meter) == 1
    zero = MeterSpanProcessor(meter, tenant="acme", on_missing="record_zero")
    tracing.tracer(zero).start_span("x", attributes=usage).end()

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["usage"]) == (0, "missing")


def test_spans_that_are_not_sampled_can_be_counted(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """A dropped span reaches nobody; around its sampler, it is counted and still not exported."""
    meter, exporter = make_meter(), InMemorySpanExporter()
    processors = (MeterSpanProcessor(meter, tenant="acme"), SimpleSpanProcessor(exporter))
    kept = KeepForMetering(ALWAYS_OFF)

    tracing.tracer(*processors, sampler=ALWAYS_OFF).start_span("dropped", attributes=CALL).end()
    assert told(meter, transport) == []
    tracing.tracer(*processors, sampler=kept).start_span("kept", attributes=CALL).end()
    assert exporter.get_finished_spans() == ()
    tracing.tracer(*processors, sampler=KeepForMetering(ALWAYS_ON)).start_span(
        "sampled", attributes=CALL
    ).end()

    assert told(meter, transport) == [PLAIN, PLAIN]
    assert [span.name for span in exporter.get_finished_spans()] == ["sampled"]
    assert kept.get_description() == "KeepForMetering{AlwaysOffSampler}"


def test_spans_that_a_package_makes_itself_are_counted(
    make_meter: MakeMeter, transport: MemoryTransport, tracing: Tracing
) -> None:
    """The anthropic package's own, of a plain call and of a stream."""
    meter = make_meter()
    provider = tracing.provider(MeterSpanProcessor(meter, tenant="acme"))
    client = Server().client(open_telemetry={"tracer_provider": provider})
    asked: Any = {"model": "claude-stand-in", "max_tokens": 50, "messages": MESSAGES}

    client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        stream.until_done()

    assert told(meter, transport) == [
        Told("acme", "llm.tokens", 120, ANTHROPIC),
        Told("acme", "llm.tokens", 120, {**ANTHROPIC, "streamed": "true"}),
    ]


def test_spans_under_way_are_bounded(
    make_meter: MakeMeter, tracing: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that never end are forgotten, the oldest first."""
    monkeypatch.setattr(opentelemetry, "REMEMBERED_MAX", 3)
    processor = MeterSpanProcessor(make_meter(), tenant="acme")
    tracer = tracing.tracer(processor)

    spans = [tracer.start_span("chat", attributes=CALL) for _ in range(10)]

    assert len(processor._begun) == 3
    for span in spans:
        span.end()
    assert len(processor._begun) == 0


def test_nothing_reaches_the_host(make_meter: MakeMeter) -> None:
    """Not even of things that are no spans, or with a strict meter; they are counted."""
    meter = make_meter(strict=True)
    processor = MeterSpanProcessor(meter)
    no_span: Any = NonRecordingSpan(SpanContext(1, 2, is_remote=False))

    processor.on_start(no_span)
    processor.on_end(no_span)
    processor.on_end(object())  # type: ignore[arg-type]  # on purpose

    assert refused(meter) == 3
    assert processor.force_flush()
