"""Which scope each path needs: one table, read before anything is routed.

A template has the placeholders of the routes, ``{name}`` for one part of a path and ``{name:path}``
for any text; ``/**`` at its end means the path itself and all that lies beneath. Of several that
fit the first one counts. What fits none needs an admin's key: a route that somebody forgets to
write here is closed, not open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_services.keys.principal import Principal, Scope


class Access(StrEnum):
    """Who may ask."""

    OPEN = "open"
    """Anybody, with or without a key."""
    MONITOR = "monitor"
    """Anybody on a loopback address, or where that is wanted; else whoever may read everything."""
    SIGNED = "signed"
    """Whoever may ingest, or shows no credential: the route itself asks who is meant."""
    KNOWN = "known"
    """Whoever has a key."""
    INGEST = "ingest"
    READ = "read"
    """Reads what is its own; the route keeps to the key's tenants."""
    READ_ALL = "read_all"
    """Reads what would tell of other tenants: a key for all of them."""
    ADMIN = "admin"

    def allows(self, principal: Principal) -> bool:
        """Whether a principal that is known may ask."""
        match self:
            case Access.OPEN | Access.KNOWN:
                return True
            case Access.SIGNED | Access.INGEST:
                return principal.may(Scope.INGEST)
            case Access.READ:
                return principal.may(Scope.READ)
            case Access.READ_ALL | Access.MONITOR:
                return principal.may(Scope.READ) and principal.tenants is None
            case Access.ADMIN:
                return principal.may(Scope.ADMIN) and principal.tenants is None

    def needs(self) -> str:
        """What to ask for, in words."""
        match self:
            case Access.READ_ALL | Access.MONITOR:
                return "the scope read, for all tenants"
            case Access.ADMIN:
                return "the scope admin, for all tenants"
            case Access.READ:
                return "the scope read"
            case Access.SIGNED | Access.INGEST:
                return "the scope ingest"
            case Access.OPEN | Access.KNOWN:
                return "a key"


_GET: Final = ("GET", "HEAD")
_POST: Final = ("POST",)
_WRITE: Final = ("POST", "PUT", "PATCH", "DELETE")
_ANY: Final = (*_GET, *_WRITE, "OPTIONS")

