"""Who may set what clients are charged: prices and wallets are everybody's business."""

from __future__ import annotations

from meterstream_services.keys.principal import Forbidden, Principal, Scope


def need_operator(principal: Principal) -> None:
    """Raises `Forbidden` unless the key has the scope admin and is for all tenants."""
    if not principal.may(Scope.ADMIN) or principal.tenants is not None:
        raise Forbidden("this needs a key with the scope 'admin' for all tenants")
