"""Meters the calls of an ``anthropic`` client: messages, streams of them, their beta forms.

``wrap`` changes the one client it is given, for good or until ``unwrap``, and returns it. What a
call becomes is written in `meterstream.integrations.tokens`; how calls are seen, in
`meterstream.integrations.http_clients`. Clients of Bedrock, Vertex and Foundry are metered with
provider ``bedrock``, ``vertex_ai`` and ``azure``.

Anthropic tells input without what was read from its cache or written to it; ``input_tokens`` of the
event has all three, as with the other providers. A stream tells the input at its start and the
output at its end, so one that the host leaves is recorded with what had been told: status
``stopped``. Batches and counting tokens are not metered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterstream.integrations import http_clients
from meterstream.integrations.http_clients import Body, Dialect
from meterstream.integrations.tokens import TYPE, Calls, Usage, count, find, text

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic

    from meterstream import Meter
    from meterstream.integrations.tokens import Attributes, Call, OnMissing, Tenant

Client = TypeVar("Client", bound="Anthropic | AsyncAnthropic")

_OPERATIONS: Final = {"/v1/messages": "chat"}
_PROVIDERS: Final = {"Bedrock": "bedrock", "Vertex": "vertex_ai", "Foundry": "azure"}
"""Whose models a client uses, by a part of its class's name."""


def wrap(
    client: Client,
    meter: Meter,
    *,
    tenant: Tenant[Body] = None,
    type: str = TYPE,  # noqa: A002 - the event's own field
    attributes: Attributes[Body] = None,
    charge_failures: bool = False,
    on_missing: OnMissing = "skip",
    provider: str | None = None,
) -> Client:
    """Meter every call of ``client`` and of the copies made of it later; returns ``client``.

    ``tenant`` and ``attributes`` may be functions of the request's parameters. A further call
    replaces what the first one said. Raises `SettingsError` for a wrong client or ``on_missing``.
    """
    calls = Calls(
        meter,
        tenant=tenant,
        type=type,
        attributes=attributes,
        charge_failures=charge_failures,
        on_missing=on_missing,
    )
    if provider is None:
        name = client.__class__.__name__
        provider = next((_PROVIDERS[part] for part in _PROVIDERS if part in name), "anthropic")
    http_clients.install(client, calls, Dialect(provider, _OPERATIONS, _answer, _item, _no_options))
    return client


def unwrap(client: Client) -> Client:
    """Leave ``client`` as it was before ``wrap``; no harm where it never was."""
    http_clients.remove(client)
    return client


def _no_options(operation: str, body: Body) -> Body | None:  # noqa: ARG001 - as the dialect asks
    return None


def _answer(call: Call, body: Body, answer: Any) -> None:  # noqa: ANN401, ARG001 - model or JSON
    call.model = text(answer, "model") or call.model
    call.usage = _usage(find(answer, "usage"), None)


def _item(call: Call, item: Any, asked: bool) -> bool:  # noqa: ANN401, ARG001 - an event
    kind = text(item, "type")
    if kind == "message_start":
        _answer(call, {}, find(item, "message"))
    elif kind == "message_delta":  # Its numbers are those from the start until now.
        call.usage = _usage(find(item, "usage"), call.usage)
        call.complete = text(item, "delta", "stop_reason") is not None
    return False


def _usage(usage: object, before: Usage | None) -> Usage | None:
    """What is told now; what is not told stays as it was before."""
    if usage is None:
        return before
    before = before or Usage()
    read = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    fresh = count(usage, "input_tokens")
    output = count(usage, "output_tokens")
    reasoning = count(usage, "output_tokens_details", "thinking_tokens")
    cached = before.cached_tokens if read is None else read
    cache_write = before.cache_write_tokens if written is None else written
    if fresh is None and before.input_tokens is not None:
        fresh = before.input_tokens - (before.cached_tokens or 0) - (before.cache_write_tokens or 0)
    return Usage(
        input_tokens=None if fresh is None else fresh + (cached or 0) + (cache_write or 0),
        output_tokens=before.output_tokens if output is None else output,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        reasoning_tokens=before.reasoning_tokens if reasoning is None else reasoning,
    )
