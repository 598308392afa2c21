"""One call to a service, from its beginning to the event it becomes: what the server hooks share.

What is the host's is asked inside a guard: a callable that raises is counted as an invalid event,
and nothing of it reaches the host, in ``strict`` neither.
"""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from meterstream.context import AMBIENT, Ambient
from meterstream.refusals import refuse, safe_name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from decimal import Decimal
    from types import TracebackType

    from meterstream import Meter

About = TypeVar("About")

HttpQuantity: TypeAlias = Literal["1", "bytes_in", "bytes_out", "ms"]
"""What of a request is counted: itself, the bytes of its body or answer, or how long it took."""
RpcQuantity: TypeAlias = Literal["1", "messages_in", "messages_out", "ms"]
"""What of a procedure call is counted: itself, its messages, or how long it took."""
COUNTED: Final = {"bytes_in": "came_in", "bytes_out": "came_out"} | {
    "messages_in": "came_in",
    "messages_out": "came_out",
}
_CURRENT: Final[ContextVar[Charge | None]] = ContextVar("meterstream charge", default=None)
_NO_AMBIENT: Final = Ambient(None, None, None, {})
_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)


class Charge:
    """What a call will be charged. The host may change it while it runs; see `current_charge`.

    ``tenant``: None is not metered. ``quantity``: None is what the hook was told to count.
    ``attributes``: beside those of the hook; its own of the same name win.
    """

    __slots__ = (
        "around", "attributes", "began", "came_in", "came_out", "quantity", "settled", "tenant",
    )  # fmt: skip

    def __init__(self) -> None:
        self.tenant: str | None = None
        self.quantity: int | Decimal | str | None = None
        self.attributes: dict[str, str] = {}
        self.came_in = 0
        self.came_out = 0
        self.began: Final = time.monotonic_ns()
        self.around: Final = AMBIENT.get()
        self.settled = False


class Tariff:
    """How the calls of one hook are charged."""

    def __init__(
        self, meter: Meter, event_type: str, quantity: str, *, charge_failures: bool
    ) -> None:
        self._meter: Final = meter
        self._type: Final = event_type
        self._quantity: Final = quantity
        self._charge_failures: Final = charge_failures

    def ask(
        self,
        charge: Charge,
        tenant: Callable[[About], str | None],
        about: About,
        *,
        named: Callable[..., object] | None = None,
    ) -> None:
        """Whose call it is, when nobody said so yet. Raising: counted as invalid, once.

        ``named``: the host's own function, where ``tenant`` is not that.
        """
        if charge.tenant is None and not charge.settled:
            try:
                charge.tenant = tenant(about)
            except Exception as problem:  # noqa: BLE001 - nothing may reach the host
                self.refuse(charge, problem, f"tenant={safe_name_of(named or tenant)}")

    def settle(
        self,
        charge: Charge,
        facts: Mapping[str, str | None],
        *,
        failed: bool,
        more: Callable[[], Mapping[str, str] | None] | None = None,
    ) -> None:
        """Record the call, once. ``facts`` without a value are left out."""
        if charge.settled or charge.tenant is None:
            return
        charge.settled = True
        if failed and not self._charge_failures:
            return
        attributes = {name: value for name, value in facts.items() if value is not None}
        try:
            attributes |= charge.attributes
            if more is not None:
                attributes |= more() or {}
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            self.refuse(charge, problem, "attributes")
            return
        token = AMBIENT.set(charge.around)  # The host may be inside a block of its own by now.
        try:
            with suppress(Exception):  # In strict; counted already.
                self._meter.record(
                    self._type,
                    tenant=charge.tenant,
                    quantity=self._amount(charge),
                    attributes=attributes,
                )
        finally:
            AMBIENT.reset(token)

    def refuse(self, charge: Charge, problem: Exception, asked: str) -> None:
        """Count the call as an invalid event; ``asked`` is what of the host raised."""
        charge.settled = True
        with suppress(Exception):  # In strict; counted already.
            refuse(self._meter.current(), problem, self._type, asked)

    def _amount(self, charge: Charge) -> int | Decimal | str:
        if charge.quantity is not None:
            return charge.quantity
        if self._quantity == "1":
            return 1
        if self._quantity == "ms":
            return (time.monotonic_ns() - charge.began) // 1_000_000
        return int(getattr(charge, COUNTED[self._quantity]))


def check_quantity(quantity: str, kinds: object) -> None:
    """Raise for a kind of quantity that the hook does not know; for when it is set up."""
    known = getattr(kinds, "__args__", ())
    if quantity not in known:
        raise ValueError(f"quantity: {quantity!r} is none of {known}")


def current_charge() -> Charge | None:
    """The `Charge` of the call that is under way here; None outside of any metered call."""
    return _CURRENT.get()


class Within:
    """For a ``with`` block: events that are recorded inside are the tenant's, when it is known.

    A block may be entered once; a call may have many, one after the other.
    """

    __slots__ = ("_charge", "_current", "_entered")

    def __init__(self, charge: Charge) -> None:
        self._charge = charge

    def __enter__(self) -> None:
        charge = self._charge
        self._entered: Token[Ambient | None] | None = None
        if charge.tenant is not None:
            self._entered = AMBIENT.set(
                (charge.around or _NO_AMBIENT)._replace(tenant=charge.tenant)
            )
        self._current = _CURRENT.set(charge)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._entered is not None:
                AMBIENT.reset(self._entered)
            _CURRENT.reset(self._current)
        except ValueError:  # Ended in another context than it began in.
            pass


def method_of(method: object) -> str:
    """An HTTP method for an attribute: whatever clients make up is one word."""
    return method if isinstance(method, str) and method in _METHODS else "other"


def class_of(status: object) -> str:
    """A status as its class, ``2xx``."""
    known = isinstance(status, int) and 100 <= status < 600
    return f"{int(status) // 100}xx" if known else "other"  # type: ignore[call-overload]  # above


def size_of(data: object) -> int:
    """How many bytes a body or a piece of it has; 0 for what a lenient server takes beside them."""
    return len(data) if isinstance(data, bytes | bytearray | memoryview) else 0


def route_of(route: object) -> str | None:
    """The template, as Starlette and FastAPI leave it in the scope; None where there is none."""
    try:
        path = getattr(route, "path", None)
        return path if isinstance(path, str) and path else None
    except Exception:  # noqa: BLE001 - an object of the host
        return None