TABLE: Final[tuple[tuple[tuple[str, ...], str, Access], ...]] = (
    # Events come in.
    (_POST, "/v1/events", Access.INGEST),
    (_POST, "/v1/events/batch", Access.INGEST),
    (_POST, "/v1/events/ingest", Access.INGEST),
    (_GET, "/v1/records", Access.INGEST),
    (_POST, "/v1/records", Access.INGEST),
    (_POST, "/api/v1/events", Access.INGEST),
    (_POST, "/topics/{topic}", Access.SIGNED),
    # Figures go out.
    (_GET, "/v1/usage", Access.READ),
    (_GET, "/v1/periods", Access.READ),
    (_GET, "/v1/adjustments", Access.READ),
    (_GET, "/v1/sessions", Access.READ),
    (_GET, "/v1/explain", Access.READ),
    (_GET, "/v1/thresholds", Access.READ),
    (_GET, "/v1/meters", Access.READ),
    (_GET, "/v1/deadletters", Access.READ),
    (_GET, "/v1/events", Access.READ),
    (_GET, "/api/v1/meters/**", Access.READ),
    # Accounts. What is done to them changes other tenants' figures.
    (_GET, "/v1/tenants", Access.READ),
    (_GET, "/v1/tenants/{tenant:path}/account", Access.READ),
    (_GET, "/v1/tenants/{tenant:path}/account/history", Access.READ),
    (_GET, "/v1/accounts", Access.READ_ALL),
    (_GET, "/v1/accounts/{account}", Access.READ),
    (_GET, "/v1/accounts/{account}/tenants", Access.READ),
    (_GET, "/v1/accounts/{account}/external-ids", Access.READ),
    (_GET, "/v1/accounts:changes", Access.READ_ALL),
    (_GET, "/v1/accounts:export", Access.READ_ALL),
    (_POST, "/v1/lookup", Access.READ),
    (_GET, "/v1/lookup/tenants/{tenant:path}", Access.READ),
    (_GET, "/v1/lookup/external-ids/{system}/{id:path}", Access.READ),
    (("PUT", "DELETE"), "/v1/tenants/{tenant:path}/account", Access.ADMIN),
    (_POST, "/v1/accounts", Access.ADMIN),
    (("PUT", "DELETE"), "/v1/accounts/{account}", Access.ADMIN),
    (
        ("PUT", "DELETE"),
        "/v1/accounts/{account}/external-ids/{system}/{id:path}",
        Access.ADMIN,
    ),
    (_POST, "/v1/accounts:import", Access.ADMIN),
    (_POST, "/v1/accounts:move", Access.ADMIN),
    (_POST, "/v1/accounts:merge", Access.ADMIN),
    (_POST, "/v1/accounts:unmerge", Access.ADMIN),
    # What happens to everybody's events together.
    (_GET, "/v1/status", Access.READ_ALL),
    (_GET, "/v1/reconcile", Access.READ_ALL),
    (_GET, "/metrics", Access.MONITOR),
    # Nothing of anybody.
    (_GET, "/", Access.OPEN),
    (_GET, "/docs", Access.OPEN),
    (_GET, "/openapi.json", Access.OPEN),
    (_GET, "/health/**", Access.OPEN),
    (_ANY, "/registry/**", Access.KNOWN),
    # CLIMeter.
    (_GET, "/v1/consumer/balance", Access.READ),
    (_POST, "/v1/consumer/call", Access.INGEST),
    ((*_GET, *_WRITE), "/v1/clients/climeter/**", Access.ADMIN),
    # StripeMeter.
    (_GET, "/v1/usage/current", Access.READ),
    (_GET, "/v1/usage/history", Access.READ),
    (_POST, "/v1/usage/projection", Access.READ),
    (_GET, "/v1/mappings", Access.READ),
    (_POST, "/v1/mappings", Access.ADMIN),
    # meter-lib's lookup: its answer is what its events are sent with.
    (_GET, "/metering/v1alpha1/customer-accounts/tenant/{tenant:path}", Access.INGEST),
    (_GET, "/v1alpha1/customer-accounts/tenant/{tenant:path}", Access.INGEST),
    (_GET, "/api/v1/customer-accounts/tenant/{tenant:path}", Access.INGEST),
    # AgentMeter: what it defines, it defines in order to send events of it.
    (_GET, "/api/v1/projects/**", Access.READ),
    (_WRITE, "/api/v1/projects/**", Access.INGEST),
    (_GET, "/api/v1/meter-types/**", Access.READ),
    (_WRITE, "/api/v1/meter-types/**", Access.INGEST),
    (_GET, "/api/v1/meter-events/**", Access.READ),
    (_POST, "/api/v1/meter-events/**", Access.INGEST),
    (_GET, "/api/v1/users/**", Access.READ),
    (_WRITE, "/api/v1/users/**", Access.INGEST),
    (_GET, "/api/meter/**", Access.READ),
    (_WRITE, "/api/meter/**", Access.INGEST),
    (_GET, "/projects/**", Access.READ),
    (_WRITE, "/projects/**", Access.INGEST),
    (_GET, "/billing-records/**", Access.READ),
    (_WRITE, "/billing-records/**", Access.INGEST),
)


class _Patterns(NamedTuple):
    """The table of one method: whole paths, and the others as one expression."""

    exact: Mapping[str, Access]
    others: re.Pattern[str]
    access: tuple[Access, ...]


def access_of(method: str, path: str) -> Access:
    """Who may ask this; an admin where the table says nothing."""
    return rule_of(method, path) or Access.ADMIN


def rule_of(method: str, path: str) -> Access | None:
    """What the table says; None where it says nothing."""
    patterns = _PATTERNS.get(method)
    if patterns is None:
        return None
    exact = patterns.exact.get(path)
    if exact is not None:
        return exact
    found = patterns.others.match(path)
    return None if found is None else patterns.access[int((found.lastgroup or "r0")[1:])]


def _patterns(method: str) -> _Patterns:
    rows = [(template, access) for methods, template, access in TABLE if method in methods]
    exact = {template: access for template, access in rows if "{" not in template}
    others = [(template, access) for template, access in rows if template not in exact]
    others += [(template, access) for template, access in exact.items() if "/**" in template]
    text = "|".join(f"(?P<r{n}>{_expression(template)})" for n, (template, _) in enumerate(others))
    exact = {template: access for template, access in exact.items() if "/**" not in template}
    return _Patterns(
        exact, re.compile(f"(?:{text or '(?!)'})\\Z"), tuple(access for _, access in others)
    )


def _expression(template: str) -> str:
    """As the router reads templates, but for the end: there no line break is overlooked."""
    beneath = template.endswith("/**")
    parts = re.split(r"\{(\w+)(:path)?\}", template.removesuffix("/**"))
    text = ""
    for index, part in enumerate(parts):
        match index % 3:
            case 0:
                text += re.escape(part)
            case 1:
                text += ".*" if parts[index + 1] else "[^/]+"
            case _:
                pass
    return f"{text}(?:/.*)?" if beneath else text


_PATTERNS: Final[Mapping[str, _Patterns]] = {
    method: _patterns(method) for method in sorted({m for methods, _, _ in TABLE for m in methods})
}
