"""What is recorded for a call, a block or a stream when it ends.

Every function of the host that is asked here may fail: that is refused as a wrong argument of
``record`` is, counted, and raised in ``strict`` only, and never in place of the host's exception.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from meterstream.context import AMBIENT
from meterstream.refusals import refuse, safe_name_of
from meterstream_schemas.quantity import parse_amount, rescale, to_decimal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from inspect import Signature

    from meterstream.context import Ambient
    from meterstream.incarnation import Incarnation

Amount: TypeAlias = "int | Decimal | str"
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
Text: TypeAlias = "str | Callable[[Call], str | None] | None"

PLACES: Final[dict[Unit, int]] = {"s": 9, "ms": 6, "us": 3, "ns": 0}
"""Decimal places of a nanosecond in each unit."""


class Recording(Protocol):
    """What is needed of a meter."""

    @property
    def record(self) -> Callable[..., bool]:
        """See `meterstream.meter.Meter.record`."""
        ...

    def current(self) -> Incarnation:
        """The incarnation that takes events now."""
        ...


class Call:
    """One ended call, as the functions that are passed to ``metered`` see it."""

    __slots__ = ("args", "function", "kwargs", "nanoseconds", "problem", "result")

    def __init__(  # noqa: PLR0917 - by position: made for every call
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,  # noqa: ANN401 - whatever the function returns
        problem: BaseException | None,
        nanoseconds: int,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.result = result
        """What it returned; None when it failed, and for generators."""
        self.problem = problem
        """What it raised, or None."""
        self.nanoseconds = nanoseconds
        """How long it took."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Every argument by the name of its parameter, defaults included.

        As Python binds them: ``self`` under its name, ``*args`` as a tuple, ``**kwargs`` as a dict.
        """
        signature, names, defaults = _parameters(self.function)
        if names is not None:
            # What `inspect` does in 5 us, for the parameters that most functions have.
            arguments = {**defaults, **dict(zip(names, self.args, strict=False)), **self.kwargs}
            if len(arguments) == len(names):
                return arguments
        bound = signature.bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        return bound.arguments


class Terms(NamedTuple):
    """What is recorded for a call."""

    meter: Callable[[], Recording]
    type: str
    tenant: Text
    quantity: Amount | Callable[[Any], Amount | None]
    attributes: Mapping[str, str] | Callable[[Call], Mapping[str, str] | None] | None
    subject: Text
    session: Text
    key: Text
    charge_failures: bool
    unit: Unit | None

    def charge(self, call: Call, quantity: Amount | None) -> None:
        """Record an ended call. Raises in ``strict`` only, and never after a failed call."""
        if quantity is None:
            return
        _, event_type, tenant, _, attributes, subject, session, key, _, _ = self
        asked = ""
        try:
            if callable(tenant):
                asked = "tenant"
                tenant = tenant(call)
            if callable(attributes):
                asked = "attributes"
                attributes = attributes(call)
            if callable(subject):
                asked = "subject"
                subject = subject(call)
            if callable(session):
                asked = "session"
                session = session(call)
            if callable(key):
                asked = "key"
                key = key(call)
        except Exception as problem:  # noqa: BLE001 - a stranger's function
            self.refuse(problem, call, asked)
            return
        try:
            self.meter().record(
                event_type,
                tenant=tenant,
                quantity=quantity,
                subject=subject,
                session=session,
                attributes=attributes,
                key=key,
            )
        except Exception:
            if call.problem is None:  # Nothing may take the place of what the host raised.
                raise

    def settle(self, call: Call) -> None:
        """Record an ended call with what it counts."""
        try:
            amount = self.amount(call)
        except Exception as problem:  # noqa: BLE001 - a stranger's function
            self.refuse(problem, call, "quantity")
            return
        self.charge(call, amount)

    def amount(self, call: Call) -> Amount | None:
        """What a call of a function counts; None for nothing. Raises what the host's does."""
        if call.problem is not None and not self.charge_failures:
            return None
        if self.unit is not None:
            return elapsed(call.nanoseconds, self.unit)
        if not callable(self.quantity):
            return self.quantity
        if call.problem is not None:
            return 0  # It has no result to be counted, but was called.
        return self.quantity(call.result)

    def refuse(self, problem: Exception, call: Call | None, asked: str) -> None:
        """Count what went wrong in here when ``asked`` was asked for."""
        names: tuple[str, ...] = ()
        if call is not None and call.function is not ended_call:
            asked = f"{asked} of {safe_name_of(call.function)}"
            with suppress(Exception):  # Not every function can be looked at.
                names = tuple(_parameters(call.function)[0].parameters)
        try:
            refuse(self.meter().current(), problem, self.type, asked, arguments=names)
        except Exception:
            if call is None or call.problem is None:
                raise


