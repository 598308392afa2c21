"""The demo's course: start everything, let the fleet send, kill a worker, read the books.

1. ``meterstream up`` in a process of its own, over an embedded or an external broker.
2. The fleet: one process per simulated service.
3. As soon as something is counted, the worker gets SIGKILL; `up` starts it again.
4. The wait until every number that was spent is seen by the aggregator.
5. The comparison of every figure with the plan.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

from meterstream_schemas.connection import Connection, read_connection
from meterstream_services.client import Api
from meterstream_services.demo.errors import DemoError
from meterstream_services.demo.plan import SESSIONS, TENANTS, Books, Plan, draw_plan, expected
from meterstream_services.lifeline import Lifeline

START_SECONDS: Final = 600.0
"""Longest start: the first one fetches the broker's jars."""
COUNT_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.2
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GROUPS: Final = {"api.requests": "route", "llm.tokens": "model"}
_METERS: Final = ("api.requests", "api.bytes", "llm.tokens", "llm.cost", "agent.seconds")


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """``scale`` multiplies the events, ``send_seconds`` is how long the fleet takes to send."""

    data: Path
    http: str = "127.0.0.1:0"
    seed: int = 20260101
    scale: int = 1
    send_seconds: float = 6.0


@dataclass(slots=True)
class DemoResult:
    """Sent against counted, and what happened on the way."""

    connection: Connection
    sent: Books
    counted: Books
    calls: int
    repeated: int
    duplicates: int = 0
    resent: int = 0
    asked_from: str = ""
    asked_to: str = ""
    killed: int | None = None
    restarted: int | None = None
    faults: list[str] = field(default_factory=list)


