"""Meters model calls from the GenAI spans that instrumented code ends, by a span processor.

``provider.add_span_processor(MeterSpanProcessor(meter))``. A span with usage by the semantic
conventions (``gen_ai.usage.*``, older names too) is one event as `meterstream.integrations.tokens`
says. Spans of agents and tools repeat the usage of the calls inside them, and so do the spans of a
framework around those of a client: the former are never counted, the latter not where a span of
their kind inside them was.

The tenant is an attribute of the span, or baggage, by the name ``tenant_key``; or a function of the
span; or the ambient context in which the span began.

A span that a sampler drops reaches no processor, so nothing is counted of it. `KeepForMetering`
around the sampler keeps such spans for processors, and still exports none of them.

Whoever wraps a client or hands in a callback besides counts each call twice: one hook for a call.
The anthropic package makes such spans itself as soon as a tracer provider is set.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from meterstream.extras import needs
from meterstream.integrations.tokens import TYPE, Calls, Usage, count, text

with needs("opentelemetry", __name__):
    from opentelemetry import baggage
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
    from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context as TelemetryContext
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes as SpanAttributes

    from meterstream import Meter
    from meterstream.integrations.tokens import Attributes, OnMissing

REMEMBERED_MAX: Final = 10_000
"""Spans under way, and spans around those counted, that are remembered; the oldest go first."""
TENANT_KEY: Final = "tenant"

_OPERATIONS: Final = ("chat", "text_completion", "embeddings", "generate_content")
_AROUND: Final = ("invoke_agent", "create_agent", "execute_tool", "invoke_workflow")
_ANY_USAGE: Final = ("gen_ai.usage.", "llm.usage.")

_SpanKey = tuple[int, int]


class MeterSpanProcessor(SpanProcessor):
    """Records each span of a model call that ends. Safe from any thread; never waits.

    ``tenant`` and ``attributes`` may be functions of the ended span. Raises `SettingsError` for an
    ``on_missing`` that is none. The meter remains the host's to flush and close.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        tenant: str | Callable[[ReadableSpan], str | None] | None = None,
        tenant_key: str = TENANT_KEY,
        type: str = TYPE,  # noqa: A002 - the event's own field
        attributes: Attributes[ReadableSpan] = None,
        charge_failures: bool = False,
        on_missing: OnMissing = "skip",
    ) -> None:
        self._calls: Final = Calls(
            meter,
            tenant=self._find_tenant if tenant is None else tenant,
            type=type,
            attributes=attributes,
            charge_failures=charge_failures,
            on_missing=on_missing,
        )
        self._tenant_key: Final = tenant_key
        self._begun: Final[dict[_SpanKey, tuple[Context, str | None]]] = {}
        self._around: Final[dict[_SpanKey, frozenset[str]]] = {}

    def on_start(self, span: Span, parent_context: TelemetryContext | None = None) -> None:
        """What holds where a model call begins is what it is recorded with."""
        try:
            key = _key(span)
            if key is not None and _is_model_call(span.attributes or {}):
                carried = baggage.get_baggage(self._tenant_key, parent_context)
                tenant = carried if isinstance(carried, str) else None
                _remember(self._begun, key, (copy_context(), tenant))
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._calls.refused(problem)

    def on_end(self, span: ReadableSpan) -> None:
        """Record the call, unless one inside it was."""
        key = None
        try:
            key, told = _key(span), span.attributes or {}
            if key is None:
                return
            inside = self._around.pop(key, frozenset())
            operation = text(told, "gen_ai.operation.name")
            if operation in _AROUND:
                return
            is_call, kind = _is_model_call(told), _kind(operation)
            counts = is_call and kind not in inside
            known = inside | {kind} if is_call else inside
            parent = span.parent
            if known and parent is not None and not parent.is_remote:
                outer = (parent.trace_id, parent.span_id)
                _remember(self._around, outer, self._around.get(outer, frozenset()) | known)
            if counts:
                begun = self._begun.get(key)
                context = copy_context() if begun is None else begun[0]
                context.run(self._record, span, told)
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._calls.refused(problem)
        finally:
            if key is not None:
                self._begun.pop(key, None)

    def _record(self, span: ReadableSpan, told: Mapping[str, Any]) -> None:
        call = self._calls.begin(
            span,
            provider=_first_text(told, "gen_ai.provider.name", "gen_ai.system") or "unknown",
            operation=text(told, "gen_ai.operation.name")
            or text(told, "llm.request.type")
            or "chat",
            model=text(told, "gen_ai.request.model"),
            streamed=told.get("gen_ai.request.stream") is True,
        )
        call.model = text(told, "gen_ai.response.model") or call.model
        call.usage = _usage(told)
        call.fallen = span.status.status_code is StatusCode.ERROR
        call.answered()

    def _find_tenant(self, span: ReadableSpan) -> str | None:
        own = text(span.attributes or {}, self._tenant_key)
        if own is not None:
            return own
        key = _key(span)
        begun = None if key is None else self._begun.get(key)
        if begun is not None:
            return begun[1]
        carried = baggage.get_baggage(self._tenant_key)
        return carried if isinstance(carried, str) else None


