"""A directory behind HTTP: another meterstream, or any service that answers these requests.

=====================================================  =============================================
request                                                answer, JSON
=====================================================  =============================================
``POST /v1/lookup`` with ``{"tenants": ["acme"]}``     ``{"tenants": [{"tenant", "history": [
                                                       {"account", "from"}]}]}``; who was never
                                                       mapped may be left out
``GET /v1/accounts/ID``                                ``{"id", "name", "zone", "billing_anchor",
                                                       "labels", "status"}``, or 404
``GET /v1/accounts/ID/tenants?ever=true``              ``{"tenants": [...]}``, or 404
``GET /v1/accounts?after=ID&limit=N``                  ``{"accounts": [...]}`` by id
``GET /v1/accounts/ID/external-ids``                   ``{"external_ids": [{"system", "id"}]}``,
                                                       or 404
``GET /v1/lookup/external-ids/SYSTEM/ID``              ``{"account": {"id"}}``, or 404
=====================================================  =============================================

The first three are what metering needs. Times are ISO 8601; ``from`` null is the beginning.

A key from METERSTREAM_ACCOUNTS_KEY goes along as a bearer token: over TLS, or to this very machine,
and never where a redirect points. Anything but these answers is an outage.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from meterstream_services.accounts.documents import (
    BadDocument,
    parse_account,
    parse_spells,
    texts,
)
from meterstream_services.accounts.errors import AccountsUnavailable, NotEditable
from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Change
from meterstream_services.accounts.port import Applied, Expected, Feed

KEY_VARIABLE: Final = "METERSTREAM_ACCOUNTS_KEY"
TENANTS_AT_ONCE: Final = 1000
ANSWER_BYTES_MAX: Final = 16 << 20
_TIMEOUT: Final = httpx.Timeout(3.0, connect=2.0)
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class RemoteDirectory:
    """An `EditableDirectory` that refuses changes. Thread-safe; blocks on the network.

    ``transport`` replaces the network, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url: Final = url.rstrip("/")
        self._key: Final = key if key is not None else os.environ.get(KEY_VARIABLE, "")
        self._transport = transport
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def account(self, account_id: str) -> Account | None:
        """See `Directory`."""
        found = self._ask("GET", f"/v1/accounts/{_part(account_id)}")
        return None if found is None else self._parsed(parse_account, found)

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """See `Directory`."""
        parameters = {"limit": str(limit)} | ({} if after is None else {"after": after})
        found = self._ask("GET", "/v1/accounts", parameters=parameters)
        return [self._parsed(parse_account, each) for each in self._list(found, "accounts")]

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """See `Directory`."""
        found: dict[str, History] = {}
        for at in range(0, len(tenants), TENANTS_AT_ONCE):
            asked = list(tenants[at : at + TENANTS_AT_ONCE])
            answer = self._ask("POST", "/v1/lookup", content={"tenants": asked})
            wanted = set(asked)
            for each in self._list(answer, "tenants"):
                tenant = each.get("tenant") if isinstance(each, dict) else None
                if tenant not in wanted:
                    raise self._wrong(
                        f"it answers for {str(tenant)[:64]!r}, which nobody asked for"
                    )
                if history := self._parsed(parse_spells, each.get("history")):
                    found[tenant] = history
        return found

    def tenants_of(self, account_id: str) -> list[str]:
        """See `Directory`."""
        path = f"/v1/accounts/{_part(account_id)}/tenants"
        found = self._ask("GET", path, parameters={"ever": "true"})
        if found is None:
            return []
        return sorted(self._parsed(texts, found.get("tenants")))

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """See `Directory`."""
        found = self._ask("GET", f"/v1/accounts/{_part(account_id)}/external-ids")
        if found is None:
            return []
        try:
            return sorted((str(e["system"]), str(e["id"])) for e in found["external_ids"])
        except (KeyError, TypeError) as problem:
            raise self._wrong(f"its external ids lack {problem}") from problem

    def account_of(self, system: str, external_id: str) -> str | None:
        """See `Directory`. The account as it stands after merges."""
        path = f"/v1/lookup/external-ids/{_part(system)}/{_part(external_id)}"
        found = self._ask("GET", path)
        return None if found is None else self._parsed(parse_account, found.get("account")).id

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """Refused: accounts are changed where they are kept."""
        del changes, expected, dry_run, detailed
        raise NotEditable(f"accounts are kept at {self._url}; change them there")

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """Refused: ask where they are kept."""
        del after, limit
        raise NotEditable(f"accounts are kept at {self._url}; follow their changes there")

    def close(self) -> None:
        """See `EditableDirectory`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        parameters: dict[str, str] | None = None,
        content: object = None,
    ) -> dict[str, Any] | None:
        """The object that is answered; None for 404. Raises `AccountsUnavailable`."""
        try:
            with self._connected().stream(
                method, f"{self._url}{path}", params=parameters, json=content
            ) as response:
                if response.status_code == 404:
                    return None
                if response.status_code != 200:
                    raise self._wrong(f"it answers {response.status_code} to {method} {path[:80]}")
                body = self._body(response)
        except httpx.HTTPError as problem:
            raise self._wrong(f"{type(problem).__name__} {problem}".strip()) from problem
        try:
            found: Any = json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise self._wrong("its answer is no JSON") from problem
        if not isinstance(found, dict):
            raise self._wrong("its answer is no JSON object")
        return found

    def _connected(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> httpx.Client:
        parts = urlsplit(self._url)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self._key:
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                raise self._wrong(f"{KEY_VARIABLE} is not sent without TLS; name it by https://")
            if not self._key.isascii() or not self._key.isprintable():
                raise self._wrong(f"{KEY_VARIABLE} cannot stand in a header")
            headers["authorization"] = f"Bearer {self._key}"
        return httpx.Client(
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            transport=self._transport,
        )

    def _body(self, response: httpx.Response) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self._wrong("its answer is packed, which was not asked for")
        body = bytearray()
        for part in response.iter_raw():
            body += part
            if len(body) > ANSWER_BYTES_MAX:
                raise self._wrong(f"its answer is larger than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)

    def _list(self, answer: dict[str, Any] | None, field: str) -> list[Any]:
        found = None if answer is None else answer.get(field)
        if not isinstance(found, list):
            raise self._wrong(f"its answer has no list of {field}")
        return found

    def _parsed(self, parse: Any, document: object) -> Any:  # noqa: ANN401 - what the parser gives
        try:
            return parse(document)
        except BadDocument as problem:
            raise self._wrong(f"its answer: {problem}") from problem

    def _wrong(self, what: str) -> AccountsUnavailable:
        said = what.replace(self._key, "***") if self._key else what
        return AccountsUnavailable(f"accounts at {self._url}: {said}")


def _part(name: str) -> str:
    return quote(name, safe="")
