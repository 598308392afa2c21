"""What one call of a language model becomes: one event, the same whichever hook saw the call.

The event has type ``llm.tokens`` unless told otherwise, the time at which the call ended, no key,
and as quantity all tokens of the call. Attributes, numbers as decimal text:

- ``provider``, ``operation`` (``chat``, ``text_completion``, ``embeddings``, ``image``, ``audio``);
- ``model``: the one that answered, as the answer says; ``requested_model``: the one asked for;
- ``input_tokens``: all input, cached or not; ``cached_tokens``: those of them read from a cache;
  ``cache_write_tokens``: those of them written to one;
- ``output_tokens``: all output; ``reasoning_tokens``: those of them nobody saw;
- ``status``: ``ok``, ``error`` (told only with ``charge_failures``) or ``stopped``: the host left a
  stream, and the numbers are those that had come until then; ``streamed``: ``true`` or ``false``.

What the provider did not tell is left out, never guessed. The quantity is the total that was told,
or input and output together where none was told or it is less than these. A call without usage is
refused and counted in the meter's `status`, or recorded as 0 tokens with ``usage: missing``. An
image or a sound may have no tokens by nature: such a call is 0 tokens, and not missing.

Tenant, session and further attributes of `meterstream.context` are those that held where the call
began, also for a stream that ends elsewhere. Nothing here raises, not even with a strict meter: an
answer that was paid for is worth more than its record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from meterstream.errors import SettingsError
from meterstream.refusals import refuse, shown
from meterstream_schemas.errors import InvalidEvent

if TYPE_CHECKING:
    from meterstream import Meter

Request = TypeVar("Request")
"""What a hook knows of a call before it is made; a tenant can be found in it."""

Tenant: TypeAlias = "str | Callable[[Request], str | None] | None"
Attributes: TypeAlias = "Mapping[str, str] | Callable[[Request], Mapping[str, str]] | None"
OnMissing: TypeAlias = Literal["skip", "record_zero"]

TYPE: Final = "llm.tokens"
_TOKENLESS: Final = ("image", "audio")


class Usage(NamedTuple):
    """Tokens as a provider told them; None: not told."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    def total(self) -> int | None:
        """All tokens of the call, or None when they cannot be known."""
        known = (
            None
            if self.input_tokens is None or self.output_tokens is None
            else self.input_tokens + self.output_tokens
        )
        if known is None or self.total_tokens is None:
            return self.total_tokens if known is None else known
        return max(known, self.total_tokens)

    def attributes(self) -> dict[str, str]:
        """Those that were told, as decimal text. The total is the event's quantity already."""
        return {
            name: str(value)
            for name, value in zip(self._fields, self, strict=True)
            if value is not None and name != "total_tokens"
        }


