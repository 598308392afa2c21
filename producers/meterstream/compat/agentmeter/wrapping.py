"""A function with something done when it ends, whatever kind of function it is.

Ends means: it returned or raised; a coroutine or an (async) generator likewise, and a generator
also when its reader stopped. A generator that was never begun has not ended. The host's results
and exceptions pass unchanged, and nothing the afterthought raises reaches the host.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from meterstream.compat import wiring
from meterstream.errors import MeterError
from meterstream_schemas.errors import InvalidEvent

F = TypeVar("F", bound=Callable[..., Any])


class Ended(NamedTuple):
    """How a call ended. ``result`` of a generator is what it returned, else its last item."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    failed: bool


After = Callable[[Ended], object]
_STOPPED: Final = (GeneratorExit,)


def wrapped(function: F, after: After) -> F:
    """The same function, with ``after`` called once whenever a call of it ends."""
    if inspect.isasyncgenfunction(function):
        wrapper: Any = _async_generator(function, after)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, after)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, after)
    else:
        wrapper = _plain(function, after)
    return functools.wraps(function)(wrapper)  # type: ignore[return-value]  # of the same signature


def quietly(after: After, ended: Ended) -> None:
    """Do it; count what goes wrong as a refused event in the meter's status."""
    try:
        after(ended)
    except Exception as problem:  # noqa: BLE001 - nothing may reach the host
        refuse(problem)


def refuse(problem: Exception) -> None:
    """Count what was wrong in the meter's status, and tell nobody."""
    if isinstance(problem, MeterError | InvalidEvent):
        return  # A strict meter's own, counted already.
    with suppress(Exception):  # A strict meter raises; the host must not see it.
        wiring.meter().current().refused(problem)


def _plain(function: Callable[..., Any], after: After) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any function
        try:
            result = function(*args, **kwargs)
        except BaseException:
            quietly(after, Ended(args, kwargs, None, failed=True))
            raise
        quietly(after, Ended(args, kwargs, result, failed=False))
        return result

    return wrapper


def _coroutine(function: Callable[..., Any], after: After) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any function
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            quietly(after, Ended(args, kwargs, None, failed=True))
            raise
        quietly(after, Ended(args, kwargs, result, failed=False))
        return result

    return wrapper


def _generator(function: Callable[..., Any], after: After) -> Callable[..., Any]:
    def wrapper(
        *args: Any,  # noqa: ANN401 - of any function
        **kwargs: Any,  # noqa: ANN401 - of any function
    ) -> Generator[Any, Any, Any]:
        last: list[Any] = [None]
        try:
            result = yield from _watched(function(*args, **kwargs), last)
        except BaseException as problem:
            failed = not isinstance(problem, _STOPPED)
            quietly(after, Ended(args, kwargs, last[0], failed=failed))
            raise
        shown = last[0] if result is None else result
        quietly(after, Ended(args, kwargs, shown, failed=False))
        return result

    return wrapper


def _watched(inner: Generator[Any, Any, Any], last: list[Any]) -> Generator[Any, Any, Any]:
    """``yield from inner`` that also keeps the last item."""
    try:
        item = next(inner)
        while True:
            last[0] = item
            try:
                sent = yield item
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as problem:  # noqa: BLE001 - thrown in: the inner one's to handle
                item = inner.throw(problem)
            else:
                item = inner.send(sent)
    except StopIteration as end:
        return end.value


def _async_generator(function: Callable[..., Any], after: After) -> Callable[..., Any]:
    async def wrapper(
        *args: Any,  # noqa: ANN401 - of any function
        **kwargs: Any,  # noqa: ANN401 - of any function
    ) -> AsyncGenerator[Any, Any]:
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        last = None
        try:
            item = await anext(inner)
            while True:
                last = item
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as problem:  # noqa: BLE001 - thrown in: the inner one's
                    item = await inner.athrow(problem)
                else:
                    item = await inner.asend(sent)
        except StopAsyncIteration:
            quietly(after, Ended(args, kwargs, last, failed=False))
        except BaseException as problem:
            failed = not isinstance(problem, _STOPPED)
            quietly(after, Ended(args, kwargs, last, failed=failed))
            raise

    return wrapper
