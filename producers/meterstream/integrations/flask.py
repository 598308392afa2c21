"""An extension for Flask: each request becomes an event when its answer is complete.

::

    MeterStream(app, meter, tenant=lambda: g.tenant)

The event is made by `meterstream.integrations.wsgi` around the application, so streams are counted
to their end; hooks inside tell it the tenant and the route. Attributes: ``method``, ``route`` (the
rule, such as ``/users/<id>``; none where no rule fits), ``status``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from meterstream import Meter
from meterstream.context import AMBIENT, Ambient
from meterstream.extras import needs
from meterstream.integrations.calls import Charge, HttpQuantity, Tariff
from meterstream.integrations.wsgi import CHARGE, Environ, MeterMiddleware

with needs("flask", __name__):
    from flask import Flask, g, request

if TYPE_CHECKING:
    from contextvars import Token

NAME: Final = "meterstream"
"""Of the extension in ``app.extensions``, and of the request's `Charge` in ``g``."""
_ROUTE: Final = "meterstream.route"
_MORE: Final = "meterstream.attributes"
_ENTERED: Final = "meterstream.entered"


class MeterStream:
    """``MeterStream(app, ...)``, or ``MeterStream(...)`` and later ``init_app(app)``.

    ``tenant`` is called inside the request: before the view's other hooks, and again after the view
    when the answer was None, so that it may read what an authentication put into ``g``. None: not
    metered. Raising: counted as an invalid event. ``attributes`` is called after the view.

    Settings in ``app.config``, for what the arguments leave out:

    - ``METERSTREAM_TYPE`` (``http.request``), ``METERSTREAM_QUANTITY`` (``1``, ``bytes_in``,
      ``bytes_out``, ``ms``), ``METERSTREAM_CHARGE_FAILURES`` (False);
    - ``METERSTREAM_SETTINGS``: arguments of the `Meter` that is made when none is given, beside its
      own ``METERSTREAM_*`` variables of the environment.

    ``meter`` is there after ``init_app``. A view may change ``g.meterstream``, a `Charge`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        meter: Meter | None = None,
        *,
        tenant: Callable[[], str | None],
        type: str | None = None,  # noqa: A002 - the event's own field
        quantity: HttpQuantity | None = None,
        attributes: Callable[[], Mapping[str, str] | None] | None = None,
        charge_failures: bool | None = None,
    ) -> None:
        self.meter = meter
        self._tenant: Final = tenant
        self._type: Final = type
        self._quantity: Final = quantity
        self._attributes: Final = attributes
        self._charge_failures: Final = charge_failures
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Meter this application. Raises for settings that cannot be used."""
        settings = app.config
        if self.meter is None:
            made: dict[str, Any] = {"service": app.name, **settings.get("METERSTREAM_SETTINGS", {})}
            self.meter = Meter(**made)
        failures = self._charge_failures
        if failures is None:
            failures = bool(settings.get("METERSTREAM_CHARGE_FAILURES", False))
        kind = self._type or settings.get("METERSTREAM_TYPE", "http.request")
        quantity: HttpQuantity = self._quantity or settings.get("METERSTREAM_QUANTITY", "1")
        tariff = Tariff(self.meter, kind, quantity, charge_failures=failures)
        around = MeterMiddleware(
            app.wsgi_app,
            self.meter,
            type=kind,
            tenant=_told_by_hooks,
            route=lambda environ: environ.get(_ROUTE),
            attributes=lambda environ: environ.get(_MORE),
            quantity=quantity,
            charge_failures=failures,
        )
        setattr(app, "wsgi_app", around)  # noqa: B010 - Flask's documented way; checkers see a method
        app.extensions[NAME] = self
        app.before_request(lambda: self._before(tariff))

        def teardown(_: BaseException | None) -> None:
            self._teardown(tariff)

        app.teardown_request(teardown)

    def _before(self, tariff: Tariff) -> None:
        charge: Charge | None = request.environ.get(CHARGE)
        if charge is None:
            return
        setattr(g, NAME, charge)
        tariff.ask(charge, _call, self._tenant, named=self._tenant)
        if charge.tenant is not None:
            around = charge.around or Ambient(None, None, None, {})
            request.environ[_ENTERED] = AMBIENT.set(around._replace(tenant=charge.tenant))

    def _teardown(self, tariff: Tariff) -> None:
        charge: Charge | None = request.environ.get(CHARGE)
        if charge is None:
            return
        if request.url_rule is not None:
            request.environ[_ROUTE] = request.url_rule.rule
        tariff.ask(charge, _call, self._tenant, named=self._tenant)
        token: Token[Ambient | None] | None = request.environ.pop(_ENTERED, None)
        if token is not None:
            with suppress(ValueError):  # Ended in another context than it began in.
                AMBIENT.reset(token)
        if self._attributes is not None and charge.tenant is not None and not charge.settled:
            try:
                request.environ[_MORE] = self._attributes()
            except Exception as problem:  # noqa: BLE001 - nothing may reach the host
                tariff.refuse(charge, problem, "attributes")


def _told_by_hooks(environ: Environ) -> None:  # noqa: ARG001 - asked for each request
    return None


def _call(tenant: Callable[[], str | None]) -> str | None:
    return tenant()
