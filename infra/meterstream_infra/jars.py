"""The jars of Apache Kafka, fetched once and verified.

``kafka.jars`` beside this module pins each jar by coordinates and SHA-256, so that a start runs
what was tested, and a download cut off in the middle is noticed and made again. The jars come from
Maven Central (or the mirror in METERSTREAM_MAVEN_URL) through the jar resolver ``jgo`` and stay in
``METERSTREAM_CACHE``, by default the user's cache directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from meterstream_infra.errors import JarsUnavailable, LocalExtraMissing

Progress = Callable[[str], None]

_PARALLEL_DOWNLOADS: Final = 6
_ATTEMPTS: Final = 3
_BACKOFF_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 30


class Jar(NamedTuple):
    """One pinned jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinates(self) -> str:
        """The name under which Maven Central keeps it."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def path(self) -> Path:
        """Where it lies under a Maven repository."""
        name = f"{self.artifact}-{self.version}.jar"
        return Path(*self.group.split("."), self.artifact, self.version, name)


def cache_directory() -> Path:
    """Where downloads are kept: METERSTREAM_CACHE, or ``meterstream`` in the user's cache."""
    if chosen := os.environ.get("METERSTREAM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "meterstream"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterstream"


def pinned_jars() -> list[Jar]:
    """Every jar on the broker's class path, as pinned by ``kafka.jars``."""
    text = resources.files("meterstream_infra").joinpath("kafka.jars").read_text("utf-8")
    pinned = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    jars: list[Jar] = []
    for coordinates, sha256 in pinned:
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def kafka_class_path(progress: Progress | None = None, *, cache: Path | None = None) -> list[Path]:
    """The broker's jars on this machine. Blocks while missing ones come, telling ``progress``.

    Safe to call from several processes at once: one fetches, the others wait. Raises
    `JarsUnavailable` when the network refuses, `LocalExtraMissing` without the extra ``local``.
    """
    jars = pinned_jars()
    repository = (cache or cache_directory()) / "maven"
    complete = repository / f".complete-{_fingerprint(jars)}"
    paths = [repository / jar.path for jar in jars]
    if complete.exists() and all(path.exists() for path in paths):
        return paths
    repository.mkdir(parents=True, exist_ok=True)
    with _alone(repository / ".lock"):
        missing = [jar for jar in jars if not _is_intact(repository / jar.path, jar)]
        if missing:
            _fetch(missing, repository, progress or _no_progress)
        complete.touch()
    return paths


def _fetch(missing: list[Jar], repository: Path, progress: Progress) -> None:
    progress(f"fetching Apache Kafka: {len(missing)} jars, once (kept in {repository})")
    fetched_bytes = 0
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="jars") as pool:
        arriving = [pool.submit(_fetch_one, jar, repository) for jar in missing]
        try:
            for number, arrival in enumerate(as_completed(arriving), start=1):
                fetched_bytes += arrival.result()
                progress(f"jar {number} of {len(missing)}, {fetched_bytes / 1e6:.0f} MB")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(jar: Jar, repository: Path) -> int:
    """Fetch one jar, verify it and put it in its place in one step; its size in bytes."""
    # Imported here: starting with a full cache needs no resolver, and it takes 0.3 s to load.
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415
    except ModuleNotFoundError as problem:
        raise LocalExtraMissing(problem.name or "jgo") from problem

    mirror = os.environ.get("METERSTREAM_MAVEN_URL", "").rstrip("/")
    reason = ""
    for attempt in range(_ATTEMPTS):
        time.sleep(attempt * _BACKOFF_SECONDS)
        with tempfile.TemporaryDirectory(dir=repository, prefix=".arriving-") as scratch:
            context = MavenContext(
                repo_cache=Path(scratch),
                remote_repos={"mirror": mirror} if mirror else None,
                timeout=_TIMEOUT_SECONDS,
            )
            try:
                arrived = context.create_dependency(jar.coordinates).artifact.resolve()
            except (RequestException, RuntimeError, OSError) as problem:
                reason = _in_one_line(problem)
                continue
            if not _is_intact(arrived, jar):
                reason = "what arrived is not the pinned file (its SHA-256 differs)"
                continue
            size = arrived.stat().st_size
            place = repository / jar.path
            place.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(place)
            return size
    raise JarsUnavailable(jar.coordinates, cache=repository.parent, problem=reason)


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fingerprint(jars: list[Jar]) -> str:
    return hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:16]


@contextmanager
def _alone(lock: Path) -> Generator[None]:
    """Hold the lock file against other processes; waits as long as it takes them."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _in_one_line(problem: Exception) -> str:
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"


def _no_progress(_: str) -> None:
    """Where nobody watches."""
