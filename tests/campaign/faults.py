"""What goes wrong in a campaign: each fault begins, lasts a while, and ends mended.

A fault is a context: inside it something is broken. Two may be broken at once. What dies is counted
in ``stack.killed``, by kind.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg
from confluent_kafka import Producer

from tests.campaign.poison import poison
from tests.campaign.stack import PRODUCERS, TOPIC, WORKERS, Stack, end
from tests.campaign.verifier.walking import POISON

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from tests.faults.proxy import Proxy

SESSION_SECONDS: Final = 10.0
"""After this a worker that says nothing is no member of the group any more."""


class Fault(NamedTuple):
    """A fault by its name; ``weight``: how often it is drawn; ``seconds``: how long it lasts."""

    name: str
    weight: int
    seconds: tuple[float, float]
    broken: Callable[[Stack], AbstractContextManager[None]]
    store: str | None = None
    """The kind of store that it needs."""


@contextmanager
def worker_killed(stack: Stack) -> Generator[None]:
    """One worker dies and is started again."""
    number = stack.a_working_worker()
    _kill(stack, "worker", stack.workers[number])
    yield
    stack.start_worker(number)


@contextmanager
def workers_killed(stack: Stack) -> Generator[None]:
    """All workers die at once."""
    stack.a_working_worker()
    for process in stack.workers.values():
        _kill(stack, "worker", process)
    yield
    for number in range(WORKERS):
        stack.start_worker(number)


@contextmanager
def worker_ended(stack: Stack) -> Generator[None]:
    """A worker is told to end under load."""
    number = stack.a_working_worker()
    had_given_up = stack.workers[number].poll() is not None
    stack.workers[number].terminate()
    yield
    if not had_given_up:
        end(f"worker {number}", stack.workers[number])
    stack.start_worker(number)


@contextmanager
def worker_stopped(stack: Stack) -> Generator[None]:
    """A worker stands still, wherever it is, and goes on as if nothing had been."""
    process = stack.workers[stack.a_working_worker()]
    process.send_signal(signal.SIGSTOP)
    yield
    process.send_signal(signal.SIGCONT)


@contextmanager
def producer_killed(stack: Stack) -> Generator[None]:
    """A producer dies; the next one on its spool sends what it left."""
    number = stack.chance.randrange(PRODUCERS)
    _kill(stack, "producer", stack.producers[number])
    yield
    stack.start_producer(number)


@contextmanager
def producer_ended(stack: Stack) -> Generator[None]:
    """A producer closes in order."""
    number = stack.chance.randrange(PRODUCERS)
    stack.producers[number].terminate()
    yield
    end(f"producer {number}", stack.producers[number])
    stack.start_producer(number)


@contextmanager
def spool_copied(stack: Stack) -> Generator[None]:
    """A dead producer's spool is sent twice, by two processes that do not know of each other."""
    number = stack.chance.randrange(PRODUCERS)
    _kill(stack, "producer", stack.producers[number])
    copy = stack.place / f"spool-{stack.lives}"
    # The living write there meanwhile; a copy of a living one's spool is one of a torn moment.
    shutil.copytree(stack.spool, copy, ignore_dangling_symlinks=True, copy_function=_copy)
    yield
    stack.start_producer(number)
    stack.adopt_meanwhile(copy)


@contextmanager
def broker_killed(stack: Stack) -> Generator[None]:
    """The broker dies."""
    if stack.broker.alive():
        stack.broker.kill()
        stack.killed["broker"] += 1
    yield
    stack.start_broker()


@contextmanager
def broker_ended(stack: Stack) -> Generator[None]:
    """The broker ends in order."""
    stack.broker.stop()
    yield
    stack.start_broker()


@contextmanager
def database_killed(stack: Stack) -> Generator[None]:
    """The database's first process dies by SIGKILL; its others see that and follow."""
    database = stack.database
    assert database is not None
    if (pid := database.pid) is not None:
        with suppress(ProcessLookupError):
            stack.kill(pid)
        stack.killed["database"] += 1
    yield
    stack.start_database()


@contextmanager
def database_crashed(stack: Stack) -> Generator[None]:
    """The database stops immediately, in the middle of what it does."""
    assert stack.database is not None
    stack.database.crash()
    stack.killed["database"] += 1
    yield
    stack.start_database()