def check_unit(unit: object) -> None:
    """Raise `TypeError` for what is no `Unit`."""
    if not isinstance(unit, str) or unit not in PLACES:
        raise TypeError(f"unit: {unit!r} is none of {tuple(PLACES)}")


def elapsed(nanoseconds: int, unit: Unit) -> Amount:
    """A duration in a unit, exactly."""
    places = PLACES[unit]
    return Decimal(f"{nanoseconds}E-{places}") if places else nanoseconds


class Sum:
    """Amounts added up exactly, or the latest of them; None as long as there is none."""

    def __init__(self, *, adds: bool = True) -> None:
        self._adds: Final = adds
        self._total: tuple[int, int] | None = None

    def take(self, amount: object) -> None:
        """One more amount; None is none. Raises `InvalidQuantity`."""
        if amount is None:
            return
        added = parse_amount(amount)
        if self._total is None or not self._adds:
            self._total = added
            return
        scale = max(self._total[1], added.scale)
        self._total = (rescale(*self._total, scale) + rescale(*added, scale), scale)

    @property
    def amount(self) -> Amount | None:
        """The sum, or the latest."""
        return None if self._total is None else to_decimal(*self._total)


class Tally:
    """What a stream comes to: each item counted as it passes, recorded once at the end.

    Recorded in the context in which the stream began, wherever it ends.
    """

    def __init__(
        self, terms: Terms, call: Call, count: Callable[[Any], object] | None, *, adds: bool
    ) -> None:
        self._terms: Final = terms
        self._call: Final = call
        self._count: Final = count
        self._sum: Final = Sum(adds=adds)
        self._ambient: Final[Ambient | None] = AMBIENT.get()
        self._started: Final = perf_counter_ns()

    def item(self, item: object) -> None:
        """One item passed."""
        if self._count is not None:
            try:
                self._sum.take(self._count(item))
            except Exception as problem:  # noqa: BLE001 - a stranger's function
                self._terms.refuse(problem, self._call, "quantity")

    def end(self, problem: BaseException | None) -> None:
        """The stream ended."""
        call, terms = self._call, self._terms
        call.nanoseconds = perf_counter_ns() - self._started
        call.problem = None if isinstance(problem, GeneratorExit) else problem
        outside = AMBIENT.get()
        AMBIENT.set(self._ambient)
        try:
            if self._count is None:
                terms.settle(call)
            elif call.problem is None or terms.charge_failures:
                terms.charge(call, self._sum.amount)
        finally:
            AMBIENT.set(outside)


def ended_call() -> Call:
    """The call that a block or a stream is: one of nothing, without arguments."""
    return Call(ended_call, (), {}, None, None, 0)


@lru_cache(maxsize=1024)
def _parameters(
    function: Callable[..., Any],
) -> tuple[Signature, tuple[str, ...] | None, dict[str, Any]]:
    """Signature, and names and defaults where each parameter may be passed by name."""
    # Imported here: a host whose meter never looks at arguments need not pay for it.
    from inspect import Parameter, signature  # noqa: PLC0415

    whole = signature(function)
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    parameters = whole.parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    simple = all(p.kind in named for p in parameters.values())
    return whole, tuple(parameters) if simple else None, defaults
