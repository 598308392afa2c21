"""Functions and classes that are charged by the call: ``@meter_...``.

For functions, methods, coroutines, generators and asynchronous generators, charged when they end
(see `wrapping`), without waiting. The user is who the decorator names, else the function's own
argument ``user_id``, else the client's. A metering fault is counted in the meter's status and never
reaches the host; the host's own exceptions pass unchanged. ``charge_failed`` says whether calls
that raise are charged: by default requests and tokens are, instant payments are not.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterstream.compat.agentmeter.events import InstantPayEvent, PaymentType
from meterstream.compat.agentmeter.tokens import found_tokens
from meterstream.compat.agentmeter.wrapping import Ended, F, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meterstream.compat.agentmeter.events import Metadata
    from meterstream.compat.agentmeter.money import Number
    from meterstream.compat.agentmeter.payments import Payments

C = TypeVar("C", bound=type)

USER_ARGUMENT: Final = "user_id"


def meter_api_request_pay(
    client: Payments,
    unit_price: Number | None = None,
    project_id: str | None = None,
    agent_id: str | None = None,
    *,
    user_id: str | None = None,
    api_calls: int = 1,
    metadata: Metadata | None = None,
    charge_failed: bool = True,
) -> Callable[[F], F]:
    """Charge each call of a function at ``unit_price``."""

    def decorate(function: F) -> F:
        user = _user_of(function, user_id)

        def after(ended: Ended) -> None:
            if ended.failed and not charge_failed:
                return
            who = client.who(project_id, agent_id, user(ended), metadata)
            client.take_event(client.api_request(**who, api_calls=api_calls, unit_price=unit_price))

        return wrapped(function, after)

    return decorate


def meter_token_based_pay(
    client: Payments,
    input_token_price: Number | None = None,
    output_token_price: Number | None = None,
    project_id: str | None = None,
    agent_id: str | None = None,
    *,
    tokens_extractor: Callable[..., tuple[int, int]] | None = None,
    user_id: str | None = None,
    metadata: Metadata | None = None,
    charge_failed: bool = True,
) -> Callable[[F], F]:
    """Charge the tokens that each call takes and gives.

    ``tokens_extractor(*args, result=..., **kwargs)`` tells both; ``result`` of a generator is what
    it returned, else its last item, and of a failed call None. Without an extractor the result's
    own ``usage`` tells. Nothing is charged where the tokens are not known.
    """

    def decorate(function: F) -> F:
        user = _user_of(function, user_id)

        def after(ended: Ended) -> None:
            if ended.failed and not charge_failed:
                return
            if tokens_extractor is not None:
                told = ended.kwargs | {"result": ended.result}
                tokens_in, tokens_out = tokens_extractor(*ended.args, **told)
            elif ended.failed and ended.result is None:
                return
            else:
                tokens_in, tokens_out = found_tokens(ended.result)
            if tokens_in or tokens_out:
                event = client.token_usage(
                    **client.who(project_id, agent_id, user(ended), metadata),
                    tokens_in=tokens_in,
                    tokens_out=tokens_out,
                    input_token_price=input_token_price,
                    output_token_price=output_token_price,
                )
                client.take_event(event)

        return wrapped(function, after)

    return decorate


def meter_instant_pay(
    client: Payments,
    amount: Number,
    description: str | None = None,
    project_id: str | None = None,
    agent_id: str | None = None,
    *,
    condition_func: Callable[..., object] | None = None,
    user_id: str | None = None,
    metadata: Metadata | None = None,
    charge_failed: bool = False,
) -> Callable[[F], F]:
    """Charge ``amount`` for each call of which ``condition_func(*args, **kwargs)`` is true."""

    def decorate(function: F) -> F:
        user = _user_of(function, user_id)

        def after(ended: Ended) -> None:
            if ended.failed and not charge_failed:
                return
            if condition_func is not None and not condition_func(*ended.args, **ended.kwargs):
                return
            who = client.who(project_id, agent_id, user(ended), metadata)
            client.take_event(InstantPayEvent(**who, amount=amount, description=description))

        return wrapped(function, after)

    return decorate


def meter_agent(
    client: Payments,
    payment_type: PaymentType = PaymentType.API_REQUEST_PAY,
    *,
    methods_to_meter: Iterable[str] | None = None,
    **payment: Any,  # noqa: ANN401 - those of the payment's decorator
) -> Callable[[C], C]:
    """Charge the calls of a class's methods: those named, inherited ones too, or all public ones
    that the class itself defines. What begins with an underscore is never charged.

    The further arguments are those of the decorator of ``payment_type``. Raises `AttributeError`
    for a method that the class does not have.
    """  # noqa: D205 - which methods is one sentence
    charges: dict[PaymentType, Callable[..., Any]] = {
        PaymentType.API_REQUEST_PAY: meter_api_request_pay,
        PaymentType.TOKEN_BASED_PAY: meter_token_based_pay,
        PaymentType.INSTANT_PAY: meter_instant_pay,
    }
    decorate = charges[PaymentType(payment_type)](client, **payment)

    def decorate_class(metered: C) -> C:
        named = vars(metered) if methods_to_meter is None else methods_to_meter
        for name in [name for name in named if not name.startswith("_")]:
            found = inspect.getattr_static(metered, name)
            if isinstance(found, staticmethod | classmethod):
                setattr(metered, name, type(found)(decorate(found.__func__)))
            elif inspect.isfunction(found):
                setattr(metered, name, decorate(found))
        return metered

    return decorate_class


def _user_of(function: Callable[..., Any], named: str | None) -> Callable[[Ended], str | None]:
    """Whom a call is charged to; None is the client's own user."""
    if named is not None:
        return lambda _: named
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return lambda _: None
    if USER_ARGUMENT not in signature.parameters:
        return lambda ended: ended.kwargs.get(USER_ARGUMENT)
    position = list(signature.parameters).index(USER_ARGUMENT)
    default = signature.parameters[USER_ARGUMENT].default

    def user(ended: Ended) -> str | None:
        if USER_ARGUMENT in ended.kwargs:
            found = ended.kwargs[USER_ARGUMENT]
        elif position < len(ended.args):
            found = ended.args[position]
        else:
            found = None if default is inspect.Parameter.empty else default
        return found if found is None else str(found)

    return user
