"""The SDK in gunicorn's workers of every kind, with real requests, and among greenlets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import pytest

from tests.integration.sdk_programs.host import BEFORE, COUNTED
from tests.integration.sdk_programs.running import (
    HUNG_SECONDS,
    assert_undisturbed,
    assert_whole,
    environment,
    read_log,
    run,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = pytest.mark.integration

REQUESTS: Final = 120
APP: Final = "tests.integration.sdk_programs.web:app"
SERVERS: Final = {
    "sync": (),
    "sync preload": ("--preload",),
    "sync preload spool": ("--preload",),
    "sync preload recycled": ("--preload", "--max-requests", "20"),
    "gthread preload": ("--preload", "-k", "gthread", "--threads", "4"),
}
GREEN: Final = {
    "gevent": ("-k", "gevent"),
    "gevent preload": ("--preload", "-k", "gevent"),
}


class Server:
    """A gunicorn with two workers of the application `sdk_programs.web`."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.words: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", "-w", "2", *arguments, APP],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.words.append(line)
            if found := re.search(r"Listening at: (http://\S+)", line):
                self.url = found.group(1)
                break
        else:
            raise AssertionError(self.words)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with self._process as process:
            self.words.extend(process.stderr or ())

    def ask(self, quantity: int) -> tuple[int, str]:
        """One request: the worker that answered, and its producer's id."""
        with urlopen(f"{self.url}/?quantity={quantity}", timeout=HUNG_SECONDS) as answer:
            worker, producer = json.load(answer)
        return worker, producer

    def stop(self) -> int:
        """End it in order, by SIGTERM, and return its status."""
        self._process.send_signal(signal.SIGTERM)
        self._reader.join(HUNG_SECONDS)
        return self._process.wait(HUNG_SECONDS)

    def kill(self) -> None:
        """End it at once, with its workers, if it is still there."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()


@pytest.fixture
def server(
    request: pytest.FixtureRequest, broker: Broker, topic: str, tmp_path: Path
) -> Iterator[Server]:
    """A running server of the kind that the test is parametrised with."""
    spool = tmp_path / "spool" if "spool" in request.param else None
    told = environment(broker, topic, spool) | {"HOST_RECORDS_AT_IMPORT": "1"}
    server = Server((SERVERS | GREEN)[request.param], told)
    yield server
    server.kill()


def ask_both(server: Server) -> list[tuple[int, str]]:
    """Who answered which quantity, from 1: so many requests, and more until both workers serve."""
    answered: list[tuple[int, str]] = []
    with ThreadPoolExecutor(4) as clients:
        while len(answered) < REQUESTS or len(set(answered)) < 2:
            assert len(answered) < 100 * REQUESTS
            start = len(answered) + 1
            answered.extend(clients.map(server.ask, range(start, start + REQUESTS)))
    return answered


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_every_request_is_metered_once(
    broker: Broker, topic: str, server: Server, request: pytest.FixtureRequest
) -> None:
    """Two workers, four clients, SIGTERM: all events once, each under its worker's producer id."""
    answered = ask_both(server)

    assert server.stop() == 0, server.words
    assert not [line for line in server.words if "Traceback" in line or "ERROR" in line]
    log = read_log(broker, topic)
    at_import = [0] if "preload" in request.node.name else [0, 0]
    assert_whole(log, [*at_import, *range(1, len(answered) + 1)])
    assert {event.quantity: event.producer for event in log.usage if event.quantity} == {
        quantity: producer for quantity, (_, producer) in enumerate(answered, start=1)
    }
    assert len(set(answered)) == len({worker for worker, _ in answered})


@pytest.mark.parametrize("server", GREEN, indirect=True)
def test_workers_of_greenlets_deliver_while_they_serve(
    broker: Broker, topic: str, server: Server
) -> None:
    """Whether the SDK was imported before or after the patching: all events, each once.

    Read before the end, since such a worker's own end hangs at times, with or without the SDK.
    """
    answered = ask_both(server)

    eventually(lambda: len(set(read_log(broker, topic).quantities())) == 1 + len(answered))
    server.kill()
    log = read_log(broker, topic)
    assert set(log.numbers().values()) == {1}
    assert {event.quantity: event.producer for event in log.usage if event.quantity} == {
        quantity: producer for quantity, (_, producer) in enumerate(answered, start=1)
    }


def test_greenlets_run_on_while_the_sdk_delivers_and_flushes(broker: Broker, topic: str) -> None:
    """No wait of the SDK, not even a flush, holds up the hub."""
    ended = run("green", "there", broker, topic)

    assert_undisturbed(ended, status=0)
    assert ended.said["flushed"] == ["True"]
    log = read_log(broker, topic)
    hot = [event for event in log.usage if event.type == "hot"]
    assert sum(event.quantity for event in hot) == COUNTED
    assert_whole(log, [*range(BEFORE), *(event.quantity for event in hot)])
    assert ended.promised() == set(log.numbers())


def test_greenlets_run_on_while_there_is_no_broker(broker: Broker, topic: str) -> None:
    """While a flush waits three seconds in vain, no other greenlet waits a third of that."""
    ended = run("green", "away", broker, topic)

    assert ended.status == 0
    assert "Traceback" not in ended.stderr
    assert ended.said["flushed"] == ["False"]
    (waited,), (longest,) = ended.said["waited"], ended.said["longest"]
    assert float(longest) < float(waited) / 3
    assert int(ended.said["turns"][0]) > 30
