"""What a host passes may do anything: its own results and exceptions pass, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream import Meter
from meterstream.integrations import asgi, wsgi
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterstream.memory import MemoryTransport as Transport
    from tests.unit.producers.conftest import MakeMeter


class OwnError(Exception):
    """The host's own."""


class Hostile:
    """Answers no question without an exception."""

    def _fails(self, *_: object) -> NoReturn:
        raise RuntimeError("never ask")

    __bool__ = __hash__ = __eq__ = __len__ = __iter__ = __str__ = __repr__ = _fails
    __getitem__ = __getattr__ = __contains__ = __call__ = _fails


class HostileText(str):
    """A text that cannot be looked at."""

    __slots__ = ()

    def __repr__(self) -> NoReturn:
        raise RuntimeError("never ask")

    __hash__ = __eq__ = __repr__  # type: ignore[assignment]  # the subject


def _answering(answer: object) -> Callable[..., object]:
    def answering(*_: object) -> object:
        return answer

    return answering


def _raises(*_: object) -> NoReturn:
    raise LookupError("a host's function")


THINGS: Final[dict[str, Any]] = {
    "raises": _raises,
    "hostile": Hostile(),
    "answers hostile": _answering(Hostile()),
    "hostile text": HostileText("t"),
    "answers an object": _answering(object()),
    "a float": 1.5,
    "a list": [],
    "bytes": b"t",
    "hostile attributes": {"a": Hostile()},
    "answers numbers": _answering({1: 2}),
    "answers nothing": _answering(""),
    "takes nothing": lambda: "t",
    "negative": -1,
    "too large": 10**40,
    "none": None,
    "right": "1",
    "a wrong unit": "sec",
}
"""By names: hypothesis looks at what it draws."""
ANY: Final = st.sampled_from(sorted(THINGS))
BOTH: Final = st.booleans()


def things(names: dict[str, Any]) -> dict[str, Any]:
    """What the names stand for; anything else is itself."""
    return {name: THINGS[each] if isinstance(each, str) else each for name, each in names.items()}


