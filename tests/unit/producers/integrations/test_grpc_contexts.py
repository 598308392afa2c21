"""Contexts of a host's own, as its tests have them: the handler's answer and exception pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import MagicMock

import grpc
import pytest

from meterstream.integrations.grpc import MeterInterceptor
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


class OwnError(Exception):
    """The host's own."""


class Raising:
    """Has nothing that could be looked at."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


def coded(code: object) -> Any:  # noqa: ANN401 - in place of a servicer's context
    """A context with this code."""
    return SimpleNamespace(code=lambda: code, time_remaining=lambda: "soon")


CONTEXTS = [MagicMock(), Raising(), None, coded([]), coded({}), coded(Raising()), coded("late")]


@pytest.mark.parametrize("context", CONTEXTS, ids=range(len(CONTEXTS)))
@pytest.mark.parametrize("streams", [False, True])
def test_a_context_that_is_none_changes_no_answer(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    context: Any,  # noqa: ANN401 - the subject
    streams: bool,
) -> None:
    """It is metered as well as that can be known."""
    meter = make_meter()

    def answer(request: str, _: object) -> Any:  # noqa: ANN401 - a message, or several
        if request == "fail":
            raise OwnError
        return iter([request]) if streams else request

    make: Any = (
        grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    )
    interceptor = MeterInterceptor(meter, tenant=lambda _: "acme", charge_failures=True)
    handler = interceptor.intercept_service(
        lambda _: make(answer), SimpleNamespace(method="/shop.Orders/Place")
    )
    call = handler.unary_stream if streams else handler.unary_unary

    assert list(call("a", context)) == ["a"]
    with pytest.raises(OwnError):
        list(call("fail", context))

    assert meter.flush(5)
    assert [event.attributes["code"] for event in arrived(transport)][1:] == ["UNKNOWN"]
