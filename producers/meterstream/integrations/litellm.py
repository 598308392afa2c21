"""Meters the calls of LiteLLM, whichever provider they go to, by a custom logger.

``litellm.callbacks.append(MeterLogger(meter))``. Each call that ends well is one event as
`meterstream.integrations.tokens` says, with one attribute more: ``cost``, the US dollars that
LiteLLM computes, as decimal text of at most 18 places. A stream is recorded when it is complete;
of one that the host leaves, LiteLLM tells nothing.

The tenant may be in the call's metadata, ``completion(..., metadata={"tenant": "acme"})``, or in
the ambient context of the call. An answer from LiteLLM's cache has ``cache_hit: true``. Where a
provider tells no usage, LiteLLM counts tokens itself and does not say so; what it tells is taken.

LiteLLM logs from threads and tasks of its own, after the host has its answer: a process that ends
at once may lose its last calls before they reach the meter.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import Context, copy_context
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from meterstream.extras import needs
from meterstream.integrations.tokens import TYPE, Calls, find, text, usage_of

with needs("litellm", __name__):
    from litellm.integrations.custom_logger import CustomLogger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meterstream import Meter
    from meterstream.integrations.tokens import Attributes, Call, OnMissing, Tenant

Details: TypeAlias = "Mapping[str, Any]"
"""What LiteLLM knows of a call, as it hands it to loggers."""

REMEMBERED_MAX: Final = 10_000
"""Calls under way, and calls recorded, that are remembered; the oldest are forgotten first."""
_COST_STEP: Final = Decimal(1).scaleb(-18)
_OPERATIONS: Final = {
    "completion": "chat",
    "responses": "chat",
    "anthropic_messages": "chat",
    "text_completion": "text_completion",
    "embedding": "embeddings",
    "image_generation": "image",
    "image_edit": "image",
    "transcription": "audio",
    "speech": "audio",
}
_WITH_TOKENS: Final = ("chat", "text_completion", "embeddings")


class MeterLogger(CustomLogger):
    """Records each call of LiteLLM in this process. Belongs in ``litellm.callbacks``, once.

    LiteLLM takes a second one for the first, whatever its meter or tenant, and leaves it out.

    ``tenant`` and ``attributes`` may be functions of the details that LiteLLM gives to loggers.
    Raises `SettingsError` for an ``on_missing`` that is none.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        tenant: Tenant[Details] = None,
        type: str = TYPE,  # noqa: A002 - the event's own field
        attributes: Attributes[Details] = None,
        charge_failures: bool = False,
        on_missing: OnMissing = "skip",
    ) -> None:
        super().__init__()
        self._calls: Final = Calls(
            meter,
            tenant=tenant_of_metadata if tenant is None else tenant,
            type=type,
            attributes=attributes,
            charge_failures=charge_failures,
            on_missing=on_missing,
        )
        self._contexts: Final[dict[object, Context]] = {}
        self._recorded: Final[dict[object, None]] = {}

    def log_pre_api_call(
        self,
        model: object,  # noqa: ARG002 - LiteLLM's own
        messages: object,  # noqa: ARG002 - LiteLLM's own
        kwargs: Details,
    ) -> None:
        """The call is made: what holds here is what it is recorded with."""
        with suppress(Exception):
            _remember(self._contexts, kwargs.get("litellm_call_id"), copy_context())

    def log_success_event(
        self,
        kwargs: Details,
        response_obj: object,
        start_time: object,  # noqa: ARG002 - LiteLLM's own
        end_time: object,  # noqa: ARG002 - LiteLLM's own
    ) -> None:
        """A plain call has ended, or a stream is complete."""
        self._in_context(kwargs, lambda: self._success(kwargs, response_obj))

    async def async_log_success_event(
        self,
        kwargs: Details,
        response_obj: object,
        start_time: object,  # noqa: ARG002 - LiteLLM's own
        end_time: object,  # noqa: ARG002 - LiteLLM's own
    ) -> None:
        """The same for a coroutine."""
        self._in_context(kwargs, lambda: self._success(kwargs, response_obj))

    def log_failure_event(
        self,
        kwargs: Details,
        response_obj: object,  # noqa: ARG002 - LiteLLM's own
        start_time: object,  # noqa: ARG002 - LiteLLM's own
        end_time: object,  # noqa: ARG002 - LiteLLM's own
    ) -> None:
        """A call has failed."""
        self._in_context(kwargs, lambda: self._failure(kwargs))

    async def async_log_failure_event(
        self,
        kwargs: Details,
        response_obj: object,  # noqa: ARG002 - LiteLLM's own
        start_time: object,  # noqa: ARG002 - LiteLLM's own
        end_time: object,  # noqa: ARG002 - LiteLLM's own
    ) -> None:
        """The same for a coroutine."""
        self._in_context(kwargs, lambda: self._failure(kwargs))

    def _in_context(self, details: Details, record: Callable[[], None]) -> None:
        try:
            context = self._contexts.pop(details.get("litellm_call_id"), None)
            if context is None:
                record()
            else:
                context.run(record)
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._calls.refused(problem)

    def _success(self, details: Details, answer: object) -> None:
        streamed = details.get("stream") is True
        if streamed and not (
            details.get("complete_streaming_response")
            or details.get("async_complete_streaming_response")
        ):
            return  # A part of it.
        if not self._is_first(details, text(answer, "id")):
            return
        call = self._begin(details, streamed=streamed)
        call.model = text(answer, "model") or call.model
        call.usage = usage_of(find(answer, "usage"))
        call.tokenless = call.tokenless or _operation(details) not in _WITH_TOKENS
        cost = details.get("response_cost")
        if isinstance(cost, int | float):
            call.extra["cost"] = _dollars(cost)
        if details.get("cache_hit") is True:
            call.extra["cache_hit"] = "true"
        call.answered()

    def _failure(self, details: Details) -> None:
        if self._is_first(details, None):
            self._begin(details, streamed=details.get("stream") is True).failed()

    def _begin(self, details: Details, *, streamed: bool) -> Call:
        provider = text(details, "custom_llm_provider") or text(
            details, "litellm_params", "custom_llm_provider"
        )
        return self._calls.begin(
            details,
            provider=provider or "litellm",
            operation=_operation(details),
            model=details.get("model"),
            streamed=streamed,
        )

    def _is_first(self, details: Details, answer_id: str | None) -> bool:
        """Whether this end of a call was not told before, by its other kind of event."""
        told = (details.get("litellm_call_id"), answer_id)
        if told[0] is None:
            return True
        if told in self._recorded:
            return False
        _remember(self._recorded, told, None)
        return True


def tenant_of_metadata(details: Details) -> str | None:
    """The tenant that a call's metadata name; None leaves it to the ambient context."""
    return text(details, "litellm_params", "metadata", "tenant") or text(
        details, "litellm_params", "litellm_metadata", "tenant"
    )


def _operation(details: Details) -> str:
    kind = text(details, "call_type") or "completion"
    plain = kind.removeprefix("a") if kind.removeprefix("a") in _OPERATIONS else kind
    return _OPERATIONS.get(plain, plain)


def _dollars(cost: float) -> str:
    exact = Decimal(str(cost)).quantize(_COST_STEP).normalize()
    return format(exact, "f")


def _remember(memory: dict[object, Any], key: object, value: Context | None) -> None:
    if len(memory) >= REMEMBERED_MAX:
        with suppress(KeyError, RuntimeError, StopIteration):  # Other threads may do the same.
            del memory[next(iter(memory))]
    memory[key] = value
