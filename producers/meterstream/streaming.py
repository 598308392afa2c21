"""A stream watched from outside: every item is seen, and the end exactly once.

What `watch` and `watch_async` return stands in for the stream: it is iterated, closed, entered and
asked for attributes in the stream's place. Only items that come by iteration are seen. A stream is
one pass; iterating the stand-in again goes on where it was.

The end is told once, whichever comes first: the stream is exhausted, fails, is closed, its block
is left, or nobody refers to the stand-in any more. It may thus be told in a finalizer, in any
thread, so what listens must take no lock that it could hold already.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
    from types import TracebackType

Item = TypeVar("Item")

_TARGET: Final = "_target"


def watch(
    stream: Iterable[Item],
    *,
    on_item: Callable[[Item], None],
    on_end: Callable[[BaseException | None], None],
    strict: bool = False,
) -> Watched[Item]:
    """Stand in for ``stream``: an iterator, a generator, or a response that can be iterated.

    ``on_end`` gets what the stream raised, or None. What the two callbacks raise is swallowed;
    with ``strict`` it reaches the consumer, but never in place of the stream's own exception.
    """
    return Watched(stream, on_item, on_end, strict)


def watch_async(
    stream: AsyncIterable[Item],
    *,
    on_item: Callable[[Item], None],
    on_end: Callable[[BaseException | None], None],
    strict: bool = False,
) -> WatchedAsync[Item]:
    """`watch` for what is iterated by ``async for``. The callbacks are plain functions."""
    return WatchedAsync(stream, on_item, on_end, strict)


class _Stand(Generic[Item]):
    """What both kinds of stand-in share."""

    def __init__(
        self,
        stream: Any,  # noqa: ANN401 - whatever the host iterates
        on_item: Callable[[Item], None],
        on_end: Callable[[BaseException | None], None],
        strict: bool,
    ) -> None:
        self._target = stream
        self._outer: Final = stream
        self._iterator: Any = None
        self._on_item: Final = on_item
        self._on_end: Final = [on_end]  # Taken out by one step of the interpreter, so only once.
        self._strict: Final = strict

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        if name == _TARGET:  # A copy that is being built has none yet.
            raise AttributeError(name)
        return getattr(self._target, name)

    def __repr__(self) -> str:
        return f"<watched {self._target!r}>"

    def __del__(self) -> None:
        with suppress(Exception):
            self._finish(None)

    def _seen(self, item: Item) -> Item:
        try:
            self._on_item(item)
        except Exception:
            if self._strict:
                raise
        return item

    def _finish(self, problem: BaseException | None, *, quiet: bool = False) -> None:
        """Tell the end, unless it was told. ``quiet``: another exception is on its way."""
        try:
            on_end = self._on_end.pop()
        except IndexError:
            return
        try:
            on_end(problem)
        except Exception:
            if self._strict and problem is None and not quiet:
                raise

    def _entered(self, entered: Any) -> Self:  # noqa: ANN401 - see __init__
        """Entering a stream may yield another object, which is the stream from then on."""
        if entered is not self._target:
            self._target, self._iterator = entered, None
        return self


class _Ending:
    """A block after which the end is told; what is raised inside goes before what that raises."""

    def __init__(self, finish: Callable[..., None], problem: BaseException | None) -> None:
        self._finish = finish
        self._problem = problem

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish(self._problem, quiet=raised is not None)


class Watched(_Stand[Item]):
    """The stand-in for a stream of ``for``. See `watch`."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        return self._advance(lambda: next(self._begun()))

    def send(self, value: Any) -> Item:  # noqa: ANN401 - the generator's own
        """See `generator.send`."""
        return self._advance(lambda: self._begun().send(value))

    def throw(self, *problem: Any) -> Item:  # noqa: ANN401 - the generator's own
        """See `generator.throw`. Into what is no generator, it is only raised."""
        return self._advance(lambda: _thrown(self._begun(), problem))

    def close(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the stream's own
        """Close the stream, when it can be closed, and tell the end."""
        with _Ending(self._finish, None):
            close = getattr(self._target, "close", None)
            return None if close is None else close(*args, **kwargs)

    def __enter__(self) -> Self:
        enter = getattr(self._target, "__enter__", None)
        return self if enter is None else self._entered(enter())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        leave = getattr(self._outer, "__exit__", None)
        with _Ending(self._finish, problem):
            if leave is not None:
                return bool(leave(kind, problem, trace))
            close = getattr(self._target, "close", None)
            if close is not None:
                close()
        return None

    def _begun(self) -> Any:  # noqa: ANN401 - see __init__
        if self._iterator is None:
            self._iterator = iter(self._target)
        return self._iterator

    def _advance(self, step: Callable[[], Item]) -> Item:
        try:
            item = step()
        except StopIteration:
            self._finish(None)
            raise
        except BaseException as problem:
            self._finish(problem)
            raise
        return self._seen(item)


def _thrown(iterator: Any, problem: tuple[Any, ...]) -> Any:  # noqa: ANN401 - see _Stand
    if not hasattr(iterator, "throw"):
        raise problem[0]
    return iterator.throw(*problem)


class WatchedAsync(_Stand[Item]):
    """The stand-in for a stream of ``async for``. See `watch_async`."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        return await self._advance(lambda: self._begun().__anext__())

    async def asend(self, value: Any) -> Item:  # noqa: ANN401 - the generator's own
        """See `agen.asend`."""
        return await self._advance(lambda: self._begun().asend(value))

    async def athrow(self, *problem: Any) -> Item:  # noqa: ANN401 - the generator's own
        """See `agen.athrow`."""
        return await self._advance(lambda: self._begun().athrow(*problem))

    async def aclose(self) -> None:
        """Close the stream, when it can be closed, and tell the end."""
        with _Ending(self._finish, None):
            await _closed(self._target)

    def close(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the stream's own
        """The stream's own ``close``, plain or a coroutine; the end is told at the call."""
        with _Ending(self._finish, None):
            return self._target.close(*args, **kwargs)

    async def __aenter__(self) -> Self:
        enter = getattr(self._target, "__aenter__", None)
        return self if enter is None else self._entered(await enter())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        leave = getattr(self._outer, "__aexit__", None)
        with _Ending(self._finish, problem):
            if leave is not None:
                return bool(await leave(kind, problem, trace))
            await _closed(self._target)
        return None

    def _begun(self) -> Any:  # noqa: ANN401 - see __init__
        if self._iterator is None:
            self._iterator = self._target.__aiter__()
        return self._iterator

    async def _advance(self, step: Callable[[], Awaitable[Item]]) -> Item:
        try:
            item = await step()
        except StopAsyncIteration:
            self._finish(None)
            raise
        except BaseException as problem:
            self._finish(problem)
            raise
        return self._seen(item)


async def _closed(stream: Any) -> None:  # noqa: ANN401 - see _Stand
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    waiting = None if close is None else close()
    if waiting is not None and hasattr(waiting, "__await__"):
        await waiting
