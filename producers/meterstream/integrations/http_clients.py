"""Calls of one client object are metered where they all pass: in its ``request`` method.

The clients of openai and anthropic are built alike. Each method of each resource ends in the
client's own ``request``, the forms ``with_raw_response`` and ``with_streaming_response`` too; so
one attribute set on the instance sees every call, whatever was made of the client before. The
package, its classes and other clients stay as they are.

A stream stays the object that the package made, of a subclass made for it which watches its items:
so ``isinstance`` holds and a host may go on with all it knows of it. That is why the stand-ins of
`meterstream.streaming` do not serve here; they also cannot hold an item back.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from meterstream.errors import MeterError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meterstream.integrations.tokens import Call, Calls

_HOOKED: Final = ("request", "copy", "with_options")
_MARK: Final = "_meterstream_unwrapped"
_CALL: Final = "_meterstream_call"
_RAW_HEADER: Final = "X-Stainless-Raw-Response"

_CLASSES: Final[dict[type, type]] = {}
"""The subclass made for each class of streams: a handful in a process."""

Body: TypeAlias = "Mapping[str, Any]"
"""The parameters of a request, as they are sent."""


class Dialect(NamedTuple):
    """What differs from one provider's interface to the next.

    ``answer`` and ``item`` learn what an answer, or an item of a stream, tells of the call;
    ``item`` says whether to keep it from the host. ``usage_options`` are the further parameters
    that make a stream tell its usage, None where there is nothing to ask for.
    """

    provider: str
    operations: Mapping[str, str]  # by path
    answer: Callable[[Call, Body, Any], None]
    item: Callable[[Call, Any, bool], bool]
    usage_options: Callable[[str, Body], Body | None]


class _Begun(NamedTuple):
    """A call, and what is needed to understand its answer."""

    call: Call
    dialect: Dialect
    body: Body
    asked: bool
    """Whether the usage in a stream was asked for on our account."""

    def learn(self, answer: object) -> None:
        """What a whole answer tells."""
        try:
            self.dialect.answer(self.call, self.body, answer)
        except Exception as problem:  # noqa: BLE001 - an answer of an unknown shape
            self.call.refused(problem)
        self.call.answered()

    def see(self, item: object) -> bool:
        """What an item of a stream tells; True: it is not for the host."""
        try:
            hidden = self.dialect.item(self.call, item, self.asked)
        except Exception as problem:  # noqa: BLE001 - as above
            self.call.refused(problem)
            return False
        if self.call.complete:  # Now: the host may leave before the stream says that it ends.
            self.call.answered()
        return hidden


def install(client: Any, calls: Calls[Body], dialect: Dialect) -> None:  # noqa: ANN401 - either kind
    """Meter the calls of this client and of its later copies. A further time replaces the first.

    Raises `SettingsError` for what is no such client.
    """
    if not all(callable(getattr(client, name, None)) for name in _HOOKED):
        kind = type(client).__name__
        raise SettingsError(f"client: {kind} has no request method; pass the package's own client")
    remove(client)
    hooks = vars(client)
    hooks[_MARK] = {name: hooks[name] for name in _HOOKED if name in hooks}
    request = client.request
    wrapped = _async_request if inspect.iscoroutinefunction(request) else _request
    for name in ("copy", "with_options"):
        hooks[name] = _copying(getattr(client, name), calls, dialect)
    hooks["request"] = wrapped(request, calls, dialect)


def remove(client: Any) -> None:  # noqa: ANN401 - either kind
    """Leave the client as it was before `install`. Calls under way are still recorded."""
    hooks = vars(client)
    before = hooks.pop(_MARK, None)
    if before is not None:
        for name in _HOOKED:
            hooks.pop(name, None)
        hooks.update(before)


def _copying(
    copy_client: Callable[..., Any], calls: Calls[Body], dialect: Dialect
) -> Callable[..., Any]:
    def copied(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the client's own
        client = copy_client(*args, **kwargs)
        with suppress(Exception):
            install(client, calls, dialect)
        return client

    return copied


def _request(
    request: Callable[..., Any], calls: Calls[Body], dialect: Dialect
) -> Callable[..., Any]:
    def metered(cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # The types are the client's own.
        begun, options = _begin(calls, dialect, options, streamed=bool(kwargs.get("stream")))
        if begun is None:
            return request(cast_to, options, *args, **kwargs)
        try:
            answer = request(cast_to, options, *args, **kwargs)
        except BaseException:
            begun.call.failed()
            raise
        return _attend(begun, answer, streamed=bool(kwargs.get("stream")))

    return metered


def _async_request(
    request: Callable[..., Awaitable[Any]], calls: Calls[Body], dialect: Dialect
) -> Callable[..., Awaitable[Any]]:
    async def metered(cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # The types are the client's own.
        begun, options = _begin(calls, dialect, options, streamed=bool(kwargs.get("stream")))
        if begun is None:
            return await request(cast_to, options, *args, **kwargs)
        try:
            answer = await request(cast_to, options, *args, **kwargs)
        except BaseException:
            begun.call.failed()
            raise
        return _attend(begun, answer, streamed=bool(kwargs.get("stream")))

    return metered


def _begin(
    calls: Calls[Body],
    dialect: Dialect,
    options: Any,  # noqa: ANN401 - the client's own
    *,
    streamed: bool,
) -> tuple[_Begun | None, Any]:
    """The call that a request is, with the options to send; None for what is not metered."""
    try:
        path = "/" + str(options.url).partition("?")[0].strip("/")
        operation = dialect.operations.get(path)
        if operation is None or str(options.method).lower() != "post":
            return None, options
        body = options.json_data if isinstance(options.json_data, Mapping) else {}
        if isinstance(options.extra_json, Mapping):
            body = {**body, **options.extra_json}
        call = calls.begin(
            body,
            provider=dialect.provider,
            operation=operation,
            model=body.get("model"),
            streamed=streamed,
        )
        more = None
        if streamed and _raw_form(options) != "stream":
            more = dialect.usage_options(operation, body)
        if more is not None:
            options = copy.copy(options)
            options.json_data = {**options.json_data, **more}
        return _Begun(call, dialect, body, more is not None), options
    except Exception as problem:  # noqa: BLE001 - a request of an unknown shape is the host's
        calls.refused(problem)
        return None, options


def _raw_form(options: Any) -> object:  # noqa: ANN401 - the client's own
    """How the answer was asked for: None as usual, ``true`` raw, ``stream`` raw and not read."""
    headers = options.headers
    return headers.get(_RAW_HEADER) if isinstance(headers, Mapping) else None


def _attend(begun: _Begun, answer: Any, *, streamed: bool) -> Any:  # noqa: ANN401 - any answer
    """Follow an answer to its end; the same answer for the host."""
    try:
        if hasattr(answer, "http_response"):
            _attend_raw(begun, answer, streamed=streamed)
        elif streamed:
            _attend_stream(begun, answer)
        else:
            begun.learn(answer)
    except Exception as problem:  # noqa: BLE001 - an answer of an unknown kind is the host's
        begun.call.refused(problem)
    return answer


def _attend_raw(begun: _Begun, answer: Any, *, streamed: bool) -> None:  # noqa: ANN401 - as above
    """A raw answer: read already, or read by the host until it closes it, or parsed to a stream."""
    response = answer.http_response
    if streamed:
        _replace(answer, "parse", lambda parsed: _attend(begun, parsed, streamed=True))
    elif response.is_closed:
        begun.learn(_content(response))
    else:
        close = answer.close

        def closed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the answer's own
            try:
                if response.is_stream_consumed:
                    begun.learn(_content(response))
                else:
                    begun.call.stopped()
            except Exception as problem:  # noqa: BLE001 - a response of an unknown kind
                begun.call.refused(problem)
            return close(*args, **kwargs)

        vars(answer)["close"] = closed


def _replace(answer: Any, name: str, attend: Callable[[Any], Any]) -> None:  # noqa: ANN401
    """What the method returns, or its coroutine, goes through ``attend``."""
    method = getattr(answer, name)

    async def later(waiting: Awaitable[Any]) -> Any:  # noqa: ANN401 - the method's own
        return attend(await waiting)

    def replaced(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        result = method(*args, **kwargs)
        return later(result) if inspect.isawaitable(result) else attend(result)

    vars(answer)[name] = replaced


def _content(response: Any) -> object:  # noqa: ANN401 - httpx's, of either name
    """The JSON of a response that was read; None for other content, and where nobody read it."""
    try:
        return json.loads(response.content)
    except Exception:  # noqa: BLE001 - a sound, a text, or not read
        return None


def _attend_stream(begun: _Begun, stream: Any) -> None:  # noqa: ANN401 - the package's own
    if _CALL in vars(stream):
        return  # Parsed a second time.
    kind = type(stream)
    watched = _CLASSES.get(kind)
    if watched is None:
        watched = _CLASSES[kind] = _watched_class(kind)
    vars(stream)[_CALL] = begun
    stream.__class__ = watched


def _watched_class(kind: Any) -> type:  # noqa: ANN401 - a class of streams
    """One base and no slots, so that an instance can change into it."""
    if hasattr(kind, "__anext__"):
        methods = _async_iteration(kind.__anext__)
    elif hasattr(kind, "__next__"):
        methods = _iteration(kind.__next__)
    else:
        raise MeterError(f"{kind.__name__} is no stream that can be watched")
    close = kind.close

    def closed(self: Any) -> Any:  # noqa: ANN401 - plain, or a coroutine
        begun = _begun(self)
        if begun is not None:
            begun.call.stopped()
        return close(self)

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "close": closed, **methods})


def _iteration(advance: Callable[[Any], Any]) -> dict[str, Any]:
    def following(self: Any) -> Any:  # noqa: ANN401 - the stream's own
        begun = _begun(self)
        if begun is None:
            return advance(self)
        try:
            while True:
                item = advance(self)
                if not begun.see(item):
                    return item
        except BaseException as problem:
            _ended(begun, problem)
            raise

    return {"__iter__": _itself, "__next__": following}


def _async_iteration(advance: Callable[[Any], Awaitable[Any]]) -> dict[str, Any]:
    async def following(self: Any) -> Any:  # noqa: ANN401 - the stream's own
        begun = _begun(self)
        if begun is None:
            return await advance(self)
        try:
            while True:
                item = await advance(self)
                if not begun.see(item):
                    return item
        except BaseException as problem:
            _ended(begun, problem)
            raise

    return {"__aiter__": _itself, "__anext__": following}


def _itself(stream: Any) -> Any:  # noqa: ANN401 - the stream's own
    return stream


def _begun(stream: object) -> _Begun | None:
    """The call of a stream; None for another one that a host makes of the class of the first."""
    return cast("_Begun | None", vars(stream).get(_CALL))


def _ended(begun: _Begun, problem: BaseException) -> None:
    if isinstance(problem, StopIteration | StopAsyncIteration):
        begun.call.answered()
    elif isinstance(problem, Exception):
        begun.call.failed()
    else:
        begun.call.stopped()  # Cancelled, or interrupted.
