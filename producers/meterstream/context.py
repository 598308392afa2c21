"""What is said once for many calls: tenant, subject, session and attributes of a block of code.

Carried by a context variable, so each thread and each task has its own, and a task begins with
what held where it was made. A new thread begins with nothing; to take along what holds, run its
function by ``contextvars.copy_context().run``.

Blocks form a chain from the inner to the outer. Leaving a block takes its own link out wherever it
stands, so blocks may be left in another order than they were entered in, or not at all, as happens
to blocks inside of generators. The body of a generator runs in its consumer's context: a block
around a ``yield`` holds in the consumer too until it is left. As a decorator of a generator
function a context holds inside of the generator only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from meterstream.functions import Kind, async_generator, kind_of, rewrapped, wraps
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import ATTRIBUTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

Function = TypeVar("Function")


class Ambient(NamedTuple):
    """What calls inside a block need not say. What a call says itself wins."""

    tenant: str | None
    subject: str | None
    session: str | None
    attributes: Mapping[str, str]
    block: Context | None = None
    """The innermost block."""
    outer: Any = None
    """What held before it: another of these, or None."""


AMBIENT: Final[ContextVar[Ambient | None]] = ContextVar("meterstream", default=None)
"""What holds now, for every meter of the process; None outside of any block."""


def complete(
    ambient: Ambient,
    tenant: str | None,
    subject: str | None,
    session: str | None,
    attributes: Mapping[str, str] | None,
) -> tuple[str | None, str | None, str | None, Mapping[str, str] | None]:
    """What a call says, and for the rest what holds where it is made."""
    return (
        ambient.tenant if tenant is None else tenant,
        ambient.subject if subject is None else subject,
        ambient.session if session is None else session,
        _merged(ambient.attributes, attributes) if attributes else ambient.attributes,
    )


def _merged(outer: Mapping[str, str], inner: Mapping[str, str]) -> Mapping[str, str]:
    """Both, the inner winning, and not more of a mapping without an end than the door refuses."""
    kind: type = type(inner)
    if not issubclass(kind, Mapping):
        raise InvalidEvent("attributes", f"{kind.__name__} is not a mapping; pass a dict")
    merged = dict(outer)
    merged.update(inner if type(inner) is dict else islice(inner.items(), ATTRIBUTES_MAX + 1))
    return merged


def completed(
    tenant: str | None,
    subject: str | None,
    session: str | None,
    attributes: Mapping[str, str] | None,
) -> tuple[str | None, str | None, str | None, Mapping[str, str] | None]:
    """What a call says, completed by what holds here; as it is where that cannot be done."""
    ambient = AMBIENT.get()
    if ambient is not None:
        with suppress(Exception):  # The door says what is wrong with the attributes.
            return complete(ambient, tenant, subject, session, attributes)
    return tenant, subject, session, attributes


class Context:
    """A block, sync or async, or a decorator. May be entered again, by any thread, and nested.

    The inner block wins; attributes are merged name by name.
    """

    def __init__(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        session: str | None = None,
        attributes: Mapping[str, str] | None = None,
        refused: Callable[[Exception], object] | None = None,
    ) -> None:
        self._refused: Final = refused
        self._tenant: Final = tenant
        self._subject: Final = subject
        self._session: Final = session
        self._attributes: Final = _merged({}, attributes) if attributes else {}

    def __enter__(self) -> Self:
        AMBIENT.set(self.inside(AMBIENT.get()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        AMBIENT.set(self._without(AMBIENT.get()))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, problem, trace)

    def __call__(self, function: Function) -> Function:
        """``function`` with this context around each call; for generators, around each step.

        What is no function stays as it is when ``refused`` takes the exception.
        """
        try:
            return rewrapped(function, self._around)
        except Exception as problem:
            if self._refused is None:
                raise
            self._refused(problem)
            return function

    def inside(self, outer: Ambient | None) -> Ambient:
        """What holds in this block when it begins where ``outer`` holds."""
        said = (self._tenant, self._subject, self._session, self._attributes)
        if outer is None:
            return Ambient(*said, self, None)
        tenant, subject, session, attributes = complete(outer, *said)
        return Ambient(tenant, subject, session, attributes or {}, self, outer)

    def _without(self, chain: Ambient | None) -> Ambient | None:
        """The chain without the innermost link of this block."""
        inner: list[Context] = []
        link = chain
        while link is not None and link.block is not self:
            if link.block is not None:
                inner.append(link.block)
            link = link.outer
        if link is None:
            return chain  # It was entered elsewhere.
        link = link.outer
        for block in reversed(inner):
            link = block.inside(link)
        return link

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        kind = kind_of(function)
        if kind is Kind.COROUTINE:

            @wraps(function)
            async def awaited(*args: object, **kwargs: object) -> object:
                with self:
                    return await function(*args, **kwargs)

            return awaited
        if kind is Kind.GENERATOR:

            @wraps(function)
            def steps(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
                return (yield from _Steps(self, function(*args, **kwargs)))

            return steps
        if kind is Kind.ASYNC_GENERATOR:
            return async_generator(
                function, lambda args, kwargs: _AsyncSteps(self, function(*args, **kwargs))
            )

        @wraps(function)
        def called(*args: object, **kwargs: object) -> object:
            with self:
                return function(*args, **kwargs)

        return called


class _Steps:
    """A generator, each step of it inside a context."""

    def __init__(self, context: Context, generator: Any) -> None:  # noqa: ANN401 - any generator
        self._context = context
        self._generator = generator

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - the generator's own
        with self._context:
            return next(self._generator)

    def send(self, value: Any) -> Any:  # noqa: ANN401 - the generator's own
        with self._context:
            return self._generator.send(value)

    def throw(self, *problem: Any) -> Any:  # noqa: ANN401 - the generator's own
        with self._context:
            return self._generator.throw(*problem)

    def close(self) -> None:
        with self._context:
            self._generator.close()


class _AsyncSteps:
    """An asynchronous generator, each step of it inside a context."""

    def __init__(self, context: Context, generator: Any) -> None:  # noqa: ANN401 - any generator
        self._context = context
        self._generator = generator

    async def __anext__(self) -> Any:  # noqa: ANN401 - the generator's own
        with self._context:
            return await self._generator.__anext__()

    async def asend(self, value: Any) -> Any:  # noqa: ANN401 - the generator's own
        with self._context:
            return await self._generator.asend(value)

    async def athrow(self, *problem: Any) -> Any:  # noqa: ANN401 - the generator's own
        with self._context:
            return await self._generator.athrow(*problem)

    async def aclose(self) -> None:
        with self._context:
            await self._generator.aclose()
