"""The embedded PostgreSQL: it keeps its address and data, and ends with whoever started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_infra.database import EmbeddedDatabase
from meterstream_infra.errors import DatabaseFailed
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_RUN = ("capture_output", "check")
_KEPT = {"address", "password", "cluster", "database.log"}
PROGRAM = """
import sys, time
from pathlib import Path
from meterstream_infra.database import EmbeddedDatabase
database = EmbeddedDatabase(Path(sys.argv[1]))
database.start()
print(database.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any user may enter: the server does not run as root."""
    made = Path(tempfile.mkdtemp(prefix="meterstream-database-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _ask(database: EmbeddedDatabase, statement: str) -> list[tuple[object, ...]]:
    with connect(PostgresAddress(database.url, "public"), "migrate") as connection:
        found = connection.execute(statement.encode())
        return list(found.fetchall()) if found.description else []


def test_it_is_the_same_database_after_a_crash(place: Path) -> None:
    """Address, password and rows stay; the first start says what it does, the second nothing."""
    said: list[str] = []
    database = EmbeddedDatabase(place / "data", progress=said.append)
    with database:
        url = database.url
        _ask(database, "CREATE TABLE kept (n integer)")
        _ask(database, "INSERT INTO kept VALUES (7)")
        database.crash()
        assert not database.alive()

    with database:
        assert database.url == url
        assert _ask(database, "SELECT n FROM kept") == [(7,)]
    assert not database.alive()
    assert len(said) == 1
    assert (place / "data" / "password").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_it_ends_with_whoever_started_it(place: Path) -> None:
    """Whoever started it is killed with -9: nothing is left running, and it starts again."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place / "data")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    server = int(process.stdout.readline())
    assert psutil.pid_exists(server)

    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    eventually(lambda: not psutil.pid_exists(server), timeout_seconds=60)
    with EmbeddedDatabase(place / "data") as database:
        assert _ask(database, "SELECT 1") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_a_directory_that_its_user_cannot_enter_is_told_of(place: Path) -> None:
    """Nothing above the data directory is opened to others: the sentence says what to do."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DatabaseFailed, match=f"cannot enter {closed}; name a data directory"):
        EmbeddedDatabase(closed / "data").start()

    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_setting_it_does_not_know_is_told(place: Path) -> None:
    """The server ends while starting; its own words are in the error, and nothing runs."""
    database = EmbeddedDatabase(place / "data", settings={"no_such_setting": "1"})
    with pytest.raises(DatabaseFailed, match=r"(?s)ended while starting.*no_such_setting"):
        database.start()

    assert not database.alive()


def test_a_database_that_was_killed_while_it_was_made_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a cluster looks like a whole one to whoever looks for a file or two."""
    run = subprocess.run

    def killed(
        command: list[str | Path],
        **given: Any,  # noqa: ANN401 - as `subprocess.run` takes them
    ) -> subprocess.CompletedProcess[str]:
        cluster = next(Path(str(part)[9:]) for part in command if str(part)[:9] == "--pgdata=")
        given = {name: value for name, value in given.items() if name not in _OF_RUN}
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **given
        ) as making:
            eventually((cluster / "PG_VERSION").exists, timeout_seconds=60)
            making.kill()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedDatabase(place / "data").start()
    monkeypatch.setattr(subprocess, "run", run)

    with EmbeddedDatabase(place / "data") as database:
        assert _ask(database, "SELECT 1") == [(1,)]
    assert {path.name for path in (place / "data").iterdir()} == _KEPT