class Demo:
    """One demo. A context manager: everything it started is stopped at the end of the block."""

    def __init__(self, settings: DemoSettings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._lifeline = Lifeline()
        self._up: subprocess.Popen[str] | None = None
        self._until = _now_of_plan()
        self._topic = f"meterstream.demo-{os.urandom(4).hex()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._up is not None:
            self._up.terminate()
            self._up.wait()
        self._lifeline.close()

    def run(self) -> DemoResult:
        """The whole course. Raises `DemoError` when it cannot be carried through."""
        settings = self._settings
        connection = self._start()
        plan = draw_plan(settings.seed, until=self._until, scale=settings.scale)
        result = DemoResult(connection, expected(plan), {}, plan.calls, plan.repeated)
        self._say(
            f"{len(plan.services)} services send {plan.calls:,} events, {plan.repeated:,} of them "
            "repeats of others, in no order of time"
        )
        with Api(connection.url) as api:
            producers = self._send(plan, connection, api, result)
            self._await_counts(api, producers, result)
            result.asked_from, result.asked_to = _span(self._until)
            self._read_books(api, result)
        result.faults += differences(result)
        return result

    def wait(self) -> None:
        """Block until `up` ends or Ctrl-C."""
        if self._up is not None:
            self._up.wait()

    def _start(self) -> Connection:
        catalogue = self._settings.data / "demo.yaml"
        self._settings.data.mkdir(parents=True, exist_ok=True)
        catalogue.write_text(catalogue_text(), "utf-8")
        arguments = ["--data", str(self._settings.data), "--http", self._settings.http]
        arguments += ["--catalogue", str(catalogue), "--topic", self._topic]
        self._up = subprocess.Popen(
            [sys.executable, "-m", "meterstream_services.cli.main", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | self._lifeline.environment,
            pass_fds=(self._lifeline.descriptor,),
            start_new_session=True,
        )
        threading.Thread(target=self._relay, args=(self._up,), daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while (connection := read_connection(self._settings.data)) is None:
            if self._up.poll() is not None:
                raise DemoError("`meterstream up` did not start; its own words are above")
            if time.monotonic() > deadline:
                raise DemoError(f"`meterstream up` was not ready within {START_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)
        return connection

    def _relay(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._say(f"up: {line.rstrip().removeprefix('meterstream: ')}")

    def _send(
        self, plan: Plan, connection: Connection, api: Api, result: DemoResult
    ) -> dict[str, int]:
        """Run the fleet and kill the worker in the middle. Producer ids with their numbers."""
        settings = self._settings
        facts = (settings.seed, self._until, settings.scale, settings.send_seconds)
        arguments = [*map(str, facts), connection.bootstrap_servers, self._topic]
        processes = {
            name: subprocess.Popen(
                [sys.executable, "-m", "meterstream_services.demo.fleet", name, *arguments],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | self._lifeline.environment,
                pass_fds=(self._lifeline.descriptor,),
            )
            for name in plan.services
        }
        try:
            self._kill_worker(api, result)
            return self._outcomes(processes, plan, result)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()

    def _outcomes(
        self, processes: dict[str, subprocess.Popen[str]], plan: Plan, result: DemoResult
    ) -> dict[str, int]:
        producers: dict[str, int] = {}
        for name, process in processes.items():
            output, _ = process.communicate(timeout=COUNT_SECONDS)
            if process.returncode != 0:
                raise DemoError(f"the service {name} failed with exit status {process.returncode}")
            told = json.loads(output.splitlines()[-1])
            if told["recorded"] != len(plan.services[name]) or told["dropped"] or told["failed"]:
                raise DemoError(f"the service {name} could not record all it planned: {told}")
            producers[told["producer"]] = told["recorded"]
            result.resent += told["resent"]
        return producers

    def _kill_worker(self, api: Api, result: DemoResult) -> None:
        deadline = time.monotonic() + COUNT_SECONDS
        while not _seen(api):
            if time.monotonic() > deadline:
                raise DemoError(f"nothing was counted within {COUNT_SECONDS:g} s; see `up` above")
            time.sleep(_POLL_SECONDS)
        result.killed = self._worker()
        if result.killed is None:
            raise DemoError("there is no worker to be killed; see `up` above")
        self._say(f"kill -9 {result.killed} (the worker), while it counts")
        os.kill(result.killed, signal.SIGKILL)
        while (again := self._worker()) in {None, result.killed}:
            if time.monotonic() > deadline:
                raise DemoError("the worker was not started again; see `up` above")
            time.sleep(_POLL_SECONDS)
        result.restarted = again

    def _worker(self) -> int | None:
        processes = json.loads((self._settings.data / "processes.json").read_text("utf-8"))
        process = processes.get("worker")
        return process if isinstance(process, int) else None

    def _await_counts(self, api: Api, producers: dict[str, int], result: DemoResult) -> None:
        deadline = time.monotonic() + COUNT_SECONDS
        while True:
            known = {entry["producer"]: entry for entry in _reconciled(api)}
            seen = {name: known[name]["seen"] if name in known else 0 for name in producers}
            if seen == producers:
                break
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{sum(seen.values())} of {sum(producers.values())} events are counted after "
                    f"{COUNT_SECONDS:g} s; the logs are in {self._settings.data / 'logs'}"
                )
            time.sleep(_POLL_SECONDS)
        result.duplicates = sum(known[name]["duplicates"] for name in producers)
        for name in producers:
            if known[name]["missing"] or known[name]["refused"]:
                result.faults.append(f"producer {name}: {known[name]}")

    def _read_books(self, api: Api, result: DemoResult) -> None:
        for meter in _METERS:
            for row in _usage(api, meter, result):
                group = " ".join(f"{name}={value}" for name, value in row["group"].items())
                result.counted[meter, row["tenant"], group] = Decimal(row["value"])
                if meter == "agent.seconds":
                    events = Decimal(row["events"])
                    result.counted[SESSIONS, row["tenant"], ""] = events


def catalogue_text() -> str:
    """The demo's catalogue."""
    return resources.files("meterstream_services.demo").joinpath("demo.yaml").read_text("utf-8")


def tenant_lines(result: DemoResult) -> list[tuple[str, str, Decimal, Decimal]]:
    """(tenant, meter, sent, counted), groups joined."""
    meters = [*_METERS, SESSIONS]
    return [
        (tenant, meter, _joined(result.sent, meter, tenant), _joined(result.counted, meter, tenant))
        for tenant in TENANTS
        for meter in meters
    ]


def _joined(books: Books, meter: str, tenant: str) -> Decimal:
    return sum(
        (amount for (m, t, _), amount in books.items() if (m, t) == (meter, tenant)), Decimal(0)
    )


def differences(result: DemoResult) -> list[str]:
    """Every figure that was sent and counted differently, in words."""
    found: list[str] = []
    for key in sorted(result.sent.keys() | result.counted.keys()):
        sent, counted = result.sent.get(key, Decimal(0)), result.counted.get(key, Decimal(0))
        if sent != counted:
            found.append(f"{' '.join(key)}: {sent} sent, {counted} counted")
    # A sending that the SDK repeated for want of a report is found as a duplicate, too.
    if not 0 <= result.duplicates - result.repeated <= result.resent:
        found.append(f"{result.repeated} repeats sent, {result.duplicates} found")
    return found


def _usage(api: Api, meter: str, result: DemoResult) -> list[Any]:
    parameters = [("meter", meter), ("from", result.asked_from), ("to", result.asked_to)]
    parameters += [("by", _GROUPS[meter])] if meter in _GROUPS else []
    return list(api.get("/v1/usage", parameters)["rows"])


def _span(until: int) -> tuple[str, str]:
    """Whole hours in UTC around all event times of a plan."""
    end = _hour(_EPOCH + timedelta(microseconds=until)) + _HOUR
    return f"{end - 4 * _HOUR:%Y-%m-%dT%H:%MZ}", f"{end:%Y-%m-%dT%H:%MZ}"


def _seen(api: Api) -> int:
    return sum(int(entry["seen"]) for entry in _reconciled(api))


def _reconciled(api: Api) -> list[Any]:
    return list(api.get("/v1/reconcile")["producers"])


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _now_of_plan() -> int:
    now = datetime.now(UTC)
    return (now - _EPOCH) // timedelta(microseconds=1)
