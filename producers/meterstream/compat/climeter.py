"""CLIMeter's documented calls: ``from meterstream.compat.climeter import meter``.

Each metered call becomes one event of type ``climeter.call`` with the attributes ``tool``,
``command``, ``status`` (``success`` or ``error``) and ``metadata.<name>``. Its tenant is
METERSTREAM_TENANT, else ``climeter-`` and sixteen digits of the API key's SHA-256; the key itself
is never kept. Metering waits for nothing and fails nothing that it meters.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from meterstream.compat import climeter_wallet, wiring
from meterstream.compat.climeter_wallet import InsufficientBalanceError
from meterstream.compat.plain import attributes_of
from meterstream.functions import Kind, async_generator, kind_of, rewrapped
from meterstream.streaming import watch_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Mapping
    from types import TracebackType

__all__ = [
    "InsufficientBalanceError",
    "Metering",
    "call",
    "check_balance",
    "clear_cache",
    "configure",
    "meter",
    "set_cache_ttl",
]

API_KEY: Final = "CLIMETER_API_KEY"
API_URL: Final = "CLIMETER_API_URL"
TOOL_SLUG: Final = "CLIMETER_TOOL_SLUG"
TENANT: Final = "METERSTREAM_TENANT"
TYPE: Final = "climeter.call"
FLUSH_SECONDS: Final = 10.0
IDEMPOTENCY_KEY: Final = "idempotency_key"
"""The one name in metadata that is more than an attribute: equal keys count once."""

Function = TypeVar("Function", bound="Callable[..., Any]")


class _Configured(NamedTuple):
    """What one call of `Metering.configure` told. Replaced as a whole, so it needs no lock."""

    tenant: str | None = None
    tool_slug: str | None = None


class _Identity(NamedTuple):
    """Who meters, and by which tool unless an event says."""

    tenant: str | None
    tool: str


class Metering:
    """What ``climeter.meter`` is. Every call is safe from any thread; only `flush` waits."""

    def __init__(self) -> None:
        self._configured = _Configured()
        self._found: tuple[_Configured, _Identity] | None = None

    def configure(
        self,
        api_key: str | None = None,
        tool_slug: str | None = None,
        api_url: str | None = None,
    ) -> None:
        """Say who meters. What is not said comes from ``CLIMETER_*``, read when it is first needed.

        ``api_url`` leads nowhere: events go where ``METERSTREAM_*`` says. A URL in the place of the
        tool, where the published package has it, is understood.
        """
        if isinstance(tool_slug, str) and tool_slug.startswith(("http://", "https://")):
            tool_slug = api_url
        self._configured = _Configured(
            tenant_of(api_key) if api_key else None, str(tool_slug) if tool_slug else None
        )

    def track(
        self, command: str | None = None, metadata: Mapping[str, object] | None = None
    ) -> Callable[[Function], Function]:
        """Meter every call of a function, when it is over; of a generator, when that is.

        ``command`` is the function's name unless given. What the function raises goes on to its
        caller, and makes the status ``error``; a generator that is left early is a ``success``.
        """

        def around(function: Callable[..., Any]) -> Callable[..., Any]:
            name = command or str(getattr(function, "__name__", type(function).__name__))
            return _metered(function, lambda: _Block(self, name, metadata))

        return lambda function: rewrapped(function, around)

    def track_usage(self, event_name: str, metadata: Mapping[str, object] | None = None) -> _Block:
        """A ``with`` block that is metered when it ends."""
        return _Block(self, event_name, metadata)

    def track_usage_async(
        self, event_name: str, metadata: Mapping[str, object] | None = None
    ) -> _Block:
        """An ``async with`` block that is metered when it ends."""
        return _Block(self, event_name, metadata)

    def record(
        self,
        event_name: str,
        *,
        tool_slug: str = "",
        metadata: Mapping[str, object] | None = None,
        status: str = "success",
    ) -> None:
        """Record one call. Does not wait; what cannot be recorded is counted in the meter's status.

        ``metadata`` may hold anything: it becomes text. A ``metadata["idempotency_key"]`` makes the
        event count once however often it is recorded with the same time and content.
        """
        target = wiring.try_meter()
        if target is None:
            return
        further, key = attributes_of(metadata, prefix="metadata.", key=IDEMPOTENCY_KEY)
        tenant, tool = self._identity()
        target.record(
            TYPE,
            tenant=tenant,
            attributes={
                "tool": tool_slug or tool or event_name,
                "command": event_name,
                "status": status,
                **further,
            },
            key=key,
        )

    def status(self) -> dict[str, Any]:
        """``configured``, ``tool_slug`` and ``queue_size``, which counts what has no outcome yet.

        The meter's own status says more: ``meterstream.compat.wiring.meter().status()``.
        """
        target = wiring.try_meter()
        return {
            "configured": self._identity().tenant is not None,
            "tool_slug": self._identity().tool,
            "queue_size": 0 if target is None else target.status().buffered,
        }

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Wait at most ``timeout`` seconds until all that was recorded before is in the log."""
        target = wiring.try_meter()
        if target is not None:
            target.flush(timeout)

    def shutdown(self, timeout: float = FLUSH_SECONDS) -> None:
        """Flush. What is recorded afterwards is still sent: at exit the meter ends by itself."""
        self.flush(timeout)

    def call(
        self,
        tool_id: str,
        event_name: str = "call",
        metadata: Mapping[str, object] | None = None,
        api_key: str | None = None,
        api_url: str | None = None,  # noqa: ARG002 - leads nowhere, as in `configure`
    ) -> dict[str, Any]:
        """Charge the caller's wallet for a tool and record the call. Blocks on the ledger.

        Raises `InsufficientBalanceError`, and records nothing, where the wallet does not cover it.
        """
        paid = climeter_wallet.charge(self._account(api_key), tool_id)
        self.record(event_name, tool_slug=tool_id, metadata=metadata)
        return paid

    def check_balance(self, tool: str = "") -> dict[str, Any]:
        """The wallet's balance, and for a priced tool how many calls it covers. Blocks on it."""
        return climeter_wallet.balance(self._account(None), tool)

    def set_cache_ttl(self, seconds: float) -> None:
        """Accepted for its name: balances come from the ledger and are never old."""

    def clear_cache(self) -> None:
        """Accepted for its name: there is no cache."""

    def _identity(self) -> _Identity:
        """Who meters which tool; kept as soon as there is anybody."""
        found, told = self._found, self._configured
        if found is not None and found[0] is told:
            return found[1]
        tenant = os.environ.get(TENANT) or told.tenant
        if tenant is None and (api_key := os.environ.get(API_KEY)):
            tenant = tenant_of(api_key)
        identity = _Identity(tenant, told.tool_slug or os.environ.get(TOOL_SLUG, ""))
        if tenant is not None:
            self._found = told, identity
        return identity

    def _account(self, api_key: str | None) -> str:
        account = tenant_of(api_key) if api_key else self._identity().tenant
        if account is None:
            raise ValueError(f"no API key; call meter.configure(api_key=...) or set {API_KEY}")
        return account


