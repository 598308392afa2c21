"""Whose function kept an event from being recorded is told, and of which type the event was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.integrations.asgi import MeterMiddleware
from meterstream.integrations.tokens import Calls

if TYPE_CHECKING:
    from meterstream import Meter
    from tests.unit.producers.conftest import MakeMeter

HERE = "tests.unit.producers.test_refusals"


def told(meter: Meter) -> str:
    """The latest trouble of a meter that refused one event."""
    status = meter.status()
    assert status.dropped == {"invalid": 1}
    return str(status.last_error).removeprefix("an event was refused: NotRecorded: ")


def answer(user: str, words: int = 1) -> str:
    """A host's function."""
    return user * words


def fail(_: object) -> str:
    """Another, which cannot answer."""
    raise RuntimeError("no")


def test_a_wrong_name_of_an_argument_is_told_with_those_there_are(make_meter: MakeMeter) -> None:
    """And with the function."""
    meter = make_meter()

    metered = meter.metered("llm.tokens", tenant=lambda call: call.arguments["nope"])(answer)

    assert metered("a") == "a"
    assert (
        told(meter)
        == f"llm.tokens: tenant of {HERE}.answer: KeyError: 'nope'; there are user, words"
    )


@pytest.mark.parametrize("field", ["attributes", "subject", "session", "key", "quantity"])
def test_each_field_is_told_by_its_name(make_meter: MakeMeter, field: str) -> None:
    """As `metered` has it."""
    meter, wrong = make_meter(), dict[str, Any]({field: fail})

    assert meter.metered("llm.tokens", tenant="t", **wrong)(answer)("a") == "a"

    assert told(meter) == f"llm.tokens: {field} of {HERE}.answer: RuntimeError: no"


def test_a_strict_meter_raises_what_the_function_raised(make_meter: MakeMeter) -> None:
    """The very exception."""
    meter = make_meter(strict=True)

    with pytest.raises(RuntimeError, match="no") as caught:
        meter.metered("llm.tokens", tenant=fail)(answer)("a")

    assert caught.value.__cause__ is None
    assert told(meter).startswith("llm.tokens: tenant of ")


def test_a_hook_tells_what_it_asked(make_meter: MakeMeter) -> None:
    """The type of its events, and the host's function."""
    meter = make_meter()

    async def app(*_: object) -> None: ...

    asyncio.run(MeterMiddleware(app, meter, tenant=fail)({"type": "http"}, app, app))  # type: ignore[arg-type]  # never called

    assert told(meter) == f"http.request: tenant={HERE}.fail: RuntimeError: no"


def test_a_model_call_tells_its_provider(make_meter: MakeMeter) -> None:
    """Where a tenant cannot be found."""
    meter = make_meter()

    Calls(meter, tenant=fail, type="llm.tokens").begin({}, provider="openai", operation="chat")

    assert told(meter) == "llm.tokens: openai: tenant or attributes: RuntimeError: no"
