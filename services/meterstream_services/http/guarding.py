"""The principal of a request, for routes; the middleware in front of them finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import Depends, Request

from meterstream_services.accounts.port import Directory
from meterstream_services.http.problems import Problem
from meterstream_services.keys.principal import ANYBODY, Principal

SCOPE_NAME: Final = "meterstream.principal"
"""Under which name the middleware puts the `Principal` into the ASGI scope."""


def principal_of(request: Request) -> Principal:
    """Who asks. `ANYBODY` where no keys were made."""
    found = request.scope.get(SCOPE_NAME, ANYBODY)
    assert isinstance(found, Principal)
    return found


async def asking_principal(request: Request) -> Principal:
    """`principal_of`, as a dependency."""
    # Not a plain function: those wait for a thread, which slow questions may have taken.
    return principal_of(request)


PrincipalOf = Annotated[Principal, Depends(asking_principal)]


def foreign_tenant(tenant: str) -> Problem:
    """What is answered to somebody who names a tenant that the key is not bound to."""
    return Problem(
        403,
        "foreign-tenant",
        f"this key is not for the tenant {tenant[:128]!r}; use a key that is bound to it",
    )


def own_tenants(principal: Principal, named: Sequence[str]) -> list[str] | None:
    """The tenants that a question is about: those it names, else all that the key is bound to.

    None: all there are. Raises `Problem` for a tenant that the key is not for.
    """
    for tenant in named:
        if not principal.may_use(tenant):
            raise foreign_tenant(tenant)
    if named:
        return list(dict.fromkeys(named))
    return None if principal.tenants is None else sorted(principal.tenants)


def own_members(principal: Principal, account: str, directory: Directory) -> list[str]:
    """The tenants that ever belonged to an account, of those that the key is for."""
    return [each for each in directory.tenants_of(account) if principal.may_use(each)]


def unknown_account(account: str) -> Problem:
    """What is answered for an account that is not there, or of which the key has no tenant."""
    return Problem(404, "unknown-account", f"there is no account {account[:128]!r}")
