"""Interceptors for gRPC servers: each procedure call becomes an event when it has ended.

::

    server = grpc.server(pool, interceptors=[MeterInterceptor(meter, tenant=tenant_of)])
    server = grpc.aio.server(interceptors=[AioMeterInterceptor(meter, tenant=tenant_of)])

For all four kinds of calls. Messages and exceptions pass as they are. Attributes of an event:
``method``, such as ``/shop.Orders/Place``, of procedures that the server has; ``code``, as ``OK``.

Failed is what ended with UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE or
DATA_LOSS, which say that the server did not do its part. Refusals, such as NOT_FOUND, and calls
that their client cancelled are charged.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream.extras import needs
from meterstream.integrations.calls import Charge, RpcQuantity, Tariff, Within, check_quantity

with needs("grpc", __name__):
    import grpc
    import grpc.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from meterstream import Meter

_FAILED: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


_CODES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


class Call(NamedTuple):
    """One procedure call, as ``tenant`` and ``attributes`` see it."""

    method: str
    metadata: Mapping[str, str | bytes]
    context: Any
    """The servicer's context, which knows of peer and authentication."""


class _Interceptor:
    """What both interceptors share."""

    def __init__(
        self,
        meter: Meter,
        *,
        tenant: Callable[[Call], str | None],
        type: str = "grpc.call",  # noqa: A002 - the event's own field
        quantity: RpcQuantity = "1",
        attributes: Callable[[Call], Mapping[str, str] | None] | None = None,
        skip: Callable[[str], bool] | None = None,
        charge_failures: bool = False,
    ) -> None:
        check_quantity(quantity, RpcQuantity)
        self._tenant: Final = tenant
        self._attributes: Final = attributes
        self._skip: Final = skip
        self._tariff: Final = Tariff(meter, type, quantity, charge_failures=charge_failures)

    def _is_skipped(self, method: str) -> bool:
        try:
            return self._skip is not None and self._skip(method)
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._tariff.refuse(Charge(), problem, "skip")
            return True

    def _begin(self, method: str, context: Any) -> _Observed:  # noqa: ANN401 - no types
        charge = Charge()
        metadata: dict[str, str | bytes] = {}
        with suppress(Exception):  # A context of somebody's own may lack it.
            metadata.update((name, value) for name, value in context.invocation_metadata() or ())
        call = Call(method, metadata, context)
        self._tariff.ask(charge, self._tenant, call)
        return _Observed(self, call, charge)

    def settle(self, call: Call, charge: Charge, code: str) -> None:
        """The call ended with this code."""
        more = self._attributes
        self._tariff.ask(charge, self._tenant, call)
        self._tariff.settle(
            charge,
            {"method": call.method, "code": code},
            failed=code in _FAILED,
            more=None if more is None else lambda: more(call),
        )


class _Observed:
    """One call under way."""

    def __init__(self, interceptor: _Interceptor, call: Call, charge: Charge) -> None:
        self.charge: Final = charge
        self._interceptor: Final = interceptor
        self._call: Final = call
        self._code: str | None = None

    def ended(self, problem: BaseException | None = None) -> None:
        """The handler returned or raised; the code is what it set, or what gRPC makes of that."""
        if isinstance(problem, asyncio.CancelledError | GeneratorExit):
            self.terminated()
            return
        name: str | None = None
        with suppress(Exception):  # A context of somebody's own may lack it.
            code = self._call.context.code()
            found = _CODES.get(code) if isinstance(code, int) else getattr(code, "name", None)
            name = found if isinstance(found, str) else None
        if problem is not None and name in {None, "OK"}:
            name = "UNKNOWN"
        if name is None or name == "OK":
            name = "DEADLINE_EXCEEDED" if self._is_late() else "OK"
        self.settled(name)

    def settled(self, code: str) -> None:
        """Record it, if that was not done before."""
        self._interceptor.settle(self._call, self.charge, code)

    def terminated(self) -> None:
        """The call is over for gRPC; when the handler did not end before, its client left."""
        self.settled("DEADLINE_EXCEEDED" if self._is_late() else "CANCELLED")

    def _is_late(self) -> bool:
        """Whether the client's deadline is over, so that it saw no answer."""
        with suppress(Exception):  # A context of somebody's own may lack it.
            remaining = self._call.context.time_remaining()
            return remaining is not None and bool(remaining <= 0)
        return False

    def requests(self, messages: Iterator[Any]) -> Iterator[Any]:
        for message in messages:
            self.charge.came_in += 1
            yield message

    async def requests_async(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            self.charge.came_in += 1
            yield message

    def incoming(self, handler: Any, request: Any, *, concurrent: bool) -> Any:  # noqa: ANN401 - no types
        if not handler.request_streaming:
            self.charge.came_in = 1
            return request
        return self.requests_async(request) if concurrent else self.requests(request)


class MeterInterceptor(_Interceptor, grpc.ServerInterceptor):  # type: ignore[misc]  # it has no types
    """For `grpc.server`.

    - ``tenant``: of a `Call`. None: not metered; it is asked again when the call has ended.
      Raising: counted as an invalid event. What the handler records needs no tenant of its own.
    - ``quantity``: what is counted: ``1``, ``messages_in``, ``messages_out`` or ``ms``.
    - ``attributes``: further ones of the ended `Call`; ``skip``: methods that are not metered.
    - ``charge_failures``: record what failed, too.

    A handler may change what `meterstream.integrations.calls.current_charge` returns.
    """

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,  # noqa: ANN401 - no types
    ) -> Any:  # noqa: ANN401 - no types
        """See `grpc.ServerInterceptor`."""
        handler = continuation(handler_call_details)
        if handler is None or self._is_skipped(handler_call_details.method):
            return handler
        return _rebuilt(handler, _blocking(self._begin, handler, handler_call_details.method))


