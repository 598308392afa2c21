"""Meters the calls of an ``openai`` client: chat, responses, embeddings, images, audio.

``wrap`` changes the one client it is given, for good or until ``unwrap``, and returns it. What a
call becomes is written in `meterstream.integrations.tokens`; how calls are seen, in
`meterstream.integrations.http_clients`. Clients of Azure are metered with provider ``azure``.

A stream of chat tells its usage only when asked to. Where the host asked neither way, ``wrap`` asks
(``stream_options.include_usage``) and keeps the one further chunk from the host, which has no
choices and which the host does not expect. ``ask_usage=False`` is for servers that refuse the
parameter; their streams then count as calls without usage. So does a stream that the host leaves
before its end: its usage would have come last.

Not metered: websockets (``realtime``, ``responses.connect``), batches, and answers that are fetched
later (``background=True`` tells no usage, which is counted as missing).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterstream.integrations import http_clients
from meterstream.integrations.http_clients import Body, Dialect
from meterstream.integrations.tokens import TYPE, Calls, find, text, usage_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from meterstream import Meter
    from meterstream.integrations.tokens import Attributes, Call, OnMissing, Tenant

Client = TypeVar("Client", bound="OpenAI | AsyncOpenAI")

_OPERATIONS: Final = {
    "/chat/completions": "chat",
    "/responses": "chat",
    "/responses/compact": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/images/generations": "image",
    "/images/edits": "image",
    "/images/variations": "image",
    "/audio/transcriptions": "audio",
    "/audio/translations": "audio",
    "/audio/speech": "audio",
}
_WITH_STREAM_OPTIONS: Final = ("chat", "text_completion")
_LAST_EVENTS: Final = ("response.completed", "response.incomplete", "response.failed")


def wrap(
    client: Client,
    meter: Meter,
    *,
    tenant: Tenant[Body] = None,
    type: str = TYPE,  # noqa: A002 - the event's own field
    attributes: Attributes[Body] = None,
    charge_failures: bool = False,
    on_missing: OnMissing = "skip",
    ask_usage: bool = True,
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
        provider = "azure" if "Azure" in client.__class__.__name__ else "openai"
    usage_options = _usage_options if ask_usage else _no_usage_options
    http_clients.install(
        client, calls, Dialect(provider, _OPERATIONS, _answer, _item, usage_options)
    )
    return client


def unwrap(client: Client) -> Client:
    """Leave ``client`` as it was before ``wrap``; no harm where it never was."""
    http_clients.remove(client)
    return client


def _usage_options(operation: str, body: Body) -> Body | None:
    said = body.get("stream_options")
    if operation not in _WITH_STREAM_OPTIONS or body.get("stream") is not True:
        return None
    if not isinstance(said, dict):
        return None if said is not None else {"stream_options": {"include_usage": True}}
    return None if "include_usage" in said else {"stream_options": {**said, "include_usage": True}}


def _no_usage_options(operation: str, body: Body) -> Body | None:  # noqa: ARG001 - as the other
    return None


def _answer(call: Call, body: Body, answer: Any) -> None:  # noqa: ANN401 - a model, or plain JSON
    call.model = text(answer, "model") or call.model
    call.fallen = text(answer, "status") == "failed"
    call.usage = usage_of(find(answer, "usage"))
    images, seconds = find(answer, "data"), find(answer, "usage", "seconds")
    if call.extra["operation"] == "image" and isinstance(images, list):
        call.extra["images"] = str(len(images))
    elif call.extra["operation"] == "audio" and isinstance(body.get("input"), str):
        call.extra["characters"] = str(len(body["input"]))
    elif isinstance(seconds, int | float):
        call.extra["seconds"] = str(Decimal(str(seconds)))


def _item(call: Call, item: Any, asked: bool) -> bool:  # noqa: ANN401 - an event
    kind = text(item, "type")
    if kind in _LAST_EVENTS:  # Of a response.
        item = find(item, "response")
        call.complete, call.fallen = True, kind == "response.failed"
    usage = usage_of(find(item, "usage"))
    call.model = text(item, "model") or call.model
    if usage is None:
        return False
    call.usage = usage
    choices = find(item, "choices")
    if choices or choices is None:  # Some servers tell it with every chunk, up to that chunk.
        return False
    call.complete = True
    return asked
