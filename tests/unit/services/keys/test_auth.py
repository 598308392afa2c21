"""Where a credential may be, and what is answered to a wrong one."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_services.http.auth import QUESTIONS_MAX, AuthMiddleware
from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.keys.principal import ANYBODY, NOBODY, Principal
from meterstream_services.keys.text import id_of, new_key
from tests.unit.services.keys.making import Keyed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send


class Asked:
    """An application behind the middleware that notes what reaches it."""

    def __init__(self, keyed: Keyed, *, metrics_open: bool = True) -> None:
        self.reached: list[Scope] = []
        self.app = AuthMiddleware(
            self._answer, keys=keyed.keys, metrics_open=metrics_open, clock=keyed.clock
        )

    async def _answer(self, scope: Scope, _: Receive, send: Send) -> None:
        self.reached.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    def send(
        self,
        method: str,
        path: str,
        *,
        client: str = "127.0.0.1",
        **options: Any,  # noqa: ANN401 - httpx's own
    ) -> httpx.Response:
        """One request from an address."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(client, 9))
            async with httpx.AsyncClient(transport=transport, base_url="http://t") as to:
                return await to.request(method, path, **options)

        return asyncio.run(ask())

    @property
    def principal(self) -> Principal:
        """Whom the last request that came through was for."""
        found = self.reached[-1][SCOPE_NAME]
        assert isinstance(found, Principal)
        return found


@pytest.fixture
def keyed() -> Iterator[Keyed]:
    """A keyring on a service that only this machine reaches."""
    made = Keyed()
    yield made
    made.keys.close()


def basic(text: str) -> str:
    """Basic credentials."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_every_place_of_a_credential(keyed: Keyed) -> None:
    """A key counts as bearer, as password or name of Basic, as X-API-Key, and in the path."""
    key = keyed.make("read", tenants=["acme"])
    asked = Asked(keyed)
    ways: list[tuple[str, dict[str, str]]] = [
        ("/v1/usage", {"Authorization": f"Bearer {key}"}),
        ("/v1/usage", {"authorization": f"bearer  {key} "}),
        ("/v1/usage", {"Authorization": basic(f"{key}:")}),
        ("/v1/usage", {"Authorization": basic(key)}),
        ("/v1/usage", {"Authorization": basic(f"anything:{key}")}),
        ("/v1/usage", {"X-API-Key": key}),
        ("/v1/usage", {"x-api-key": key, "Authorization": "Digest x"}),
        (f"/k/{key}/v1/usage", {}),
        (f"/k/{key}/v1/usage", {"Authorization": "Bearer vendors-own"}),
    ]

    for path, headers in ways:
        response = asked.send("GET", path, headers=headers)
        assert response.status_code == 200, (path, headers)
        assert asked.principal.key == id_of(key)
        assert asked.reached[-1]["path"] == "/v1/usage"


def test_the_path_shows_no_key_further_in(keyed: Keyed) -> None:
    """What stands behind the middleware sees neither the prefix nor the key, in any form."""
    key = keyed.make("ingest")
    asked = Asked(keyed)

    asked.send("POST", f"/k/{key}/topics/usage%20events?a=%2F")

    scope = asked.reached[-1]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/topics/usage events",
        b"/topics/usage%20events",
        b"a=%2F",
    )
    assert key not in repr({k: v for k, v in scope.items() if k != "app"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic ???"},
        {"Authorization": basic("\x00:")},
        {"Authorization": "Basic /w=="},
        {"X-API-Key": ""},
        {"X-API-Key": "x" * 9000},
        {"X-API-Key": b"\xff\xfe"},
    ],
)
def test_wrong_credentials(keyed: Keyed, headers: dict[str, str | bytes]) -> None:
    """No credential, or one that is none, is 401 and says how to send one; never an error."""
    keyed.make("admin")
    asked = Asked(keyed)

    response = asked.send("GET", "/v1/usage", headers=headers)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="meterstream"'
    assert response.headers["content-type"] == "application/problem+json"
    assert asked.reached == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/events/batch", "error"),
        ("/v1/consumer/balance", "error"),
        ("/v1/events/ingest", "error"),
        ("/topics/x/partitions", "message"),
        ("/metering/v1alpha1/customer-accounts/tenant/a", "message"),
        ("/api/v1/projects/", "detail"),
        ("/api/meter/event", "detail"),
        ("/api/v1/meters", "title"),
        ("/projectsx", "title"),
    ],
)
def test_errors_have_the_shape_of_the_path(keyed: Keyed, path: str, field: str) -> None:
    """401 and 403 come as the client of the path reads errors, with the header all the same."""
    other = keyed.make("read", tenants=["a"])
    asked = Asked(keyed)

    missing = asked.send("DELETE", path)
    forbidden = asked.send("PURGE", path, headers={"X-API-Key": other})

    assert (missing.status_code, forbidden.status_code) == (401, 403)
    assert missing.headers["www-authenticate"]
    assert isinstance(json.loads(missing.content)[field], str)
    assert isinstance(json.loads(forbidden.content)[field], str)


def test_no_keys_made(keyed: Keyed) -> None:
    """Before the first key every credential is taken, on this machine."""
    asked = Asked(keyed)

    asked.send("GET", "/v1/status")
    assert asked.principal is ANYBODY
    asked.send("GET", "/v1/status", headers={"X-API-Key": "cm_live_1"})
    assert asked.principal.digest
    assert asked.principal.tenants is None


def test_signed_paths_let_in_whoever_shows_nothing(keyed: Keyed) -> None:
    """meter-lib's events come without a credential, as nobody; with a wrong one they do not."""
    keyed.make("admin")
    reader = keyed.make("read")
    asked = Asked(keyed)

    assert asked.send("POST", "/topics/usage-events").status_code == 200
    assert asked.principal is NOBODY
    wrong = asked.send("POST", "/topics/usage-events", headers={"X-API-Key": "x"})
    assert wrong.status_code == 401
    reads = asked.send("POST", f"/k/{reader}/topics/usage-events")
    assert reads.status_code == 403


