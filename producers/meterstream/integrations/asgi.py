"""Middleware for ASGI: each request becomes an event when its answer is complete.

::

    app = MeterMiddleware(app, meter, tenant=lambda scope: scope["state"].get("tenant"))

Needs no package. Requests, answers and exceptions pass as they are. Attributes of an event:

- ``method``; ``route``, the template of the route and never the path itself; it is left out where
  the framework names none, as for what no route fits;
- ``status``: ``2xx`` to ``5xx``, or ``disconnected`` when the client left before the end.

Failed is what raised or was answered with 5xx. Who left early is charged: the work was done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from meterstream.integrations.calls import (
    Charge,
    HttpQuantity,
    Tariff,
    Within,
    check_quantity,
    class_of,
    method_of,
    route_of,
    size_of,
)

if TYPE_CHECKING:
    from meterstream import Meter
    from meterstream.session import Session

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CHARGE: Final = "meterstream"
"""Where in the scope the request's `meterstream.integrations.calls.Charge` is."""


class MeterMiddleware:
    """An ASGI application around another.

    - ``tenant``: of a scope. It is asked before the application, and again after it when the answer
      was None, since authentication may come in between. None: not metered. Raising: counted as an
      invalid event. What the application records inside needs no tenant of its own.
    - ``quantity``: what is counted: ``1``, ``bytes_in``, ``bytes_out`` or ``ms``.
    - ``attributes``: further ones, of a scope as it is after the application.
    - ``skip``: scopes that are not metered, such as of health checks.
    - ``charge_failures``: record what failed, too.
    - ``websocket_type``: type of the sessions that open websockets are; None: they are not metered.

    The application may change ``scope["meterstream"]``, a `Charge`, as long as it runs.
    """

    def __init__(
        self,
        app: App,
        meter: Meter,
        *,
        tenant: Callable[[Scope], str | None],
        type: str = "http.request",  # noqa: A002 - the event's own field
        quantity: HttpQuantity = "1",
        attributes: Callable[[Scope], Mapping[str, str] | None] | None = None,
        skip: Callable[[Scope], bool] | None = None,
        charge_failures: bool = False,
        websocket_type: str | None = None,
    ) -> None:
        check_quantity(quantity, HttpQuantity)
        self._app: Final = app
        self._meter: Final = meter
        self._tenant: Final = tenant
        self._attributes: Final = attributes
        self._skip: Final = skip
        self._websocket_type: Final = websocket_type
        self._tariff: Final = Tariff(meter, type, quantity, charge_failures=charge_failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        kind = scope.get("type")
        charge = self._begun(scope) if kind in {"http", "websocket"} else None
        if charge is None:
            await self._app(scope, receive, send)
            return
        scope[CHARGE] = charge
        with Within(charge):
            if kind == "http":
                await self._request(scope, receive, send, charge)
            else:
                await self._websocket(scope, receive, send, charge)

    def _begun(self, scope: Scope) -> Charge | None:
        charge = Charge()
        try:
            if self._skip is not None and self._skip(scope):
                return None
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._tariff.refuse(charge, problem, "skip")
        self._tariff.ask(charge, self._tenant, scope)
        return charge

    async def _request(self, scope: Scope, receive: Receive, send: Send, charge: Charge) -> None:
        request = _Request(receive, send, charge, self._settle, scope)
        try:
            await self._app(scope, request.receive, request.send)
        except Exception:
            request.ended(raised=not request.disconnected)
            raise
        except BaseException:  # Cancelled: the server lets go of the client.
            request.disconnected = True
            request.ended(raised=False)
            raise
        request.ended(raised=False)

    def _settle(self, charge: Charge, scope: Scope, status: str, failed: bool) -> None:
        self._tariff.ask(charge, self._tenant, scope)
        facts = {
            "method": method_of(scope.get("method")),
            "route": route_of(scope.get("route")),
            "status": status,
        }
        more = self._attributes
        self._tariff.settle(
            charge, facts, failed=failed, more=None if more is None else lambda: more(scope)
        )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, charge: Charge) -> None:
        session: Session | None = None

        async def observed(message: Message) -> None:
            nonlocal session
            await send(message)
            if session is None and message["type"] == "websocket.accept":
                session = self._session(scope, charge)

        try:
            await self._app(scope, receive, observed)
        finally:
            if session is not None:
                with suppress(Exception):  # In strict; counted already.
                    session.end()

    def _session(self, scope: Scope, charge: Charge) -> Session | None:
        self._tariff.ask(charge, self._tenant, scope)
        if self._websocket_type is None or charge.tenant is None or charge.settled:
            return None
        route = route_of(scope.get("route"))
        attributes = {} if route is None else {"route": route}
        try:
            more = self._attributes(scope) if self._attributes is not None else None
            attributes |= charge.attributes | dict(more or {})
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._tariff.refuse(charge, problem, "attributes")
            return None
        with suppress(Exception):  # In strict; counted already.
            session = self._meter.session(
                self._websocket_type, tenant=charge.tenant, attributes=attributes
            )
            return session.start()
        return None


class _Request:
    """Looks on while a request is answered."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        charge: Charge,
        settle: Callable[[Charge, Scope, str, bool], None],
        scope: Scope,
    ) -> None:
        self._receive: Final = receive
        self._send: Final = send
        self._charge: Final = charge
        self._settle: Final = settle
        self._scope: Final = scope
        self._status: object = None
        self._complete = False
        self.disconnected = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._charge.came_in += size_of(message.get("body"))
        elif message["type"] == "http.disconnect" and not self._complete:
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # How servers say that the client left.
            self.disconnected = True
            raise
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message.get("status")
        elif kind == "http.response.body":
            self._charge.came_out += size_of(message.get("body"))
            if not message.get("more_body", False):
                self._complete = True
                self.ended(raised=False)

    def ended(self, *, raised: bool) -> None:
        """The answer is complete, or the application returned or raised without it."""
        if raised and not self._complete:
            status = "5xx"
        elif self.disconnected:
            status = "disconnected"
        else:
            status = "5xx" if self._status is None else class_of(self._status)
        self._settle(self._charge, self._scope, status, status == "5xx")