class AioMeterInterceptor(_Interceptor, grpc.aio.ServerInterceptor):  # type: ignore[misc]  # it has no types
    """For `grpc.aio.server`; its arguments are those of `MeterInterceptor`.

    Handlers that answer a stream by ``context.write`` are metered; their answers are not counted as
    ``messages_out``.
    """

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,  # noqa: ANN401 - no types
    ) -> Any:  # noqa: ANN401 - no types
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        if handler is None or self._is_skipped(handler_call_details.method):
            return handler
        method, behaviour = handler_call_details.method, _behaviour(handler)
        if inspect.isasyncgenfunction(behaviour):
            return _rebuilt(handler, _streaming(self._begin, handler, method))
        if inspect.iscoroutinefunction(behaviour):
            return _rebuilt(handler, _awaited(self._begin, handler, method))
        return _rebuilt(handler, _blocking(self._begin, handler, method))


def _behaviour(handler: Any) -> Callable[..., Any]:  # noqa: ANN401 - no types
    if handler.request_streaming:
        found = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        found = handler.unary_stream if handler.response_streaming else handler.unary_unary
    return found  # type: ignore[no-any-return]  # no types


def _rebuilt(handler: Any, behaviour: Callable[..., Any]) -> Any:  # noqa: ANN401 - no types
    """The handler with another behaviour."""
    arrow = {True: "stream", False: "unary"}
    make = getattr(
        grpc,
        f"{arrow[handler.request_streaming]}_{arrow[handler.response_streaming]}_rpc_method_handler",
    )
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def _blocking(begin: Callable[..., _Observed], handler: Any, method: str) -> Callable[..., Any]:  # noqa: ANN401 - no types
    """Around a function or generator that runs in a thread."""
    behaviour = _behaviour(handler)

    def call(request: Any, context: Any) -> Any:  # noqa: ANN401 - no types
        observed = begin(method, context)
        with suppress(Exception):  # A context of somebody's own may lack it.
            context.add_callback(observed.terminated)
        request = observed.incoming(handler, request, concurrent=False)
        try:
            with Within(observed.charge):
                answer = behaviour(request, context)
        except BaseException as problem:
            observed.ended(problem)
            raise
        if handler.response_streaming:
            return _answers(observed, answer)
        observed.charge.came_out = 1
        observed.ended()
        return answer

    return call


def _answers(observed: _Observed, answers: Any) -> Iterator[Any]:  # noqa: ANN401 - no types
    """The messages of a streamed answer, as they are asked for."""
    pieces = iter(answers)
    try:
        while True:
            try:
                with Within(observed.charge):
                    message = next(pieces)
            except StopIteration:
                break
            observed.charge.came_out += 1
            yield message
    except BaseException as problem:
        observed.ended(problem)
        close = getattr(answers, "close", None)
        if isinstance(problem, GeneratorExit) and close is not None:
            close()
        raise
    observed.ended()


def _awaited(begin: Callable[..., _Observed], handler: Any, method: str) -> Callable[..., Any]:  # noqa: ANN401 - no types
    """Around a coroutine function."""
    behaviour = _behaviour(handler)

    async def call(request: Any, context: Any) -> Any:  # noqa: ANN401 - no types
        observed = begin(method, context)
        request = observed.incoming(handler, request, concurrent=True)
        try:
            with Within(observed.charge):
                answer = await behaviour(request, context)
        except BaseException as problem:
            observed.ended(problem)
            raise
        if not handler.response_streaming:
            observed.charge.came_out = 1
        observed.ended()
        return answer

    return call


def _streaming(begin: Callable[..., _Observed], handler: Any, method: str) -> Callable[..., Any]:  # noqa: ANN401 - no types
    """Around an asynchronous generator function."""
    behaviour = _behaviour(handler)

    async def call(request: Any, context: Any) -> Any:  # noqa: ANN401 - no types
        observed = begin(method, context)
        request = observed.incoming(handler, request, concurrent=True)
        answers = behaviour(request, context)
        try:
            with Within(observed.charge):
                async for message in answers:
                    observed.charge.came_out += 1
                    yield message
        except BaseException as problem:
            observed.ended(problem)
            await answers.aclose()
            raise
        observed.ended()

    return call
