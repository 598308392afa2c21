"""What tests share: one real broker a run, a fresh topic a test, and a red run without either."""

from __future__ import annotations

import logging
import os
import sys
import uuid
import zlib
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import pytest
import structlog

from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics, wait_for_broker
from tests.databases import Postgres, postgres_of_the_run
from tests.docker_broker import DockerUnavailable, docker_answers, docker_broker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from meterstream_aggregator.store.address import PostgresAddress

# Two busy cores are no reason for a property to fail; a found case is worth a line to rerun it.
hypothesis.settings.register_profile("meterstream", deadline=None, print_blob=True)
hypothesis.settings.load_profile("meterstream")

_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps the settings of a property; it has no public name for this."""

_others = pytest.StashKey[int]()
"""Tests that are in other parts of this run."""
_executed = pytest.StashKey[int]()
_broker_kind = pytest.StashKey[str]()
_database_kind = pytest.StashKey[str]()


class Broker(NamedTuple):
    """The real broker of this run. ``kind`` is external, docker or embedded."""

    bootstrap_servers: str
    kind: str


@pytest.fixture(autouse=True)
def _logging_as_found() -> Iterator[None]:
    """A process that a test played set logging up for itself: its handlers end with the test."""
    root, ours = logging.getLogger(), logging.getLogger("meterstream")
    levels = root.level, ours.level
    yield
    for handler in list(root.handlers):
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """A real broker: METERSTREAM_TEST_BOOTSTRAP_SERVERS, else Docker, else the embedded one."""
    for found in _brokers(tmp_path_factory):
        request.config.stash[_broker_kind] = f"{found.kind} at {found.bootstrap_servers}"
        yield found


@pytest.fixture
def topic(broker: Broker) -> str:
    """The name of a fresh events topic with four partitions and append times."""
    name = f"test.{uuid.uuid4().hex}.events"
    ensure_topics(broker.bootstrap_servers, partitions=4, events_topic=name)
    return name


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A real PostgreSQL: METERSTREAM_TEST_DATABASE_URL, else Docker, else the embedded one."""
    with postgres_of_the_run() as found:
        request.config.stash[_database_kind] = found.kind
        yield found


@pytest.fixture
def postgres_address(postgres: Postgres) -> Iterator[PostgresAddress]:
    """A fresh store on PostgreSQL, in a schema of its own."""
    with postgres.store() as address:
        yield address


def _brokers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Broker]:
    why = ""
    if external := os.environ.get("METERSTREAM_TEST_BOOTSTRAP_SERVERS"):
        wait_for_broker(external, timeout_seconds=30)
        yield Broker(external, "external")
        return
    insisted = bool(os.environ.get("METERSTREAM_TEST_DOCKER"))
    if insisted or docker_answers():
        try:
            with docker_broker() as address:
                yield Broker(address, "docker")
            return
        except DockerUnavailable as problem:
            if insisted:
                raise
            why = f", since Docker answers but runs no Kafka: {problem}"
    data = tmp_path_factory.mktemp("broker")
    with EmbeddedBroker(data, progress=_say) as embedded:
        yield Broker(embedded.bootstrap_servers, f"embedded{why}")


def _say(line: str) -> None:
    """Tell of downloads: shown with a failure, and with ``-s`` while they come."""
    sys.stderr.write(f"{line}\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare --require-broker."""
    parser.addoption(
        "--require-broker",
        action="store_true",
        help="fail the run when no test marked 'integration' was executed",
    )
    parser.addoption(
        "--quick",
        action="store_true",
        help="an eighth of the examples of every property: for the loop of editing and trying",
    )
    parser.addoption(
        "--part",
        metavar="K/N",
        help="the K-th of N parts of the test files, which together are all of them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a part of the files with --part; with --quick, take fewer examples, at least eight."""
    if part := config.getoption("--part"):
        number, _, parts = part.partition("/")
        chosen = [item for item in items if _part_of(item, int(parts)) == int(number) - 1]
        kept = set(chosen)
        config.stash[_others] = len(items) - len(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = chosen
    if not config.getoption("--quick"):
        return
    for item in items:
        function = getattr(item, "obj", None)
        told = getattr(function, _SETTINGS, None)
        if told is not None:
            fewer = hypothesis.settings(told, max_examples=max(told.max_examples // 8, 8))
            setattr(getattr(function, "__func__", function), _SETTINGS, fewer)


def _part_of(item: pytest.Item, parts: int) -> int:
    """Of whole files, so that what a file sets up is set up once."""
    return zlib.crc32(item.nodeid.partition("::")[0].encode()) % parts


def pytest_configure(config: pytest.Config) -> None:
    """Start counting the tests that ran on the real broker."""
    config.stash[_executed] = 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Count a test that really ran on the broker, not one that was only collected or skipped."""
    yield
    if item.get_closest_marker("integration") and "broker" in getattr(item, "fixturenames", ()):
        item.config.stash[_executed] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a run red that was to use the broker and did not; a part may be without tests."""
    if (
        session.config.stash.get(_others, 0)
        and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    ):
        session.exitstatus = pytest.ExitCode.OK
    if session.config.getoption("--require-broker") and not session.config.stash[_executed]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what the run stood on, and how to run a failure again."""
    if kind := config.stash.get(_database_kind, ""):
        terminalreporter.write_line(f"tests on PostgreSQL ran on a real one ({kind})")
    executed = config.stash[_executed]
    if executed:
        kind = config.stash.get(_broker_kind, "no broker")
        terminalreporter.write_line(f"{executed} tests passed on the real broker ({kind})")
    elif config.getoption("--require-broker"):
        terminalreporter.write_line("no test ran on the real broker: this run proves nothing")
    failed = terminalreporter.stats.get("failed", []) + terminalreporter.stats.get("error", [])
    seed = config.getoption("randomly_seed", default=None)
    for report in failed[:10]:
        terminalreporter.write_line(f"again: pytest --randomly-seed={seed} '{report.nodeid}'")
