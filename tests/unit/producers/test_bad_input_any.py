"""Any object whatever in any argument of any call: nothing reaches the host, all is counted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream import Meter
from meterstream.memory import MemoryTransport
from tests.unit.producers.hostile import Endless, Mutating, Raising, hostile_text
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS: Final = (
    "__eq__", "__hash__", "__bool__", "__len__", "__iter__", "__str__", "__repr__", "__format__",
    "__int__", "__index__", "__float__", "__lt__", "__le__", "__gt__", "__ge__", "__sub__",
    "__rsub__", "__floordiv__", "__getitem__", "__contains__", "__getattribute__", "__class__",
    "items", "keys", "encode", "isascii", "isprintable", "utcoffset", "isoformat", "as_tuple",
    "is_finite", "tzinfo",
)  # fmt: skip
BASES: Final[dict[type, tuple[Any, ...]]] = {
    object: (),
    str: ("acme",),
    int: (5,),
    float: (0.5,),
    dict: ({"a": "b"},),
    list: (["a"],),
    bytes: (b"a",),
    Decimal: ("1.5",),
    datetime: (2026, 1, 1, 0, 0, 0, 0, UTC),
    Exception: ("a",),
}
ANSWERS: Final[tuple[object, ...]] = (
    None,
    True,
    -1,
    2**70,
    "",
    "a\x00",
    b"a",
    1.5,
    [],
    {1: 2},
    object,
    RuntimeError,
)


ODD: Final[dict[str, Callable[[], object]]] = {
    "raising": Raising,
    "endless": Endless,
    "mutating": Mutating,
    "text": lambda: hostile_text("a"),
}


class Recipe(NamedTuple):
    """How to make an object that no tool may look at, not even the one that draws it."""

    base: type
    methods: dict[str, object]
    odd: str | None

    def made(self) -> object:
        """An odd one, or one of a subclass of ``base`` whose methods answer as told, or raise."""
        if self.odd is not None:
            return ODD[self.odd]()
        namespace: dict[str, Any] = {
            name: property(method(answer)) if name in {"__class__", "tzinfo"} else method(answer)
            for name, answer in self.methods.items()
        }
        return type("Made", (self.base,), namespace)(*BASES[self.base])


def method(answer: object) -> Callable[..., object]:
    """A method that answers so, or raises."""

    def run(*_: object, **__: object) -> object:
        if answer is RuntimeError:
            raise RuntimeError("hostile")
        return answer

    return run


def made(drawn: object) -> object:
    """What was drawn, with every recipe in it followed."""
    if type(drawn) is Recipe:
        return drawn.made()
    if type(drawn) is list:
        return [made(inner) for inner in drawn]
    if type(drawn) is tuple:
        return tuple(made(inner) for inner in drawn)
    if type(drawn) is dict:
        return {name: made(inner) for name, inner in drawn.items()}
    return drawn


RECIPES: Final = st.builds(
    Recipe,
    st.sampled_from(sorted(BASES, key=repr)),
    st.dictionaries(st.sampled_from(METHODS), st.sampled_from(ANSWERS), max_size=6),
    st.none() | st.sampled_from(sorted(ODD)),
)
PLAIN: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.fractions()
    | st.decimals()
    | st.text()
    | st.text(st.characters(), max_size=300)
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.from_type(type).filter(lambda kind: kind is not None)
    | st.functions(like=lambda: None)
    | st.sampled_from([..., NotImplemented])
)
ANYTHING: Final = st.recursive(
    PLAIN | RECIPES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS: Final = (
    "type", "tenant", "quantity", "time", "session", "subject", "attributes", "key"
)  # fmt: skip
GOOD: Final[dict[str, Any]] = {"type": "a", "tenant": "t", "session": "s", "key": "k", "time": 1}
CALLS: Final = ("record", "void", "session_start", "session_heartbeat", "session_end")
TRANSPORT: Final = MemoryTransport()
METER: Final = Meter(transport=TRANSPORT)


@pytest.fixture(scope="module", autouse=True)
def all_arrives() -> Iterator[None]:
    """What passed the checks can be sent: in the end nothing has failed in the background."""
    yield
    assert METER.close(60)
    status = METER.status()
    assert status.failed == 0
    assert len(arrived(TRANSPORT)) == status.recorded == status.acknowledged


@settings(max_examples=400)
@given(
    st.sampled_from(CALLS),
    st.lists(st.tuples(st.sampled_from(FIELDS), ANYTHING), min_size=1, max_size=4),
)
def test_nothing_reaches_the_host(name: str, wrong: list[tuple[str, object]]) -> None:
    """A call answers True or False, spends a number only for True, and counts every False."""
    told = GOOD | {field: made(drawn) for field, drawn in wrong}
    if name.startswith("session"):
        told.pop("quantity", None)
    before = METER.status()

    taken = getattr(METER, name)(**told)
    again = METER.record("a", tenant="t")

    assert taken is True or taken is False
    assert again is True
    after = METER.status()
    assert after.recorded - before.recorded == 1 + taken
    assert after.dropped.get("invalid", 0) - before.dropped.get("invalid", 0) == 1 - taken


@settings(max_examples=150)
@given(ANYTHING, ANYTHING, ANYTHING)
def test_a_session_of_anything_does_no_harm(tenant: object, kind: object, other: object) -> None:
    """A ``with`` block runs, whatever it is metered by."""
    ran = False
    wrong: Any = {"tenant": made(tenant), "subject": made(other), "session": made(other)}
    with METER.session(made(kind), **wrong):  # type: ignore[arg-type]  # wrong
        ran = True
    assert ran
