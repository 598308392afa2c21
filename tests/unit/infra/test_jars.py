"""Fetching the broker's jars: what a refusing network, a cut line and a full cache lead to."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from meterstream_infra import jars
from meterstream_infra.errors import JarsUnavailable
from meterstream_infra.jars import Jar, cache_directory, kafka_class_path, pinned_jars
from meterstream_infra.ports import draw_free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = b"what was tested"


class Mirror(ThreadingHTTPServer):
    """A Maven repository on this machine that serves what a test puts into ``files``."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_once: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        """Serve a file or say that there is none."""
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content and self.path in self.server.cut_once:
            self.server.cut_once.remove(self.path)
            content = content[: len(content) // 2]
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep the tests' output clean."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror that fetching uses, with no waiting between attempts."""
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("METERSTREAM_MAVEN_URL", server.url)
    monkeypatch.setattr("meterstream_infra.jars._BACKOFF_SECONDS", 0)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Jar]:
    """Two small jars in place of the broker's."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    chosen = [Jar("org.example", name, "1.0", digest) for name in ("broker", "client")]
    monkeypatch.setattr(jars, "pinned_jars", lambda: chosen)
    return chosen


def serve(mirror: Mirror, pinned: list[Jar], content: bytes = CONTENT) -> None:
    """Put every pinned jar onto the mirror."""
    mirror.files = {f"/{jar.path.as_posix()}": content for jar in pinned}


def test_fetched_jars_lie_in_the_cache(mirror: Mirror, pinned: list[Jar], tmp_path: Path) -> None:
    """Every pinned jar arrives under the cache, in class path order, and progress is told."""
    serve(mirror, pinned)
    told: list[str] = []

    paths = kafka_class_path(told.append, cache=tmp_path)

    assert [path.name for path in paths] == ["broker-1.0.jar", "client-1.0.jar"]
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert "2 jars" in told[0]
    assert told[-1].startswith("jar 2 of 2")


def test_full_cache_asks_nobody(mirror: Mirror, pinned: list[Jar], tmp_path: Path) -> None:
    """Once the jars are there, the network is left alone."""
    serve(mirror, pinned)
    first = kafka_class_path(cache=tmp_path)
    mirror.asked.clear()

    again = kafka_class_path(cache=tmp_path)

    assert again == first
    assert mirror.asked == []


def test_refused_network_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, pinned: list[Jar], tmp_path: Path
) -> None:
    """Where nothing answers, the error names a jar, the cache and the ways out."""
    monkeypatch.setenv("METERSTREAM_MAVEN_URL", f"http://127.0.0.1:{draw_free_port()}")
    monkeypatch.setattr("meterstream_infra.jars._BACKOFF_SECONDS", 0)

    with pytest.raises(JarsUnavailable, match="METERSTREAM_MAVEN_URL") as refusal:
        kafka_class_path(cache=tmp_path)

    assert refusal.value.coordinates in {jar.coordinates for jar in pinned}
    assert refusal.value.cache == tmp_path
    assert "\n" not in str(refusal.value)


def test_missing_jar_keeps_what_arrived(mirror: Mirror, pinned: list[Jar], tmp_path: Path) -> None:
    """A later run fetches only what an earlier one could not get."""
    serve(mirror, pinned[:1])
    with pytest.raises(JarsUnavailable, match=r"org\.example:client:1\.0"):
        kafka_class_path(cache=tmp_path)
    serve(mirror, pinned)
    mirror.asked.clear()

    kafka_class_path(cache=tmp_path)

    assert [path for path in mirror.asked if path.endswith(".jar")] == [
        f"/{pinned[1].path.as_posix()}"
    ]


def test_altered_jar_never_reaches_the_class_path(
    mirror: Mirror, pinned: list[Jar], tmp_path: Path
) -> None:
    """A file with another hash than the pinned one is refused and not kept."""
    serve(mirror, pinned, content=b"something else")

    with pytest.raises(JarsUnavailable, match="SHA-256"):
        kafka_class_path(cache=tmp_path)

    assert list(tmp_path.rglob("*.jar")) == []


def test_cut_download_is_made_again(mirror: Mirror, pinned: list[Jar], tmp_path: Path) -> None:
    """A jar of which half arrived is asked for again, in the same run."""
    serve(mirror, pinned)
    mirror.cut_once = set(mirror.files)

    paths = kafka_class_path(cache=tmp_path)

    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert mirror.cut_once == set()


def test_damaged_cache_is_mended(mirror: Mirror, pinned: list[Jar], tmp_path: Path) -> None:
    """A jar that is gone from a complete cache is fetched again, and only that one."""
    serve(mirror, pinned)
    paths = kafka_class_path(cache=tmp_path)
    paths[1].unlink()
    mirror.asked.clear()

    kafka_class_path(cache=tmp_path)

    assert paths[1].read_bytes() == CONTENT
    assert not any("broker" in path for path in mirror.asked)


def test_cache_directory_is_chosen_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """METERSTREAM_CACHE places the jars; without it they lie in the user's cache."""
    monkeypatch.setenv("METERSTREAM_CACHE", str(tmp_path / "here"))
    assert cache_directory() == tmp_path / "here"

    monkeypatch.delenv("METERSTREAM_CACHE")
    monkeypatch.setattr("meterstream_infra.jars.sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_directory() == tmp_path / "cache" / "meterstream"


def test_pinned_jars_are_one_kafka() -> None:
    """The pinned class path holds each jar once, and one version of everything from Kafka."""
    pinned = pinned_jars()

    names = [(jar.group, jar.artifact) for jar in pinned]
    assert len(set(names)) == len(names)
    assert ("org.apache.kafka", "kafka_2.13") in names
    versions = {jar.version for jar in pinned if jar.group == "org.apache.kafka"}
    assert len(versions) == 1
    assert all(len(jar.sha256) == 64 for jar in pinned)
