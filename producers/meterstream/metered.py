"""Functions and blocks that are recorded when they end: ``metered`` and ``timer``.

- A function or coroutine is recorded when it returns; a generator, of either kind, when it is
  exhausted or closed, also half-way, and not at all when it never began.
- What raises is a failed call, and recorded by choice only. Being closed is no failure; being
  cancelled is one.
- The host's exception always passes unchanged, in ``strict`` too. What goes wrong in here is
  refused as a wrong argument of ``record`` is: counted, and raised in ``strict`` after a call that
  succeeded.
"""

from __future__ import annotations

from functools import wraps
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from meterstream.charging import Call, Tally, Terms, check_unit, ended_call
from meterstream.functions import Kind, async_generator, kind_of, rewrapped
from meterstream.refusals import name_of, safe_name_of
from meterstream.streaming import watch, watch_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

Function = TypeVar("Function")


class Metered:
    """The decorator that `meterstream.meter.Meter.metered` makes."""

    def __init__(self, terms: Terms) -> None:
        self._terms: Final = terms

    def __call__(self, function: Function) -> Function:
        """``function``, recorded; as it is when that cannot be done."""
        try:
            return rewrapped(function, self._wrapped)
        except Exception as problem:  # noqa: BLE001 - no function, no unit, or a stranger's proxy
            self._terms.refuse(problem, None, f"metered {safe_name_of(function)}")
            return function

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        terms = self._terms
        if not terms.type:
            terms = terms._replace(type=name_of(function))
        if terms.unit is not None:
            check_unit(terms.unit)
        return _WRAPPERS[kind_of(function)](terms, function)


class Timer:
    """A block, sync or async, or a decorator. One object times one block at a time.

    With a unit that is none it was refused when it was made, and records nothing.
    """

    def __init__(self, terms: Terms) -> None:
        self.nanoseconds = 0
        """How long the latest block took."""
        self._terms: Final = terms
        self._started = 0
        self._usable = True
        try:
            check_unit(terms.unit)
        except Exception as problem:  # noqa: BLE001 - whatever a stranger's object raises
            self._usable = False
            terms.refuse(problem, None, "timer")

    def __call__(self, function: Function) -> Function:
        """``function`` with each call timed by itself. See `Metered`."""
        return Metered(self._terms)(function) if self._usable else function

    def __enter__(self) -> Self:
        self._started = perf_counter_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.nanoseconds = perf_counter_ns() - self._started
        if not self._usable:
            return
        failure = None if isinstance(problem, GeneratorExit) else problem
        self._terms.settle(Call(ended_call, (), {}, None, failure, self.nanoseconds))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, problem, trace)


def _wrap_plain(terms: Terms, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def called(*args: object, **kwargs: object) -> object:
        started = perf_counter_ns()
        try:
            result = function(*args, **kwargs)
        except BaseException as problem:
            terms.settle(Call(function, args, kwargs, None, problem, perf_counter_ns() - started))
            raise
        terms.settle(Call(function, args, kwargs, result, None, perf_counter_ns() - started))
        return result

    return called


def _wrap_coroutine(terms: Terms, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def awaited(*args: object, **kwargs: object) -> object:
        started = perf_counter_ns()
        try:
            result = await function(*args, **kwargs)
        except BaseException as problem:
            terms.settle(Call(function, args, kwargs, None, problem, perf_counter_ns() - started))
            raise
        terms.settle(Call(function, args, kwargs, result, None, perf_counter_ns() - started))
        return result

    return awaited


def _wrap_generator(terms: Terms, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def steps(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
        tally = _tally(terms, function, args, kwargs)
        return (
            yield from watch(
                function(*args, **kwargs), on_item=tally.item, on_end=tally.end, strict=True
            )
        )

    return steps


def _wrap_async_generator(terms: Terms, function: Callable[..., Any]) -> Callable[..., Any]:
    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        tally = _tally(terms, function, args, kwargs)
        return watch_async(
            function(*args, **kwargs), on_item=tally.item, on_end=tally.end, strict=True
        )

    return async_generator(function, begin)


_WRAPPERS: Final = {
    Kind.PLAIN: _wrap_plain,
    Kind.COROUTINE: _wrap_coroutine,
    Kind.GENERATOR: _wrap_generator,
    Kind.ASYNC_GENERATOR: _wrap_async_generator,
}


def _tally(
    terms: Terms, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tally:
    """For generators a quantity that is a function is asked for each item."""
    count = terms.quantity if terms.unit is None and callable(terms.quantity) else None
    return Tally(terms, Call(function, args, kwargs, None, None, 0), count, adds=True)
