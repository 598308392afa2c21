"""Middleware for WSGI: each request becomes an event when its answer is complete.

::

    app = MeterMiddleware(app, meter, tenant=lambda environ: environ.get("REMOTE_USER"))

Needs no package. Requests, answers and exceptions pass as they are. Attributes of an event:
``method``; ``route``, when the middleware is told how to find the template of the route;
``status``: ``2xx`` to ``5xx``, or ``disconnected`` when the server closed it before its end.

Failed is what raised or was answered with 5xx. Who left early is charged: the work was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from meterstream.integrations.calls import (
    Charge,
    HttpQuantity,
    Tariff,
    Within,
    check_quantity,
    class_of,
    method_of,
    size_of,
)

if TYPE_CHECKING:
    from meterstream import Meter

Environ: TypeAlias = dict[str, Any]
Write: TypeAlias = Callable[[bytes], object]
StartResponse: TypeAlias = Callable[..., Write]
App: TypeAlias = Callable[[Environ, Any], Iterable[bytes]]

CHARGE: Final = "meterstream.charge"
"""Where in the environ the request's `meterstream.integrations.calls.Charge` is."""


class MeterMiddleware:
    """A WSGI application around another.

    - ``tenant``: of an environ. It is asked before the application, and again after it when the
      answer was None. None: not metered. Raising: counted as an invalid event. What the application
      records inside, also while its answer is produced, needs no tenant of its own.
    - ``route``: the template of the route, of an environ as the application left it.
    - ``quantity``: what is counted: ``1``, ``bytes_in`` (as announced), ``bytes_out`` or ``ms``.
    - ``attributes``, ``skip``, ``charge_failures``: see `meterstream.integrations.asgi`.

    The application may change ``environ["meterstream.charge"]``, a `Charge`, as long as it runs.
    """

    def __init__(
        self,
        app: App,
        meter: Meter,
        *,
        tenant: Callable[[Environ], str | None],
        type: str = "http.request",  # noqa: A002 - the event's own field
        route: Callable[[Environ], str | None] | None = None,
        quantity: HttpQuantity = "1",
        attributes: Callable[[Environ], Mapping[str, str] | None] | None = None,
        skip: Callable[[Environ], bool] | None = None,
        charge_failures: bool = False,
    ) -> None:
        check_quantity(quantity, HttpQuantity)
        self._app: Final = app
        self._tenant: Final = tenant
        self._route: Final = route
        self._attributes: Final = attributes
        self._skip: Final = skip
        self._tariff: Final = Tariff(meter, type, quantity, charge_failures=charge_failures)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request, as WSGI has it."""
        charge = self._begun(environ)
        if charge is None:
            return self._app(environ, start_response)
        environ[CHARGE] = charge
        request = _Request(start_response, charge, self._settle, environ)
        try:
            with Within(charge):
                answer = self._app(environ, request.start_response)
        except BaseException as problem:
            request.ended(raised=isinstance(problem, Exception))
            raise
        return (
            _SizedAnswer(answer, request)
            if hasattr(answer, "__len__")
            else _Answer(answer, request)
        )

    def _begun(self, environ: Environ) -> Charge | None:
        charge = Charge()
        try:
            if self._skip is not None and self._skip(environ):
                return None
            charge.came_in = int(environ.get("CONTENT_LENGTH") or 0)
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self._tariff.refuse(charge, problem, "skip, or the length of the request")
        self._tariff.ask(charge, self._tenant, environ)
        return charge

    def _settle(self, charge: Charge, environ: Environ, status: str) -> None:
        if charge.settled:
            return
        self._tariff.ask(charge, self._tenant, environ)

        def more() -> dict[str, str]:
            route = None if self._route is None else self._route(environ)
            own = {} if route is None else {"route": route}
            return own | dict((self._attributes(environ) if self._attributes else None) or {})

        facts = {"method": method_of(environ.get("REQUEST_METHOD")), "status": status}
        self._tariff.settle(charge, facts, failed=status == "5xx", more=more)


class _Request:
    """Looks on while a request is answered."""

    def __init__(
        self,
        start_response: StartResponse,
        charge: Charge,
        settle: Callable[[Charge, Environ, str], None],
        environ: Environ,
    ) -> None:
        self.charge: Final = charge
        self._start_response: Final = start_response
        self._settle: Final = settle
        self._environ: Final = environ
        self._status = "5xx"
        self.complete = False

    def start_response(self, status: object, headers: Any, *exc_info: Any) -> Write:  # noqa: ANN401 - as they come
        write = self._start_response(status, headers, *exc_info)
        code = status[:3] if isinstance(status, str) else ""
        self._status = class_of(int(code)) if code.isascii() and code.isdecimal() else "other"

        def counting(data: bytes) -> object:
            self.charge.came_out += size_of(data)
            return write(data)

        return counting

    def ended(self, *, raised: bool) -> None:
        """The answer is complete, was closed before, or the application raised."""
        status = self._status if self.complete else "disconnected"
        if raised:
            status = "5xx"
        self._settle(self.charge, self._environ, status)


class _Answer:
    """The application's answer, piece by piece as it comes."""

    def __init__(self, answer: Iterable[bytes], request: _Request) -> None:
        self._answer: Final = answer
        self._request: Final = request
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        request = self._request
        try:
            with Within(request.charge):
                if self._pieces is None:
                    self._pieces = iter(self._answer)
                piece = next(self._pieces)
        except StopIteration:
            request.complete = True
            request.ended(raised=False)
            raise
        except BaseException as problem:
            request.ended(raised=isinstance(problem, Exception))
            raise
        request.charge.came_out += size_of(piece)
        return piece

    def close(self) -> None:
        """The server is done with the answer: now it is known how it ended."""
        request = self._request
        close = getattr(self._answer, "close", None)
        try:
            if close is not None:
                with Within(request.charge):
                    close()
        except Exception:
            request.ended(raised=not request.complete)
            raise
        request.ended(raised=False)


class _SizedAnswer(_Answer):
    """Servers take an answer of one piece as a reason to announce its length."""

    def __len__(self) -> int:
        return len(self._answer)  # type: ignore[arg-type]  # chosen for what has a length
