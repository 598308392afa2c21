"""Whose calls they are: CLIMeter's requests name nobody but by their key."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from meterstream_services.keys.principal import Forbidden, Principal


def tenant_of(principal: Principal) -> str:
    """The one tenant of the key, else ``climeter-`` and the digest of it (decision 23).

    Raises `Forbidden` for a key of several tenants, which says none, and 401 without a key.
    """
    if principal.sole_tenant is not None:
        return principal.sole_tenant
    if principal.tenants is not None:
        raise Forbidden("this key is for several tenants, and CLIMeter names none; bind it to one")
    if not principal.digest:
        raise HTTPException(401, "no API key was sent; set CLIMETER_API_KEY to any text")
    return f"climeter-{principal.digest}"