def test_metrics_on_this_machine_and_beyond(keyed: Keyed) -> None:
    """Metrics are open on a loopback address; elsewhere they take a key that reads everything."""
    reads_all, reads_one = keyed.make("read"), keyed.make("read", tenants=["a"])

    assert Asked(keyed).send("GET", "/metrics").status_code == 200
    beyond = Asked(keyed, metrics_open=False)
    told = [
        beyond.send("GET", "/metrics", headers=headers).status_code
        for headers in ({}, {"X-API-Key": reads_one}, {"X-API-Key": reads_all})
    ]
    assert told == [401, 403, 200]


def test_guessing_is_limited_by_address(keyed: Keyed) -> None:
    """Wrong keys are soon answered 429 to their address; right ones from there still count."""
    right = keyed.make("read")
    asked = Asked(keyed)

    told = [
        asked.send("GET", "/v1/usage", headers={"X-API-Key": new_key().text}).status_code
        for _ in range(40)
    ]

    assert set(told[:20]) == {401}
    assert set(told[-10:]) == {429}
    assert asked.send("GET", "/v1/usage", headers={"X-API-Key": right}).status_code == 200
    other = asked.send("GET", "/v1/usage", headers={"X-API-Key": "x"}, client="10.0.0.9")
    assert other.status_code == 401
    keyed.clock.seconds += 60
    assert asked.send("GET", "/v1/usage", headers={"X-API-Key": "x"}).status_code in {401, 503}


def test_logs_have_ids_only(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    """A refused key is logged by its id; its secret is nowhere, nor what is no key at all."""
    caplog.set_level(logging.DEBUG)
    keyed.make("read")
    asked = Asked(keyed)
    guess = new_key()

    asked.send("GET", "/v1/usage", headers={"X-API-Key": guess.text})
    asked.send("GET", "/v1/usage", headers={"X-API-Key": "hunter2\x1b[31m"})

    assert guess.id in caplog.text
    assert guess.text[-43:] not in caplog.text
    assert "hunter2" not in caplog.text
    assert "\x1b" not in caplog.text


def test_too_many_requests(keyed: Keyed) -> None:
    """A key that asks too much is told when to go on."""
    from meterstream_services.keys.principal import Rate  # noqa: PLC0415 - of this test only

    key = keyed.make("read", rate=Rate(1, None))
    asked = Asked(keyed)

    told = [
        asked.send("GET", "/v1/usage", headers={"X-API-Key": key}).status_code for _ in range(4)
    ]

    assert told == [200, 200, 429, 429]


def test_keys_that_cannot_be_read(keyed: Keyed) -> None:
    """Nobody is let in then, and everybody is told to come again; health is told all the same."""
    keyed.ring.is_away = True
    asked = Asked(keyed)

    response = asked.send("GET", "/v1/usage")

    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert asked.send("GET", "/health/live").status_code == 200


def test_callers_of_one_network(keyed: Keyed) -> None:
    """Addresses of IPv6 are limited by network, since one caller has as many as it likes."""
    keyed.make("read")
    asked = Asked(keyed)

    told = [
        asked.send(
            "GET", "/v1/usage", headers={"X-API-Key": "x"}, client=f"2001:db8::{n:x}"
        ).status_code
        for n in range(30)
    ]

    assert told[-1] == 429


def test_questions_of_a_key_at_once() -> None:
    """A key asks so many questions at once; one more is told to wait, other keys are not."""
    keyed = Keyed()
    one, other = keyed.make("read", tenants=["a"]), keyed.make("read", tenants=["b"])
    go = asyncio.Event()

    async def slow(_: Scope, __: Receive, send: Send) -> None:
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = AuthMiddleware(slow, keys=keyed.keys, metrics_open=True, clock=keyed.clock)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as to:

            def question(key: str) -> asyncio.Task[httpx.Response]:
                headers = {"x-api-key": key}
                return asyncio.create_task(to.get("/v1/usage", headers=headers))

            waiting = [question(one) for _ in range(QUESTIONS_MAX)]
            await asyncio.sleep(0.05)
            refused = await question(one)
            assert refused.headers["retry-after"] == "1"
            waiting.append(question(other))
            go.set()
            told = [refused.status_code, *[(await each).status_code for each in waiting]]
            return [*told, (await question(one)).status_code]

    assert asyncio.run(ask()) == [429] + [200] * (QUESTIONS_MAX + 2)
