"""The calls of a meter that make metering short: blocks, functions, streams, hot counters."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, overload

from meterstream.charging import Tally, Terms, ended_call
from meterstream.coalescing import check_single, sums_of
from meterstream.context import Context, completed
from meterstream.counting import Counter
from meterstream.metered import Metered, Timer
from meterstream.refusals import refuse
from meterstream.streaming import watch, watch_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from meterstream.charging import Amount, Call, Text, Unit
    from meterstream.coalescing import Coalesced
    from meterstream.incarnation import Incarnation
    from meterstream.streaming import Watched, WatchedAsync

Function = TypeVar("Function", bound="Callable[..., Any]")
Item = TypeVar("Item")


class Conveniences:
    """Everything here ends in ``record``. A part of `meterstream.meter.Meter`."""

    @abstractmethod
    def record(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        quantity: int | Decimal | str = 1,
        time: datetime | int | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        key: str | None = None,
        coalesce: float | None = None,
    ) -> bool:
        """See `meterstream.meter.Meter.record`."""

    @abstractmethod
    def current(self) -> Incarnation:
        """The incarnation that takes events now; a fork gives the child another."""

    def context(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        session: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Context:
        """Say once what calls inside a ``with`` block or a decorated function need not say.

        Holds for every meter of the process, in this thread or task. See `meterstream.context`.
        """

        def refused(problem: Exception) -> None:
            self.current().refused(problem)

        try:
            return Context(
                tenant=tenant,
                subject=subject,
                session=session,
                attributes=attributes,
                refused=refused,
            )
        except Exception as problem:  # noqa: BLE001 - such as attributes that are no mapping
            refused(problem)
            return Context(tenant=tenant, subject=subject, session=session, refused=refused)

    @overload
    def metered(self, function: Function, /) -> Function: ...

    @overload
    def metered(
        self,
        type: str | None = None,
        /,
        *,
        tenant: Text = None,
        quantity: Amount | Callable[[Any], Amount | None] = 1,
        attributes: Mapping[str, str] | Callable[[Call], Mapping[str, str] | None] | None = None,
        subject: Text = None,
        session: Text = None,
        key: Text = None,
        charge_failures: bool = False,
        unit: Unit | None = None,
        timed: Unit | None = None,
    ) -> Metered: ...

    def metered(
        self,
        type: Any = None,  # noqa: A002 - see the overloads
        /,
        *,
        tenant: Text = None,
        quantity: Amount | Callable[[Any], Amount | None] = 1,
        attributes: Mapping[str, str] | Callable[[Call], Mapping[str, str] | None] | None = None,
        subject: Text = None,
        session: Text = None,
        key: Text = None,
        charge_failures: bool = False,
        unit: Unit | None = None,
        timed: Unit | None = None,
    ) -> Any:
        """A decorator that records each call of a function when it ends. See `meterstream.metered`.

        For functions, coroutine functions, generators of both kinds, methods, classmethods and
        staticmethods; type checkers see the function's own signature.

        - ``type``: by default the function's module and name.
        - ``quantity``: an amount, or a function of the result; for generators a function of each
          item, whose answers are added up. None records nothing.
        - ``tenant``, ``attributes``, ``subject``, ``session``, ``key``: values, or functions of the
          ended `Call`, such as ``lambda call: call.arguments["user"].tenant``.
        - ``charge_failures``: record calls that raise, too; with 0 where the quantity is a function
          of the result, and with what was yielded for generators.
        - ``unit``, or ``timed``: the quantity is how long the call took, in this unit, exactly.
        """
        decorator = Metered(
            Terms(
                meter=lambda: self,
                type="" if type is None or callable(type) else type,
                tenant=tenant,
                quantity=quantity,
                attributes=attributes,
                subject=subject,
                session=session,
                key=key,
                charge_failures=charge_failures,
                unit=timed if unit is None else unit,
            )
        )
        return decorator(type) if callable(type) else decorator

    def timer(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        unit: Unit = "ms",
        attributes: Mapping[str, str] | None = None,
        subject: str | None = None,
        session: str | None = None,
        key: str | None = None,
        charge_failures: bool = False,
    ) -> Timer:
        """Record how long a ``with`` or ``async with`` block or each call of a function takes.

        The quantity is exact to the nanosecond, in ``unit``. A block that raises is recorded only
        with ``charge_failures``.
        """
        return Timer(
            Terms(
                meter=lambda: self,
                type=type,
                tenant=tenant,
                quantity=1,
                attributes=attributes,
                subject=subject,
                session=session,
                key=key,
                charge_failures=charge_failures,
                unit=unit,
            )
        )

    @overload
    def stream(
        self,
        type: str,
        stream: AsyncIterable[Item],
        *,
        tokens: Callable[[Item], Amount | None],
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        subject: str | None = None,
        session: str | None = None,
        key: str | None = None,
        sum: bool = False,
        charge_failures: bool = True,
    ) -> WatchedAsync[Item]: ...

    @overload
    def stream(
        self,
        type: str,
        stream: Iterable[Item],
        *,
        tokens: Callable[[Item], Amount | None],
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        subject: str | None = None,
        session: str | None = None,
        key: str | None = None,
        sum: bool = False,
        charge_failures: bool = True,
    ) -> Watched[Item]: ...

    def stream(
        self,
        type: str,  # noqa: A002 - the event's own field
        stream: Any,
        *,
        tokens: Callable[[Any], Amount | None] | None,
        tenant: str | None = None,
        attributes: Mapping[str, str] | None = None,
        subject: str | None = None,
        session: str | None = None,
        key: str | None = None,
        sum: bool = False,  # noqa: A002 - what it does
        charge_failures: bool = True,
    ) -> Any:
        """Stand in for a stream and record at its end what its chunks tell of usage.

        ``tokens`` is asked for every chunk: the last answer that is not None counts, or with
        ``sum`` all of them together. Recorded also when the consumer stops early or, unless
        ``charge_failures`` is False, the stream fails; not when no chunk told anything. See
        `meterstream.streaming`.
        """
        if not callable(tokens):
            problem = TypeError("pass a function of a chunk")
            refuse(self.current(), problem, type, "tokens")
            return stream
        terms = Terms(
            meter=lambda: self,
            type=type,
            tenant=tenant,
            quantity=1,
            attributes=attributes,
            subject=subject,
            session=session,
            key=key,
            charge_failures=charge_failures,
            unit=None,
        )
        tally = Tally(terms, ended_call(), tokens, adds=sum)
        begin = watch_async if hasattr(stream, "__aiter__") else watch
        return begin(stream, on_item=tally.item, on_end=tally.end, strict=True)

    def counter(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        subject: str | None = None,
        session: str | None = None,
        attributes: Mapping[str, str] | None = None,
        coalesce: float = 1,
    ) -> Counter:
        """A hot counter: ``add`` is `record` with ``coalesce`` and all else said beforehand.

        What the context says here holds for the counter. See `meterstream.coalescing`.
        """
        tenant, subject, session, attributes = completed(tenant, subject, session, attributes)
        said = (type, tenant, session, subject, attributes)
        return Counter(self.current, seconds=coalesce, said=said)

    def coalesced(self) -> Coalesced:
        """How many keys `meterstream.coalescing` holds, and how many calls did not fit."""
        return sums_of(self.current()).status()

    def _coalesce(  # noqa: PLR0917 - by position: calls and keywords cost
        self,
        seconds: float,
        event_type: str,
        tenant: str | None,
        quantity: int | Decimal | str,
        time: datetime | int | None,
        session: str | None,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        key: str | None,
    ) -> bool:
        """`record` with ``coalesce``. Raises what is wrong, which `record` refuses."""
        check_single(time, key)
        return sums_of(self.current()).add(
            seconds, event_type, tenant, quantity, session, subject, attributes
        )