class Calls(Generic[Request]):
    """What a hook was told, in force for all calls that it sees. Safe from any thread.

    ``tenant`` and ``attributes`` may be functions of the request. Without a tenant the ambient one
    holds. Raises `SettingsError` for an ``on_missing`` that is none.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        tenant: Tenant[Request] = None,
        type: str = TYPE,  # noqa: A002 - the event's own field
        attributes: Attributes[Request] = None,
        charge_failures: bool = False,
        on_missing: OnMissing = "skip",
    ) -> None:
        if on_missing not in get_args(OnMissing):
            raise SettingsError(f"on_missing: {on_missing!r} is none of {get_args(OnMissing)}")
        self.meter: Final = meter
        self.type: Final = type
        self.charge_failures: Final = charge_failures
        self.on_missing: Final[OnMissing] = on_missing
        self._tenant: Final = tenant
        self._attributes: Final = attributes

    def begin(
        self,
        request: Request,
        *,
        provider: str,
        operation: str,
        model: object = None,
        streamed: bool = False,
    ) -> Call:
        """A call that begins now, in this thread and context."""
        call = Call(self, streamed=streamed)
        try:
            asked = self._attributes
            call.extra.update(asked(request) if callable(asked) else asked or {})
            call.extra.update(provider=provider, operation=operation)
            call.tokenless = operation in _TOKENLESS
            if isinstance(model, str):
                call.model = call.extra["requested_model"] = model
            call.tenant = self._tenant(request) if callable(self._tenant) else self._tenant
        except Exception as problem:  # noqa: BLE001 - a tenant unknown must not become another
            call.abandon()
            self.refused(problem, f"{shown(provider)}: tenant or attributes")
        return call

    def refused(self, problem: Exception, asked: str = "a call") -> None:
        """Count what kept a call from being recorded; ``asked`` is what raised it."""
        with suppress(Exception):
            refuse(self.meter.current(), problem, self.type, asked)


class Call:
    """One call under way. Its end is told once; what comes later is ignored.

    A hook sets what it learns: ``usage``, ``model``, ``complete`` when no more numbers are to come,
    ``fallen`` when the answer itself says that the call failed, ``tokenless`` when it need not have
    tokens, and attributes in ``extra``. A call that nobody refers to any more was stopped.
    """

    __slots__ = (
        "_calls",
        "_context",
        "_open",
        "complete",
        "extra",
        "fallen",
        "model",
        "streamed",
        "tenant",
        "tokenless",
        "usage",
    )

    def __init__(self, calls: Calls[Request], *, streamed: bool) -> None:
        self._open: Final = [True]  # Taken out by one step of the interpreter, so only once.
        self._calls: Final = calls
        self._context: Final = copy_context()
        self.streamed = streamed
        self.tenant: str | None = None
        self.extra: Final[dict[str, str]] = {}
        self.model: str | None = None
        self.usage: Usage | None = None
        self.complete = False
        self.fallen = False
        self.tokenless = False

    def answered(self) -> None:
        """It ended well, or as ``fallen`` says."""
        self._end("error" if self.fallen else "ok")

    def failed(self) -> None:
        """It raised."""
        self._end("error")

    def stopped(self) -> None:
        """The host wants no more of it."""
        self._end("stopped")

    def abandon(self) -> None:
        """Record nothing."""
        self._open.clear()

    def refused(self, problem: Exception) -> None:
        """Count a fault of reading the answer; the call goes on."""
        self._calls.refused(problem)

    def __del__(self) -> None:
        with suppress(Exception):
            self.stopped()

    def _end(self, status: str) -> None:
        try:
            self._open.pop()
        except IndexError:
            return
        calls = self._calls
        if status == "error" and not calls.charge_failures:
            return
        try:
            quantity, attributes = self._quantity(status), self._attributes(status)
        except Exception as problem:  # noqa: BLE001 - whatever a hook put into the call
            calls.refused(problem)
            return
        with suppress(Exception):  # A strict meter raises what it has counted.
            self._context.run(
                calls.meter.record,
                calls.type,
                tenant=self.tenant,
                quantity=quantity,
                attributes=attributes,
            )

    def _attributes(self, status: str) -> dict[str, str]:
        attributes = {**self.extra, "status": status}
        attributes["streamed"] = "true" if self.streamed else "false"
        if self.model is not None:
            attributes["model"] = self.model
        if self.usage is not None:
            attributes.update(self.usage.attributes())
        return attributes

    def _quantity(self, status: str) -> int:
        """All tokens. Raises `InvalidEvent` for a call that is to be skipped."""
        usage = self.usage
        if usage is not None and self.extra.get("operation") == "embeddings":
            usage = usage._replace(output_tokens=usage.output_tokens or 0)
        total = None if usage is None else usage.total()
        if total is not None:
            return total
        if self.tokenless or status == "error":
            return 0
        if self._calls.on_missing == "skip":
            raise InvalidEvent(
                "usage",
                f"{self.extra.get('provider')} told no tokens of a call of {self.model} ({status});"
                " on_missing='record_zero' records such calls",
            )
        self.extra["usage"] = "missing"
        return 0


def find(thing: object, *names: str) -> object:
    """What is at the end of the names, from mappings or attributes; None where one is missing."""
    for name in names:
        thing = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    return thing


def count(thing: object, *names: str) -> int | None:
    """`find`, when that is a number of tokens; None for anything else."""
    value = find(thing, *names)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return int(value)


def text(thing: object, *names: str) -> str | None:
    """`find`, when that is a text that is not empty."""
    value = find(thing, *names)
    return value if isinstance(value, str) and value else None


def usage_of(usage: object) -> Usage | None:
    """Usage by the names that OpenAI gave it, older or newer ones, which many others took over."""
    if not usage:
        return None
    return Usage(
        input_tokens=_first(usage, ("prompt_tokens",), ("input_tokens",)),
        output_tokens=_first(usage, ("completion_tokens",), ("output_tokens",)),
        total_tokens=count(usage, "total_tokens"),
        cached_tokens=_first(
            usage,
            ("prompt_tokens_details", "cached_tokens"),
            ("input_tokens_details", "cached_tokens"),
        ),
        cache_write_tokens=_first(
            usage,
            ("prompt_tokens_details", "cache_write_tokens"),
            ("prompt_tokens_details", "cache_creation_tokens"),
            ("input_tokens_details", "cache_write_tokens"),
        ),
        reasoning_tokens=_first(
            usage,
            ("completion_tokens_details", "reasoning_tokens"),
            ("output_tokens_details", "reasoning_tokens"),
        ),
    )


def _first(usage: object, *paths: tuple[str, ...]) -> int | None:
    """The first of the places that holds a number of tokens."""
    return next((told for path in paths if (told := count(usage, *path)) is not None), None)
