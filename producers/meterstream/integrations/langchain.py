"""Meters the model calls of LangChain, whichever provider a chain speaks to, by a callback.

``chain.invoke(question, config={"callbacks": [MeterCallback(meter, tenant="acme")]})``, or in the
constructor of a model. Each call of a model is one event as `meterstream.integrations.tokens` says:
usage from ``AIMessage.usage_metadata``, or else from ``llm_output["token_usage"]``; provider and
model from what LangChain tells of the model. The tenant may also be in the run's metadata, as
``config={"metadata": {"tenant": "acme"}}``.

A run is recorded once, however often the callback was handed in. An answer from LangChain's own
cache has the attribute ``cache_hit: true``, and the usage of the answer that was kept. Streams need
usage in their chunks: with ``ChatOpenAI`` that is ``stream_usage=True``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from meterstream.extras import needs
from meterstream.integrations.tokens import TYPE, Calls, Usage, count, find, text, usage_of

with needs("langchain", __name__):
    from langchain_core.callbacks import BaseCallbackHandler

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

    from meterstream import Meter
    from meterstream.integrations.tokens import Attributes, Call, OnMissing, Tenant

Metadata: TypeAlias = "Mapping[str, Any]"
"""A run's metadata, with LangChain's own ``ls_`` names among them."""

RUNS_MAX: Final = 10_000
"""Runs under way that are remembered; beyond it the oldest count as stopped."""


class MeterCallback(BaseCallbackHandler):
    """Records each model call of the runs that it is handed to. For plain and async runs alike.

    ``tenant`` and ``attributes`` may be functions of the run's metadata. Safe from any thread; one
    serves a whole process. Raises `SettingsError` for an ``on_missing`` that is none.
    """

    run_inline = True  # It never waits, so it needs no thread of its own in an event loop.

    def __init__(
        self,
        meter: Meter,
        *,
        tenant: Tenant[Metadata] = None,
        type: str = TYPE,  # noqa: A002 - the event's own field
        attributes: Attributes[Metadata] = None,
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
        self._runs: Final[dict[UUID, Call]] = {}

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],  # noqa: ARG002 - never looked at
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - LangChain's own
    ) -> None:
        """A chat model is asked."""
        self._begin("chat", serialized, run_id, metadata, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],  # noqa: ARG002 - never looked at
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - LangChain's own
    ) -> None:
        """A completion model is asked."""
        self._begin("text_completion", serialized, run_id, metadata, kwargs)

    def on_llm_new_token(
        self,
        token: object,  # noqa: ARG002 - never looked at
        *,
        run_id: UUID,
        **kwargs: Any,  # noqa: ANN401, ARG002 - LangChain's own
    ) -> None:
        """It answers bit by bit."""
        self._streams(run_id)

    def on_stream_event(
        self,
        event: object,  # noqa: ARG002 - never looked at
        *,
        run_id: UUID,
        **kwargs: Any,  # noqa: ANN401, ARG002 - LangChain's own
    ) -> None:
        """It answers bit by bit, to a host that asked for typed events."""
        self._streams(run_id)

    def on_llm_end(
        self,
        response: LLMResult,
        *,
        run_id: UUID,
        **kwargs: Any,  # noqa: ANN401, ARG002 - LangChain's own
    ) -> None:
        """It answered."""
        call = self._runs.pop(run_id, None)
        if call is None:
            return
        self._learn(call, response)
        call.answered()

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        **kwargs: Any,  # noqa: ANN401 - LangChain's own
    ) -> None:
        """It failed, or its host left the stream."""
        call = self._runs.pop(run_id, None)
        if call is None:
            return
        if kwargs.get("response") is not None:
            self._learn(call, kwargs["response"])
        if isinstance(error, Exception):
            call.failed()
        else:
            call.stopped()  # Cancelled, closed or interrupted.

    def _begin(
        self,
        operation: str,
        serialized: object,
        run_id: UUID,
        metadata: dict[str, Any] | None,
        kwargs: Mapping[str, object],
    ) -> None:
        try:
            known = metadata or {}
            call = self._calls.begin(
                known,
                provider=text(known, "ls_provider") or "langchain",
                operation=operation,
                model=text(known, "ls_model_name")
                or text(kwargs, "invocation_params", "model")
                or text(serialized, "kwargs", "model_name"),
            )
            if len(self._runs) >= RUNS_MAX:
                with suppress(KeyError, RuntimeError, StopIteration):  # Others may do the same.
                    self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = call
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._calls.refused(problem)

    def _streams(self, run_id: UUID) -> None:
        call = self._runs.get(run_id)
        if call is not None:
            call.streamed = True

    def _learn(self, call: Call, response: LLMResult) -> None:
        try:
            _learn(call, response)
        except Exception as problem:  # noqa: BLE001 - an answer of an unknown shape
            call.refused(problem)


def tenant_of_metadata(metadata: Metadata) -> str | None:
    """The tenant that a run's metadata name; None leaves it to the ambient context."""
    return text(metadata, "tenant")


def _learn(call: Call, response: LLMResult) -> None:
    """The first generation tells the usage of all; each of several repeats it."""
    message = None
    if response.generations and response.generations[0]:
        message = getattr(response.generations[0][0], "message", None)
    output = response.llm_output
    call.model = (
        text(message, "response_metadata", "model_name")
        or text(message, "response_metadata", "model")
        or text(output, "model_name")
        or call.model
    )
    usage = find(message, "usage_metadata")
    if usage:
        call.usage = Usage(
            input_tokens=count(usage, "input_tokens"),
            output_tokens=count(usage, "output_tokens"),
            total_tokens=count(usage, "total_tokens"),
            cached_tokens=count(usage, "input_token_details", "cache_read"),
            cache_write_tokens=count(usage, "input_token_details", "cache_creation"),
            reasoning_tokens=count(usage, "output_token_details", "reasoning"),
        )
        if find(usage, "total_cost") == 0:  # Written by LangChain where it answers from its cache.
            call.extra["cache_hit"] = "true"
        return
    usage = find(output, "token_usage")
    if usage == {} and call.extra["operation"] == "text_completion":
        call.abandon()  # So LangChain marks all but the first of several prompts, which has it all.
    else:
        call.usage = usage_of(usage)