@contextmanager
def database_restarted(stack: Stack) -> Generator[None]:
    """The database ends all sessions and stops."""
    assert stack.database is not None
    stack.database.stop()
    yield
    stack.start_database()


@contextmanager
def store_locked(stack: Stack) -> Generator[None]:
    """Somebody holds what every commit needs, and does nothing."""
    if stack.database is None:
        connection = sqlite3.connect(stack.store, isolation_level=None, timeout=30)
        with suppress(sqlite3.OperationalError):
            connection.execute("BEGIN IMMEDIATE")
        yield
        connection.close()
        return
    try:
        database = psycopg.connect(stack.plain_url, connect_timeout=3)
    except psycopg.Error:  # Broken by another fault at the same time.
        yield
        return
    with suppress(psycopg.Error), database:
        database.execute("LOCK TABLE campaign.position IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def network_cut(stack: Stack) -> Generator[None]:
    """A cable is pulled between two, in one direction or both."""
    proxy = _network(stack)
    proxy.cut(*stack.chance.choice(((), ("up",), ("down",))))
    yield
    proxy.heal()


@contextmanager
def network_slow(stack: Stack) -> Generator[None]:
    """Everything takes its time between two."""
    proxy = _network(stack)
    proxy.slow(stack.chance.uniform(0.05, 1.0))
    yield
    proxy.heal()


@contextmanager
def network_reset(stack: Stack) -> Generator[None]:
    """Connections are reset again and again, at whatever they are: in a COMMIT, too."""
    proxy = _network(stack)
    for _ in range(stack.chance.randrange(1, 12)):
        proxy.reset()
        time.sleep(stack.chance.uniform(0.01, 0.2))
    yield


@contextmanager
def network_refused(stack: Stack) -> Generator[None]:
    """One cannot reach the other."""
    proxy = _network(stack)
    proxy.refuse()
    yield
    proxy.heal()


@contextmanager
def poisoned(stack: Stack) -> Generator[None]:
    """Somebody writes what is no event into the topic."""
    producer = Producer({"bootstrap.servers": stack.broker.bootstrap_servers, "acks": "all"})
    for each in poison(stack.chance, time.time_ns() // 1000):
        partition = stack.chance.randrange(4)
        headers: list[tuple[str, str | bytes | None]] = [(POISON, each.reason)]
        producer.produce(
            TOPIC,
            each.value,
            each.key,
            partition,
            headers=headers,
        )
    yield
    producer.flush(30)


FAULTS: Final = (
    Fault("worker killed", 30, (0.0, 1.0), worker_killed),
    Fault("all workers killed", 3, (0.0, 1.0), workers_killed),
    Fault("worker ended", 5, (0.0, 0.5), worker_ended),
    Fault("worker stopped", 6, (0.5, 3.0), worker_stopped),
    Fault("worker stopped past its session", 2, (11.0, 14.0), worker_stopped),
    Fault("producer killed", 22, (0.0, 0.5), producer_killed),
    Fault("producer ended", 3, (0.0, 0.5), producer_ended),
    Fault("spool copied", 4, (0.0, 0.5), spool_copied),
    Fault("broker killed", 3, (0.0, 0.5), broker_killed),
    Fault("broker killed for long", 1, (4.0, 9.0), broker_killed),
    Fault("broker ended", 1, (0.0, 1.0), broker_ended),
    Fault("network cut", 6, (0.5, 5.0), network_cut),
    Fault("network cut past the session", 1, (11.0, 14.0), network_cut),
    Fault("network slow", 4, (1.0, 4.0), network_slow),
    Fault("network reset", 8, (0.0, 0.5), network_reset),
    Fault("network refused", 4, (0.5, 4.0), network_refused),
    Fault("store locked", 6, (0.5, 7.0), store_locked),
    Fault("poison", 5, (0.0, 0.2), poisoned),
    Fault("database killed", 8, (0.0, 0.5), database_killed, "postgres"),
    Fault("database crashed", 12, (0.0, 2.0), database_crashed, "postgres"),
    Fault("database restarted", 4, (0.0, 1.0), database_restarted, "postgres"),
)


def _kill(stack: Stack, kind: str, process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    stack.killed[kind] += 1


def _network(stack: Stack) -> Proxy:
    return stack.networks[stack.chance.choice(sorted(stack.networks))]


def _copy(source: str, target: str) -> str:
    """Copy a file, unless it is gone by now."""
    with suppress(FileNotFoundError):
        return shutil.copy2(source, target)
    return target
