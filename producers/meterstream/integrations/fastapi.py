"""A dependency for FastAPI: the routes that have it are metered, each as it says.

::

    completion = metered(meter, "llm.completion", tenant=current_tenant)

    @app.post("/chat")
    async def chat(charge: Annotated[Charge, Depends(completion)]) -> Answer:
        charge.quantity = answer.tokens

``current_tenant`` is a dependency of the application's own. The event is recorded when the function
of the route has ended, so ``status`` is known only where it raised: ``4xx`` for such an
`HTTPException`. For every route at once, and for bytes, there is `meterstream.integrations.asgi`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from meterstream.extras import needs
from meterstream.integrations.calls import (
    Charge,
    Tariff,
    Within,
    check_quantity,
    class_of,
    method_of,
    route_of,
)

with needs("fastapi", __name__):
    # By their names in this module, since FastAPI reads the annotations of a dependency.
    from fastapi import Depends, Request
    from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from meterstream import Meter

Quantity: TypeAlias = Literal["1", "ms"]
Dependency: TypeAlias = Callable[..., AsyncGenerator[Charge, None]]

__all__ = ["Charge", "metered"]


def metered(
    meter: Meter,
    type: str,  # noqa: A002 - the event's own field
    *,
    tenant: Callable[..., Any],
    quantity: Quantity = "1",
    attributes: Callable[[Request], Mapping[str, str] | None] | None = None,
    charge_failures: bool = False,
) -> Dependency:
    """A dependency that records each call of the routes that depend on it.

    - ``tenant``: a dependency, sync or async, whose result is the tenant; None is not metered. What
      it raises is its own answer to the request, as always with dependencies.
    - ``attributes``: further ones beside ``method``, ``route`` and ``status``. Raising: counted as
      an invalid event.
    - ``charge_failures``: record calls that raised other than an `HTTPException` below 500.

    The route's function gets a `Charge`, whose quantity and attributes it may set.
    """
    check_quantity(quantity, Quantity)
    tariff = Tariff(meter, type, quantity, charge_failures=charge_failures)

    more = attributes or _nothing_more

    async def dependency(
        request: Request,
        found: Any = Depends(tenant),  # noqa: ANN401, B008 - whatever it returns; FastAPI's way
    ) -> AsyncGenerator[Charge, None]:
        charge = Charge()
        charge.tenant = found
        status: str | None = None
        try:
            with Within(charge):
                yield charge
        except HTTPException as problem:
            status = class_of(problem.status_code)
            raise
        except Exception:
            status = "5xx"
            raise
        finally:
            facts = {
                "method": method_of(request.method),
                "route": route_of(request.scope.get("route")),
                "status": status,
            }
            tariff.settle(charge, facts, failed=status == "5xx", more=lambda: more(request))

    return dependency


def _nothing_more(request: Request) -> None:  # noqa: ARG001 - in place of a host's function
    return None