class KeepForMetering(Sampler):
    """Decides as the sampler it is given, but where that drops a span, it is kept from exporters.

    Processors see it then: `MeterSpanProcessor` counts it, exporting processors pass it over.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler: Final = sampler

    def should_sample(  # noqa: PLR0917 - as it is called
        self,
        parent_context: TelemetryContext | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: SpanAttributes | None = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See `opentelemetry.sdk.trace.sampling.Sampler`."""
        result = self._sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        if result.decision is not Decision.DROP:
            return result
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        """See `opentelemetry.sdk.trace.sampling.Sampler`."""
        return f"KeepForMetering{{{self._sampler.get_description()}}}"


def _key(span: Any) -> _SpanKey | None:  # noqa: ANN401 - a span, under way or ended
    context = span.get_span_context()
    return None if context is None else (context.trace_id, context.span_id)


def _is_model_call(told: Mapping[str, Any]) -> bool:
    """Whether a span is a call by its operation, or by usage where it names no operation."""
    operation = told.get("gen_ai.operation.name")
    if operation is not None:
        return operation in _OPERATIONS
    return any(name.startswith(_ANY_USAGE) for name in told)


def _kind(operation: str | None) -> str:
    return "embeddings" if operation == "embeddings" else "generation"


def _usage(told: Mapping[str, Any]) -> Usage:
    used = "gen_ai.usage."
    return Usage(
        input_tokens=_first_count(told, used + "input_tokens", used + "prompt_tokens"),
        output_tokens=_first_count(told, used + "output_tokens", used + "completion_tokens"),
        total_tokens=_first_count(told, used + "total_tokens", "llm.usage.total_tokens"),
        cached_tokens=_first_count(
            told, used + "cache_read.input_tokens", used + "cache_read_input_tokens"
        ),
        cache_write_tokens=_first_count(
            told,
            used + "cache_creation.input_tokens",
            used + "cache_write.input_tokens",
            used + "cache_creation_input_tokens",
        ),
        reasoning_tokens=_first_count(
            told, used + "reasoning.output_tokens", used + "reasoning_tokens"
        ),
    )


def _first_count(told: Mapping[str, Any], *names: str) -> int | None:
    return next((value for name in names if (value := count(told, name)) is not None), None)


def _first_text(told: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if (value := text(told, name)) is not None), None)


def _remember(memory: dict[_SpanKey, Any], key: _SpanKey, value: object) -> None:
    if len(memory) >= REMEMBERED_MAX:
        with suppress(KeyError, RuntimeError, StopIteration):  # Other threads may do the same.
            del memory[next(iter(memory))]
    memory[key] = value
