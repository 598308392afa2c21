"""What wrapping a function needs to know: of which kind it is, and how to stay of that kind.

Frameworks look at that: a wrapped generator function is still a generator function, a wrapped
coroutine function still one, and a wrapped method, classmethod or staticmethod still binds.
"""

from __future__ import annotations

from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["Kind", "async_generator", "kind_of", "rewrapped", "wraps"]

Function = TypeVar("Function")


class Kind(Enum):
    """What a call of a function gives."""

    PLAIN = "plain"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind of a function, method, partial, or object with such a ``__call__``."""
    # Imported here: a host that decorates nothing need not pay for it.
    import inspect  # noqa: PLC0415

    inner = function
    if not inspect.isroutine(inner) and not hasattr(inner, "func") and not inspect.isclass(inner):
        inner = type(function).__call__
    if inspect.iscoroutinefunction(inner):
        return Kind.COROUTINE
    if inspect.isasyncgenfunction(inner):
        return Kind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(inner):
        return Kind.GENERATOR
    return Kind.PLAIN


def rewrapped(
    function: Function, around: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Function:
    """``around(function)``, also under a classmethod or staticmethod. Raises `TypeError`."""
    wrapped: Any
    if isinstance(function, classmethod):
        wrapped = classmethod(around(function.__func__))
    elif isinstance(function, staticmethod):
        wrapped = staticmethod(around(function.__func__))
    elif callable(function):
        wrapped = around(function)
    else:
        raise TypeError(f"{type(function).__name__} is not a function; decorate a function")
    return cast("Function", wrapped)


def async_generator(
    function: Callable[..., Any], begin: Callable[[tuple[Any, ...], dict[str, Any]], Any]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """An asynchronous generator function in the place of ``function``.

    It does what ``yield from`` does for the other kind, with what ``begin`` makes of the arguments.
    """

    @wraps(function)
    async def generator(*args: object, **kwargs: object) -> AsyncGenerator[Any, Any]:
        inner = begin(args, kwargs)
        try:
            item = await inner.__anext__()
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as problem:  # noqa: BLE001 - all of it is the generator's
                    item = await inner.athrow(problem)
                else:
                    item = await (inner.__anext__() if sent is None else inner.asend(sent))
        except StopAsyncIteration:
            return

    return generator
