"""Who pays for a tenant: the customer lookup of `meterstream.compat.meter_lib`, as a port.

The default asks the project's own account directory through the usage API:

* METERSTREAM_URL and METERSTREAM_DATA both unset: there is no directory, a tenant is its own
  customer; likewise where the directory holds no account at all;
* the tenant belongs to an account: that is the customer;
* it belongs to none: there is no customer, so that a call is skipped, as the document has it;
* the directory cannot be asked: what was known last, else none.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from meterstream.compat import wiring
from meterstream.compat.usage_api import DATA, URL, HttpUsage, UsageError, UsageRefused

if TYPE_CHECKING:
    from collections.abc import Callable

CUSTOMERS_MAX: Final = 10_000
"""Tenants that are remembered; one more, and all are forgotten."""
KNOWN_SECONDS: Final = 60.0
UNKNOWN_SECONDS: Final = 5.0
"""How long it is remembered that a tenant has no customer."""


class Customers(Protocol):
    """The port: an implementation may block, and is safe from any thread."""

    def customer_of(self, tenant: str) -> str | None:
        """The customer that a tenant belongs to; None where there is none, or none is found."""
        ...


class AccountCustomers:
    """`Customers` from the account directory, remembered for a while."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now: Final = now
        self._known: Final[dict[str, tuple[float, str | None]]] = {}

    def customer_of(self, tenant: str) -> str | None:
        """See `Customers`."""
        now = self._now()
        until, customer = self._known.get(tenant, (0.0, None))
        if now < until:
            return customer
        try:
            customer = _asked(tenant)
        except UsageError:
            return customer
        if len(self._known) >= CUSTOMERS_MAX:
            self._known.clear()
        lasts = UNKNOWN_SECONDS if customer is None else KNOWN_SECONDS
        self._known[tenant] = (now + lasts, customer)
        return customer


def _asked(tenant: str) -> str | None:
    """The account of a tenant now. Raises `UsageError`."""
    api = wiring.usage()
    if isinstance(api, HttpUsage) and not (os.environ.get(URL) or os.environ.get(DATA)):
        return tenant
    try:
        answer = api.get(f"/v1/tenants/{quote(tenant, safe='')}/account")
    except UsageRefused as problem:
        if problem.status != 404:
            raise
        has_accounts = api.get("/v1/accounts", [("limit", "1")])["accounts"]
        return None if has_accounts else tenant
    return str(answer["account"]["id"])
