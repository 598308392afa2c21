"""The principal of a request, for routes; the middleware in front of them finds it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request

from meterstream_services.http.problems import Problem
from meterstream_services.keys.principal import ANYBODY, Principal

SCOPE_NAME: Final = "meterstream.principal"
"""Under which name the middleware puts the `Principal` into the ASGI scope."""


def principal_of(request: Request) -> Principal:
    """Who asks. `ANYBODY` where no keys were made."""
    found = request.scope.get(SCOPE_NAME, ANYBODY)
    assert isinstance(found, Principal)
    return found


PrincipalOf = Annotated[Principal, Depends(principal_of)]


def foreign_tenant(tenant: str) -> Problem:
    """What is answered to somebody who names a tenant that the key is not bound to."""
    return Problem(
        403,
        "foreign-tenant",
        f"this key is not for the tenant {tenant[:128]!r}; use a key that is bound to it",
    )