class _Block:
    """A metered block; enter it once, with ``with`` or ``async with``. Nothing in it waits."""

    def __init__(
        self, metering: Metering, event_name: str, metadata: Mapping[str, object] | None
    ) -> None:
        self._metering: Final = metering
        self._event_name: Final = event_name
        self._metadata: Final = metadata

    def end(self, problem: BaseException | None) -> None:
        """Record the call, by how it ended."""
        failed = problem is not None and not isinstance(problem, GeneratorExit)
        self._metering.record(
            self._event_name, metadata=self._metadata, status="error" if failed else "success"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(problem)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(problem)


def _metered(function: Callable[..., Any], block: Callable[[], _Block]) -> Callable[..., Any]:
    """A function of the same kind that is metered when it, or its generator, is over."""

    @functools.wraps(function)
    async def coroutine(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - its result
        with block():
            return await function(*args, **kwargs)

    @functools.wraps(function)
    def generator(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
        with block():
            return (yield from function(*args, **kwargs))

    @functools.wraps(function)
    def plain(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - its result
        with block():
            return function(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        stream = function(*args, **kwargs)
        return watch_async(stream, on_item=lambda _: None, on_end=block().end)

    match kind_of(function):
        case Kind.COROUTINE:
            return coroutine
        case Kind.GENERATOR:
            return generator
        case Kind.ASYNC_GENERATOR:
            return async_generator(function, begin)
        case Kind.PLAIN:
            return plain


@functools.lru_cache(maxsize=64)
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def tenant_of(api_key: str) -> str:
    """The tenant that an API key stands for; the key cannot be told from it."""
    return f"climeter-{_digest(str(api_key))}"


meter: Final = Metering()
"""The one that the documents import."""

configure: Final = meter.configure
call: Final = meter.call
check_balance: Final = meter.check_balance
set_cache_ttl: Final = meter.set_cache_ttl
clear_cache: Final = meter.clear_cache