def some(*names: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these arguments, each of them anything."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, ANY) | more)


@pytest.fixture(scope="module")
def meter() -> Iterator[Meter]:
    """A meter that is not strict."""
    made = Meter("test", transport=MemoryTransport(), buffer_events_max=1_000_000)
    yield made
    made.close(timeout=5)


@pytest.mark.parametrize("unit", ["sec", None, [], HostileText("s")])
@pytest.mark.parametrize("charge_failures", [False, True])
def test_a_wrong_unit_is_refused_and_counted_and_never_raised(
    make_meter: MakeMeter,
    transport: Transport,
    unit: Any,  # noqa: ANN401 - the subject
    charge_failures: bool,
) -> None:
    """Nothing is recorded, and a block's own exception passes."""
    meter = make_meter()

    with meter.timer("work", tenant="t", unit=unit, charge_failures=charge_failures):
        pass
    with (
        pytest.raises(OwnError),
        meter.timer("work", tenant="t", unit=unit, charge_failures=charge_failures),
    ):
        raise OwnError
    assert meter.timer("work", tenant="t", unit=unit)(len)("abc") == 3

    assert meter.status().dropped == {"invalid": 3}
    assert meter.flush(5)
    assert arrived(transport) == []


def test_a_wrong_unit_of_a_strict_meter_is_told_where_the_timer_is_made(
    make_meter: MakeMeter,
) -> None:
    """With the units that there are."""
    meter, wrong = make_meter(strict=True), "sec"

    with pytest.raises(TypeError, match=r"'sec' is none of \('s', 'ms', 'us', 'ns'\)"):
        meter.timer("work", unit=wrong)  # type: ignore[arg-type]  # the subject


@given(
    what=some(
        "tenant", "attributes", "quantity", "subject", "session", "key", "timed", "unit",
        charge_failures=BOTH,
    ),
    fails=BOTH,
)  # fmt: skip
def test_a_metered_function_is_itself(meter: Meter, what: dict[str, Any], fails: bool) -> None:
    """Of every kind: it returns, yields and raises what it did."""
    decorate = meter.metered("work", **things(what))

    @decorate
    def plain() -> int:
        if fails:
            raise OwnError
        return 1

    @decorate
    async def coroutine() -> int:
        return plain()

    @decorate
    def generator() -> Iterator[int]:
        yield plain()

    def drive() -> list[Any]:
        return [plain(), *generator(), asyncio.run(coroutine())]

    if fails:
        for call in (plain, lambda: list(generator()), lambda: asyncio.run(coroutine())):
            with pytest.raises(OwnError):
                call()
    else:
        assert drive() == [1, 1, 1]


@given(
    what=some("tenant", "attributes", "subject", "session", "key", "unit", charge_failures=BOTH),
    fails=BOTH,
)
def test_a_timed_block_is_itself(meter: Meter, what: dict[str, Any], fails: bool) -> None:
    """It ends as it did without the timer."""
    reached = False
    if fails:
        with pytest.raises(OwnError), meter.timer("work", **things(what)):
            raise OwnError
    else:
        with meter.timer("work", **things(what)):
            reached = True
        assert reached


@given(
    tokens=ANY,
    what=some("tenant", "attributes", "subject", "session", "key", charge_failures=BOTH, sum=BOTH),
    fails=BOTH,
)
def test_a_watched_stream_is_itself(
    meter: Meter, tokens: str, what: dict[str, Any], fails: bool
) -> None:
    """Every item passes, and the end as it was."""

    def items() -> Iterator[int]:
        yield 1
        if fails:
            raise OwnError
        yield 2

    watched, seen = (
        meter.stream("work", items(), tokens=THINGS[tokens], **things(what)),
        list[int](),
    )
    try:
        for item in watched:
            seen.append(item)
    except OwnError:
        assert fails
        assert seen == [1]
    else:
        assert seen == [1, 2]


@given(
    tenant=ANY,
    what=some("attributes", "skip", "type", charge_failures=BOTH),
    fails=BOTH,
    status=st.sampled_from([200, "200", None, "right"]),
    body=ANY,
)
def test_an_asgi_application_is_itself(  # noqa: PLR0917 - hypothesis passes them by name
    meter: Meter, tenant: str, what: dict[str, Any], fails: bool, status: object, body: str
) -> None:
    """Every message passes as it is, also one that a lenient server takes."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
        await receive()
        scope["route"] = Hostile()
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": THINGS[body]})
        if fails:
            raise OwnError

    async def receive() -> Any:  # noqa: ANN401 - as ASGI has it
        return {"type": "http.request", "body": THINGS[body]}

    async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        sent.append(message)

    around = asgi.MeterMiddleware(app, meter, tenant=THINGS[tenant], **things(what))
    scope = {"type": "http", "method": Hostile()}
    if fails:
        with pytest.raises(OwnError):
            asyncio.run(around(scope, receive, send))
    else:
        asyncio.run(around(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


@given(
    tenant=ANY,
    what=some("attributes", "skip", "type", "route", charge_failures=BOTH),
    fails=BOTH,
    status=st.sampled_from(["200 OK", "", None, 200]),
    piece=ANY,
)
def test_a_wsgi_application_is_itself(  # noqa: PLR0917 - hypothesis passes them by name
    meter: Meter,
    tenant: str,
    what: dict[str, Any],
    fails: bool,
    status: object,
    piece: str,
) -> None:
    """Every piece passes as it is, also one that a lenient server takes."""
    started: list[object] = []

    def app(environ: Any, start_response: Any) -> Iterator[Any]:  # noqa: ANN401 - WSGI's
        start_response(status, [])(THINGS[piece])
        yield THINGS[piece]
        if fails:
            raise OwnError

    def start_response(given_status: object, headers: object) -> Any:  # noqa: ANN401
        started.append(given_status)
        return _answering(None)

    around = wsgi.MeterMiddleware(app, meter, tenant=THINGS[tenant], **things(what))
    environ = {"REQUEST_METHOD": Hostile(), "CONTENT_LENGTH": Hostile()}
    if fails:
        with pytest.raises(OwnError):
            list(around(environ, start_response))
    else:
        assert [each is THINGS[piece] for each in around(environ, start_response)] == [True]
    assert started == [status]


class _Closing:
    """An iterator that cannot be closed."""

    def __iter__(self) -> _Closing:
        return self

    def __next__(self) -> int:
        return 1

    def close(self) -> NoReturn:
        """Fail."""
        raise OwnError


def test_what_a_strict_meter_raises_takes_the_place_of_no_exception(make_meter: MakeMeter) -> None:
    """Neither of a block around a stream nor of closing it; the event without tenant is counted."""
    meter = make_meter(strict=True)

    def watched() -> Any:  # noqa: ANN401 - a stand-in
        return meter.stream("work", _Closing(), tokens=lambda item: item)

    stream = watched()
    next(stream)
    with pytest.raises(OwnError):
        stream.close()
    stream = meter.stream("work", iter([1, 2]), tokens=lambda item: item)
    next(stream)
    with pytest.raises(OwnError), stream:
        raise OwnError

    assert meter.status().dropped == {"invalid": 2}


def test_a_stream_without_a_function_to_count_is_refused(
    make_meter: MakeMeter, transport: Transport
) -> None:
    """And passes as it is."""
    meter = make_meter()
    nothing: Any = None

    assert list(meter.stream("work", [1, 2], tenant="t", tokens=nothing)) == [1, 2]

    assert meter.status().dropped == {"invalid": 1}
    assert meter.flush(5)
    assert arrived(transport) == []


def test_leaving_a_session_takes_the_place_of_no_exception(make_meter: MakeMeter) -> None:
    """Also where a full buffer raises by policy."""
    meter = make_meter(strict=True)
    session = meter.session("work", tenant="t").start()
    meter.close(0)

    with pytest.raises(OwnError), session:
        raise OwnError
