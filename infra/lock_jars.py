"""Writes kafka.jars: every jar of the broker with its SHA-256, as jgo resolves them.

Part of `make lock`. Downloads all of them afresh, so that the hashes are those of the registry and
not of a cache.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from jgo.maven import MavenContext

# The broker, and what makes it write its log through the logging library it brings along.
ENDPOINTS: Final = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)
LOCK: Final = Path(__file__).parent / "meterstream_infra" / "kafka.jars"


def main() -> None:
    """Resolve, fetch, hash, write."""
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=60)
        lines: dict[str, str] = {}
        # One by one: resolved together, log4j's own wishes would choose the version of Kafka's
        # client. Where two of them bring the same jar, the broker's choice stands.
        for endpoint in ENDPOINTS:
            wanted, brought = context.resolver.resolve([context.create_dependency(endpoint)])
            runtime = [dependency for dependency in brought if dependency.scope != "test"]
            for artifact in [dependency.artifact for dependency in (*wanted, *runtime)]:
                name = f"{artifact.groupId}:{artifact.artifactId}"
                if name not in lines:
                    digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
                    lines[name] = f"{name}:{artifact.version} {digest}"
    header = "# Written by make lock: group:artifact:version SHA-256, in class path order."
    LOCK.write_text("\n".join([header, *lines.values(), ""]), "utf-8")


if __name__ == "__main__":
    main()
