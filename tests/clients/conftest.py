"""One real `meterstream up` for all tests that drive the clients' own packages against it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_schemas.connection import read_connection
from meterstream_services.listening import free_port
from tests.integration.up_process import Machine, running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.conftest import Broker

LOOKUP_HOST = "metering.metering.svc.cluster.local"
"""By what name meter-lib calls where it is given no address; `up` is told to know it."""

_CATALOGUE = """\
metering_since: {since}
accept_from: 2020-01-01T00:00:00Z
meters:
  - name: own.calls
    type: own.call
    aggregate: count
"""
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running `up` with all ready catalogues. No keys are made: any credential is taken.

    Tests share it: each uses tenants of its own (`fresh`), so that its figures are its own.
    """

    machine: Machine
    url: str
    unimeter: str
    """``host:port`` of the Unimeter port; accounts are tenants there."""
    bootstrap_servers: str
    topic: str

    @property
    def data(self) -> Path:
        """The data directory: store.sqlite3, keys.sqlite3, clients.sqlite3, logs/serve.log."""
        return self.machine.data

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = (), **options: Any) -> Any:  # noqa: ANN401 - JSON may be anything
        """What a GET answers as JSON; it must be a 2xx."""
        answer = httpx.get(f"{self.url}{path}", params=list(parameters), timeout=30, **options)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def figures(
        self,
        meter: str,
        *,
        tenant: str,
        by: Sequence[str] = (),
        start: str = "2020-01-01",
        end: str = "2030-01-01",
        **more: str,
    ) -> dict[tuple[str, ...], Decimal]:
        """The figures of a meter for one tenant, now: value by group; ``()`` without groups."""
        parameters = [("meter", meter), ("tenant", tenant), ("from", start), ("to", end)]
        parameters += [("by", name) for name in by] + list(more.items())
        rows = self.get("/v1/usage", parameters)["rows"]
        return {tuple(row["group"][name] for name in by): Decimal(row["value"]) for row in rows}

    def wait_for(
        self,
        meter: str,
        expected: int | str | Decimal | Mapping[Any, int | str | Decimal],
        *,
        tenant: str,
        by: Sequence[str] = (),
        timeout_seconds: float = 30,
        **more: str,
    ) -> None:
        """Return as soon as a meter's figures are the expected ones; fail with what they are.

        A bare number is the one figure of the tenant; 0 is also no figure at all.
        """
        wanted: dict[tuple[str, ...], Decimal]
        if isinstance(expected, int | str | Decimal):
            wanted = {(): Decimal(expected)} if Decimal(expected) else {}
        else:
            wanted = {group: Decimal(value) for group, value in expected.items()}
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = self.figures(meter, tenant=tenant, by=by, **more)
            if found == wanted or (not wanted and not any(found.values())):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{meter} of {tenant} is {found}, not {wanted}")
            time.sleep(_POLL_SECONDS)

    def settle(self, *, timeout_seconds: float = 30) -> None:
        """Return when everything that was accepted before this call is folded into the store.

        An event of a tenant of its own is sent last into every partition's queue and waited for;
        use it before asserting that something was *not* counted.
        """
        names = [f"settling-{uuid.uuid4().hex}" for _ in range(40)]
        events = [{"type": "own.call", "tenant": name} for name in names]
        answer = httpx.post(f"{self.url}/v1/events", json=events, timeout=30)
        assert answer.is_success, answer.text
        parameters = [("meter", "own.calls"), ("from", "2020-01-01"), ("to", "2100-01-01")]
        parameters += [("tenant", name) for name in names]
        eventually(
            lambda: len(self.get("/v1/usage", parameters)["rows"]) == len(names),
            timeout_seconds=timeout_seconds,
        )


@pytest.fixture(scope="session")
def gateway(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`up --clients all` on the run's broker, with a topic and a data directory of its own."""
    directory = tmp_path_factory.mktemp("clients")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    catalogue = directory / "own.yaml"
    catalogue.write_text(_CATALOGUE.format(since=f"{yesterday:%Y-%m-%d}T00:00:00Z"), "utf-8")
    topic = f"test.{uuid.uuid4().hex}.events"
    unimeter = f"127.0.0.1:{free_port('127.0.0.1')}"
    options = [
        *("--clients", "all"),
        *("--bootstrap", broker.bootstrap_servers, "--topic", topic, "--partitions", "4"),
        *("--unimeter", unimeter),
        *("--known-host", LOOKUP_HOST),
    ]
    with running_up(directory / "data", catalogue, *options) as machine:
        connection = read_connection(machine.data)
        assert connection is not None
        yield Gateway(machine, connection.url, unimeter, broker.bootstrap_servers, topic)


@pytest.fixture
def fresh() -> str:
    """A name that no other test uses: for tenants, projects, customers."""
    return f"t-{uuid.uuid4().hex[:20]}"
